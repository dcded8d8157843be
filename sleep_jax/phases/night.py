"""How a night is spent: who teaches, on which prompts, how much of what.

References: 2606.03979 v2 section 3.3; docs/method.md, "Whose knowledge".
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.phases import micro

TEACHERS = ('anchor', 'next', 'now', 'average', 'context')
PROMPTS = ('old', 'day')
CLEARED, UPDATED = 'cleared', 'updated'
EXPERT, BASE = 'expert', 'base'
ERROR, MERGE = 'error', 'merge'


@dataclasses.dataclass(frozen=True)
class Teacher:
  """Whose sequences are rehearsed, and on which prompts.

  Attributes:
    teacher: 'anchor' (the sender as it woke), 'next' (after the due update),
      'now' (before it; the literal teacher of v2), 'average' (the running mean
      of the sender over its day) or 'context' (as 'now', but with the document
      in its prompt, which the student has not).
    prompts: 'old' (from before the sender's day) or 'day'.
    sequences: rows per update that this teacher owns.
    draws: sequences it writes per round.
    bos_share, birth_share, splice_share, cut_share, stem_share: of its
      prompts, see `replay.draw`.
  """

  teacher: str
  prompts: str
  sequences: int
  draws: int
  bos_share: float = 0.0
  birth_share: float = -1.0
  splice_share: float = 0.0
  cut_share: float = 0.0
  stem_share: float = 0.0

  @property
  def name(self) -> str:
    return f'{self.teacher}_{self.prompts}'

  @property
  def reads(self) -> bool:
    """Whether it has the document in its prompt."""
    return self.teacher == 'context'


@dataclasses.dataclass(frozen=True)
class Imitation:
  """How much the student is rewarded for going on as a teacher did.

  Attributes:
    alpha: weight of distillation; the reward's is 1 - alpha. 1: no imitation.
    gamma: weight of the judge in the reward; closeness has 1 - gamma.
    threshold: edit distance that still counts as close, as a share of the
      longer text.
    cuts: sequences of each pair that are cut for an update.
    completions: by the student, of each of them (a group).
    judge: of what is meant, see `judges.make`.
    stop_likelihood: nats per token that the teachers' likelihood of the
      student's endings may fall during a night; more ends it.
    stop_repetition: share of themselves that the student's endings may repeat
      beyond what the teachers' do; more ends the night.
  """

  alpha: float
  gamma: float
  threshold: float
  cuts: int
  completions: int
  judge: str
  stop_likelihood: float
  stop_repetition: float

  @property
  def on(self) -> bool:
    return self.alpha < 1


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a night is spent.

  Attributes:
    teachers: see `Teacher`.
    num_updates: of the fresh expert.
    micro_batches: in which an update reads its rows, see `micro`.
    updates_per_round: between two refreshments of the pools.
    priority: a sequence is drawn for an update as the power of its last
      divergence that this is; 0: all alike.
    sender_after_sleep: 'cleared' (back to its anchor) or 'updated'.
    into: what is trained: a fresh 'expert', or the receiver's own 'base' (no
      expansion).
    full: what a full bank does: 'error' (refused before the run), or 'merge'
      two of its experts.
    average_decay: of the teacher 'average', per wake step.
    on_policy: share of rows that the student wrote (lambda of GKD).
    on_policy_after: share of the night before the student writes.
    beta: of the divergence; 0 is KL(teacher || student).
    temperature: of sampling; the divergence is taken at 1.
    max_length: of a rehearsal sequence, tokens.
    max_new: of what is written of it, tokens.
    prompt_width: longest prompt, tokens.
    block_tokens, block_words: most tokens, and of the vocabulary most words,
      whose logits the divergence holds at a time.
    imitation: see `Imitation`.
  """

  teachers: tuple[Teacher, ...]
  num_updates: int
  micro_batches: int
  updates_per_round: int
  priority: float
  sender_after_sleep: str
  into: str
  full: str
  average_decay: float
  on_policy: float
  on_policy_after: float
  beta: float
  temperature: float
  max_length: int
  max_new: int
  prompt_width: int
  block_tokens: int
  block_words: int
  imitation: Imitation

  @property
  def reads(self) -> bool:
    return any(teacher.reads for teacher in self.teachers)

  @property
  def averaged(self) -> bool:
    return any(teacher.teacher == 'average' for teacher in self.teachers)

  @property
  def rounds(self) -> int:
    return self.num_updates // self.updates_per_round

  @property
  def rows(self) -> int:
    """Sequences that one update reads."""
    m, pairs = self.imitation, len(self.teachers)
    endings = pairs * m.cuts * m.completions if m.on else 0
    return endings + sum(teacher.sequences for teacher in self.teachers)

  @property
  def tokens(self) -> int:
    """That one update reads, padding included."""
    return self.max_length * self.rows


def make(
  teachers: Sequence[Mapping[str, Any]],
  imitation: Mapping[str, Any],
  **fields: Any,
) -> Settings:
  """Checks and freezes the settings of a night.

  Raises:
    ValueError: names the field, what it is and what it may be.
  """
  made = Settings(
    teachers=tuple(Teacher(**t) for t in teachers),
    imitation=Imitation(**imitation),
    **fields,
  )
  for teacher in made.teachers:
    for value, known in (
      (teacher.teacher, TEACHERS),
      (teacher.prompts, PROMPTS),
    ):
      if value not in known:
        raise ValueError(
          f'consolidate.teachers has {value!r}: expected one of {known}.'
        )
    check_teacher(teacher, 'consolidate.teachers')
    if teacher.reads and teacher.prompts != 'day':
      raise ValueError(
        "consolidate.teachers has 'context' on 'old' prompts: documents are "
        "kept for a day. Set its prompts to 'day'."
      )
  if not made.teachers:
    raise ValueError('consolidate.teachers is empty: a night needs one.')
  names = [teacher.name for teacher in made.teachers]
  if len(set(names)) < len(names):
    raise ValueError(
      f'consolidate.teachers lists {names}: give each pair of teacher and '
      'prompts once, with more sequences.'
    )
  if made.num_updates % made.updates_per_round:
    raise ValueError(
      f'consolidate.num_updates {made.num_updates} is not a multiple of '
      f'consolidate.updates_per_round {made.updates_per_round}.'
    )
  for name, known in (
    ('sender_after_sleep', (CLEARED, UPDATED)), ('into', (EXPERT, BASE)),
    ('full', (ERROR, MERGE)),
  ):  # fmt: skip
    if getattr(made, name) not in known:
      raise ValueError(
        f'consolidate.{name} is {getattr(made, name)!r}: expected one of '
        f'{known}.'
      )
  if made.into == BASE and made.full == MERGE:
    raise ValueError(
      "consolidate.into is 'base' and consolidate.full 'merge': without "
      "experts no bank fills. Set full to 'error'."
    )
  if not made.priority >= 0:
    raise ValueError(
      f'consolidate.priority is {made.priority}: expected 0 (every sequence '
      'alike) or more.'
    )
  if not 0 < made.average_decay < 1:
    raise ValueError(
      f'consolidate.average_decay is {made.average_decay}: expected between 0 '
      'and 1.'
    )
  if not 0 <= made.on_policy < 1:
    raise ValueError(
      f'consolidate.on_policy is {made.on_policy}: expected 0 <= share < 1.'
    )
  if not 0 <= made.beta <= 1:
    raise ValueError(
      f'consolidate.beta is {made.beta}: expected 0 (KL(teacher || student)) '
      'to 1 (KL(student || teacher)).'
    )
  for name in ('block_tokens', 'block_words'):
    if getattr(made, name) < 1:
      raise ValueError(
        f'consolidate.{name} is {getattr(made, name)}: expected 1 or more.'
      )
  _check_imitation(made)
  m = made.imitation
  rows = {
    f'consolidate.teachers ({t.name})': t.sequences for t in made.teachers
  }
  if m.on:
    endings = len(made.teachers) * m.cuts * m.completions
    rows['consolidate.imitation (an update)'] = endings
  micro.check(made.micro_batches, rows, 'consolidate.micro_batches')
  return made


def blank(num: int, settings: Settings, *, document: int = 0) -> types.Rollout:
  """Room for sequences, `[num, max_length]`, behind documents or not."""
  context = None
  if document:
    context = types.Texts(
      tokens_BT=jnp.zeros((num, document), jnp.int32),
      length_B=jnp.ones((num,), jnp.int32),
    )
  return types.Rollout(
    tokens_BT=jnp.zeros((num, settings.max_length), jnp.int32),
    prompt_length_B=jnp.zeros((num,), jnp.int32),
    length_B=jnp.zeros((num,), jnp.int32),
    context=context,
  )


def check_teacher(teacher: Teacher, place: str) -> None:
  """Refuses numbers that cannot be; `place` is where they stand."""
  for name, least, most in (
    ('sequences', 1, math.inf), ('draws', 1, math.inf), ('bos_share', 0, 1),
    ('birth_share', -1, 1), ('splice_share', 0, 1), ('cut_share', 0, 1),
    ('stem_share', 0, 1),
  ):  # fmt: skip
    value = getattr(teacher, name)
    if not least <= value <= most:
      expected = '1 or more' if most == math.inf else f'0 to {most}'
      raise ValueError(f'{place}: {name} is {value}: expected {expected}.')


def _check_imitation(settings: Settings) -> None:
  imitation, place = settings.imitation, 'consolidate.imitation'
  for name in ('alpha', 'gamma', 'threshold'):
    value = getattr(imitation, name)
    if not 0 <= value <= 1:
      raise ValueError(f'{place}.{name} is {value}: expected 0 to 1.')
  for name in ('stop_likelihood', 'stop_repetition'):
    value = getattr(imitation, name)
    if not value >= 0:
      raise ValueError(f'{place}.{name} is {value}: expected 0 or more.')
  if not imitation.on:
    return
  if imitation.completions < 2:
    raise ValueError(
      f'{place}.completions is {imitation.completions}: a group needs 2 or '
      'more, or all get its mean and nothing is learned.'
    )
  needed = imitation.cuts * settings.updates_per_round
  for teacher in settings.teachers:
    if not 0 < needed <= teacher.draws:
      raise ValueError(
        f'{place}.cuts is {imitation.cuts}: in {settings.updates_per_round} '
        f'updates that makes {needed} sequences a round, of {teacher.draws} '
        f'(draws) that {teacher.name} writes. Expected 1 to '
        f'{teacher.draws // settings.updates_per_round}.'
      )
