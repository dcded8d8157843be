"""Builds the settings of a night from a config and checks their values.

Every error names the config field, its value and the values it may have.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.optim import gradient_accumulation
from sleep_jax.sleep import settings as settings_lib


def make_settings(
  teachers: Sequence[Mapping[str, Any]],
  imitation: Mapping[str, Any],
  **fields: Any,
) -> settings_lib.Settings:
  """Returns the checked settings of a night.

  Args:
    teachers: fields of `settings.Teacher`, one mapping for each.
    imitation: fields of `settings.Imitation`.
    **fields: the other fields of `settings.Settings`.

  Raises:
    ConfigError: a value is not allowed, or two contradict each other.
  """
  made = settings_lib.Settings(
    teachers=tuple(settings_lib.Teacher(**t) for t in teachers),
    imitation=settings_lib.Imitation(**imitation),
    **fields,
  )
  for teacher in made.teachers:
    for value, allowed in (
      (teacher.teacher, settings_lib.TEACHERS),
      (teacher.prompts, settings_lib.PROMPTS),
    ):
      if value not in allowed:
        raise errors.ConfigError(
          f'consolidate.teachers has {value!r}: expected one of {allowed}.'
        )
    check_teacher(teacher, 'consolidate.teachers')
    if teacher.reads and teacher.prompts != 'day':
      raise errors.ConfigError(
        "consolidate.teachers has 'context' on 'old' prompts, but documents "
        "are only kept for a day. Set its prompts to 'day'."
      )
  if not made.teachers:
    raise errors.ConfigError(
      'consolidate.teachers is empty: expected one teacher or more.'
    )
  names = [teacher.name for teacher in made.teachers]
  if len(set(names)) < len(names):
    raise errors.ConfigError(
      f'consolidate.teachers lists {names}: give each pair of teacher and '
      'prompts once, with more sequences.'
    )
  if made.num_updates % made.updates_per_round:
    raise errors.ConfigError(
      f'consolidate.num_updates {made.num_updates} is not a multiple of '
      f'consolidate.updates_per_round {made.updates_per_round}.'
    )
  for name, allowed in (
    ('sender_after_sleep', (settings_lib.CLEARED, settings_lib.UPDATED)),
    ('into', (settings_lib.EXPERT, settings_lib.BASE)),
    ('full', (settings_lib.ERROR, settings_lib.MERGE)),
  ):  # fmt: skip
    if getattr(made, name) not in allowed:
      raise errors.ConfigError(
        f'consolidate.{name} is {getattr(made, name)!r}: expected one of '
        f'{allowed}.'
      )
  if made.into == settings_lib.BASE and made.full == settings_lib.MERGE:
    raise errors.ConfigError(
      "consolidate.into is 'base' and consolidate.full is 'merge', but "
      "without experts no bank fills up. Set full to 'error'."
    )
  if not made.priority >= 0:
    raise errors.ConfigError(
      f'consolidate.priority is {made.priority}: expected 0 (uniform) or more.'
    )
  if not 0 < made.average_decay < 1:
    raise errors.ConfigError(
      f'consolidate.average_decay is {made.average_decay}: expected a number '
      'between 0 and 1, both excluded.'
    )
  if not 0 <= made.on_policy < 1:
    raise errors.ConfigError(
      f'consolidate.on_policy is {made.on_policy}: expected 0 or more and '
      'less than 1.'
    )
  if not 0 <= made.beta <= 1:
    raise errors.ConfigError(
      f'consolidate.beta is {made.beta}: expected 0 (KL(teacher || student)) '
      'to 1 (KL(student || teacher)).'
    )
  for name in ('block_tokens', 'block_vocab'):
    if getattr(made, name) < 1:
      raise errors.ConfigError(
        f'consolidate.{name} is {getattr(made, name)}: expected 1 or more.'
      )
  _check_imitation(made)
  m = made.imitation
  rows = {
    f'consolidate.teachers ({t.name})': t.sequences for t in made.teachers
  }
  if m.on:
    completions = len(made.teachers) * m.cuts * m.completions
    rows['consolidate.imitation (per update)'] = completions
  gradient_accumulation.check_divisible(
    made.micro_batches, rows, 'consolidate.micro_batches'
  )
  return made


def check_teacher(teacher: settings_lib.Teacher, place: str) -> None:
  """Checks the numbers of a teacher.

  Args:
    teacher: to check.
    place: config field that holds it, for the error.

  Raises:
    ConfigError: a number is out of range.
  """
  for name, least, most in (
    ('sequences', 1, math.inf), ('draws', 1, math.inf), ('bos_share', 0, 1),
    ('pretrain_share', -1, 1), ('splice_share', 0, 1), ('cut_share', 0, 1),
    ('template_share', 0, 1),
  ):  # fmt: skip
    value = getattr(teacher, name)
    if not least <= value <= most:
      expected = '1 or more' if most == math.inf else f'0 to {most}'
      raise errors.ConfigError(
        f'{place}: {name} is {value}: expected {expected}.'
      )


def _check_imitation(settings: settings_lib.Settings) -> None:
  imitation, place = settings.imitation, 'consolidate.imitation'
  for name in ('alpha', 'gamma', 'threshold'):
    value = getattr(imitation, name)
    if not 0 <= value <= 1:
      raise errors.ConfigError(f'{place}.{name} is {value}: expected 0 to 1.')
  for name in ('stop_likelihood', 'stop_repetition'):
    value = getattr(imitation, name)
    if not value >= 0:
      raise errors.ConfigError(
        f'{place}.{name} is {value}: expected 0 or more.'
      )
  if not imitation.on:
    return
  if imitation.completions < 2:
    raise errors.ConfigError(
      f'{place}.completions is {imitation.completions}: expected 2 or '
      'more, because the advantage of a single completion is always 0.'
    )
  needed = imitation.cuts * settings.updates_per_round
  for teacher in settings.teachers:
    if not 0 < needed <= teacher.draws:
      raise errors.ConfigError(
        f'{place}.cuts is {imitation.cuts}: with {settings.updates_per_round} '
        f'updates per round it needs {needed} sequences a round, but '
        f'{teacher.name} writes {teacher.draws} (draws). Expected 1 cut or '
        'more, and as many draws as cuts times updates_per_round.'
      )
