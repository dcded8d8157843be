"""Builds the settings of a night and checks that they fit together.

Every error names the config fields and what is expected of them. The range of
each field alone is in `config.ranges`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.optim import gradient_accumulation
from sleep_jax.sleep import settings as settings_lib


def make_settings(
  teachers: Sequence[Mapping[str, Any]],
  imitation: Mapping[str, Any],
  adaptive: Mapping[str, Any] | None = None,
  **fields: Any,
) -> settings_lib.Settings:
  """Returns the checked settings of a night.

  Args:
    teachers: fields of `settings.Teacher`, one mapping for each.
    imitation: fields of `settings.Imitation`.
    adaptive: fields of `settings.Adaptive`; None if the length is fixed.
    **fields: the other fields of `settings.Settings`.

  Raises:
    ConfigError: a value is not allowed, or two contradict each other.
  """
  made = settings_lib.Settings(
    teachers=tuple(settings_lib.Teacher(**t) for t in teachers),
    imitation=settings_lib.Imitation(**imitation),
    adaptive=_adaptive(adaptive),
    **fields,
  )
  for teacher in made.teachers:
    for value, known in (
      (teacher.teacher, settings_lib.TEACHERS),
      (teacher.prompts, settings_lib.PROMPTS),
    ):
      if value not in known:
        raise errors.ConfigError(
          f'config.consolidate.teachers has {value!r}: expected one of {known}.'
        )
    if teacher.reads and teacher.prompts != 'day':
      raise errors.ConfigError(
        f"config.consolidate.teachers has 'context' on {teacher.prompts!r} "
        'prompts, but documents are only kept for a day. Set its prompts to '
        "'day'."
      )
    if teacher.skip_repeated and teacher.prompts != 'old':
      raise errors.ConfigError(
        f'config.consolidate.teachers has skip_repeated on {teacher.prompts!r} '
        'prompts, but it leaves out old prompts that the day repeats. Set it '
        'to False.'
      )
    check_first(made, teacher, 'config.consolidate.teachers')
  if made.on_policy and not all(t.writes for t in made.teachers):
    raise errors.ConfigError(
      f'config.consolidate.on_policy is {made.on_policy}, but own_texts have '
      'no prompts that the student could continue: set it to 0.'
    )
  if not made.teachers:
    raise errors.ConfigError(
      'config.consolidate.teachers is empty: expected one teacher or more.'
    )
  names = [teacher.name for teacher in made.teachers]
  if len(set(names)) < len(names):
    raise errors.ConfigError(
      f'config.consolidate.teachers lists {names}: give each pair of teacher '
      'and prompts once, with more sequences.'
    )
  if made.num_updates % made.updates_per_round:
    raise errors.ConfigError(
      f'config.consolidate.num_updates {made.num_updates} is not a multiple of '
      f'config.consolidate.updates_per_round {made.updates_per_round}.'
    )
  if made.adaptive and made.adaptive.min_updates > made.num_updates:
    raise errors.ConfigError(
      'config.consolidate.adaptive.min_updates is '
      f'{made.adaptive.min_updates}, but num_updates, the largest length of a '
      f'night, is {made.num_updates}: lower one or raise the other.'
    )
  for name, allowed in (
    ('sender_after_sleep', (settings_lib.CLEARED, settings_lib.UPDATED)),
    ('into', (settings_lib.EXPERT, settings_lib.BASE)),
    ('start', (settings_lib.RANDOM, settings_lib.SENDER)),
    ('full', (settings_lib.ERROR, settings_lib.MERGE, settings_lib.ABSORB)),
  ):  # fmt: skip
    if getattr(made, name) not in allowed:
      raise errors.ConfigError(
        f'config.consolidate.{name} is {getattr(made, name)!r}: expected one '
        f'of {allowed}.'
      )
  if made.into == settings_lib.BASE and made.full != settings_lib.ERROR:
    raise errors.ConfigError(
      f"config.consolidate.into is 'base' and consolidate.full is "
      f'{made.full!r}, but without experts no bank fills up. Set full to '
      "'error'."
    )
  _check_lengths(made)
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


def _adaptive(fields: Mapping[str, Any] | None) -> settings_lib.Adaptive | None:
  """Returns when a night ends by itself, or None if it does not."""
  made = settings_lib.Adaptive(**fields) if fields else None
  return made if made and made.on else None


def check_first(
  night: settings_lib.Settings, teacher: settings_lib.Teacher, place: str
) -> None:
  """Checks that the initial model teaches its own texts, and nothing else.

  Args:
    night: settings of a night, which give the width of the texts.
    teacher: of that night, or of the KL penalty.
    place: of the teacher in the config.

  Raises:
    ConfigError: only one of the two is set, or the texts are shorter than the
      teacher's sequences.
  """
  if (teacher.teacher == 'first') == teacher.writes:
    raise errors.ConfigError(
      f'{place} has teacher={teacher.teacher!r} on prompts='
      f"{teacher.prompts!r}: the initial model, 'first', is only known by the "
      "texts that it wrote, 'own_texts'. Set both or neither."
    )
  own, width = night.of_teacher(teacher), night.max_length
  if not teacher.writes and not own.max_new < width >= own.max_length:
    raise errors.ConfigError(
      f'{place} has max_length {own.max_length} and max_new {own.max_new} for '
      f'own_texts, which have consolidate.max_length={width} tokens: expected '
      f'max_length={width} and max_new={width - 1}, or less.'
    )


def _check_lengths(settings: settings_lib.Settings) -> None:
  for number, teacher in enumerate(settings.teachers):
    place = f'config.consolidate.teachers[{number}]'
    own = settings.of_teacher(teacher)
    if own.max_length > settings.max_length:
      raise errors.ConfigError(
        f'{place}.max_length is {own.max_length}, but consolidate.max_length '
        f'is {settings.max_length}: raise that, or lower this.'
      )
    if settings.imitation.on and own != settings:
      raise errors.ConfigError(
        f'{place} has lengths of its own, but config.consolidate.imitation '
        'compares completions of all teachers in one batch: set max_length and '
        'max_new to 0, or imitation.alpha to 1.'
      )


def _check_imitation(settings: settings_lib.Settings) -> None:
  imitation, place = settings.imitation, 'config.consolidate.imitation'
  if not imitation.on:
    return
  if not settings.temperature:
    raise errors.ConfigError(
      f'config.consolidate.temperature is 0, but {place} compares several '
      'completions of one text, which would all be equal: set it above 0, or '
      'alpha to 1.'
    )
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
