"""How a night dreams: how much is written, tried, kept, and learned from it.

References: 2606.03979 v2 section 3.4 (Dreaming); docs/method.md, "Dreaming".
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from sleep_jax.model import lora
from sleep_jax.schedule import events

GRADIENT, NORM, RANDOM = 'gradient', 'norm', 'random'
BASE, CURRENT = 'base', 'current'
LIKELIHOOD, GREEDY = 'likelihood', 'greedy'
_WORDS = {
  'order': (events.AFTER, events.BEFORE),
  'importance': (GRADIENT, NORM, RANDOM),
  'start': (BASE, CURRENT),
  'score': (LIKELIHOOD, GREEDY),
}
_LEAST = dict(
  rounds=1, candidates=1, texts=1, temperature=0.0, top=0, random=0, repeats=1,
  margin=0.0, old=1, template_share=0.0, sequences=1, reading=0, num_updates=1,
  updates_per_round=1,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Adapter:
  """A low-rank copy that is trained apart.

  Attributes:
    rank, alpha: of 2106.09685; what it adds is scaled by alpha / rank.
    targets: matrices it stands beside, see `lora.TARGETS`.
    steps: optimizer steps.
    batch: texts per step.
    learning_rate: of Adam, constant.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...]
  steps: int
  batch: int
  learning_rate: float

  @property
  def scale(self) -> float:
    return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a night dreams.

  Attributes:
    on: whether it does.
    order: 'after' consolidation, or 'before' it.
    rounds: of writing, trying and learning to write.
    start: where the writer starts a round: as the model itself ('base'), or
      as the last round left it ('current').
    candidates: dreams written in a round.
    texts: of each dream, all on one document.
    temperature: that texts are sampled at; 0: the likeliest words.
    whole: whether a text must come to its end; else it counts as far as it
      goes.
    novelty: whether one random expert stands wide open while a text is written.
    importance: of a dream: its gradient's product with that of the task
      ('gradient'), its gradient's 'norm', or a 'random' number.
    top, random: dreams kept for a trial: the most important, and of the others.
    repeats: trials of each, from other adapters.
    score: how a trial is judged on the practice: by mean 'likelihood' of the
      answers, or by 'greedy' rightness.
    margin: gain that a reward asks for; always strictly more.
    trial, writer: adapters of the trials, and of who learns to write.
    old: rows per seeding update that the night's own teacher of 'old' prompts
      wrote,
    template_share: of those prompts, the share that is asked as dreams are.
    sequences: rows of rewarded dreams.
    reading: likewise, rows that the student reads with the document, so that
      it learns to write as the writer does; 0: none.
    num_updates, updates_per_round: of the seeding that keeps the gain.
    learning_rate: of the newest expert in it, at its peak.
  """

  on: bool
  order: str
  rounds: int
  start: str
  candidates: int
  texts: int
  temperature: float
  whole: bool
  novelty: bool
  importance: str
  top: int
  random: int
  repeats: int
  score: str
  margin: float
  trial: Adapter
  writer: Adapter
  old: int
  template_share: float
  sequences: int
  reading: int
  num_updates: int
  updates_per_round: int
  learning_rate: float

  @property
  def kept(self) -> int:
    """Dreams that are tried in a round."""
    return self.top + self.random

  @property
  def rows(self) -> int:
    """Texts of all dreams that are tried in a night."""
    return self.rounds * self.kept * self.texts

  def tokens(self, length: int, document: int) -> int:
    """Read by a night's trials and its writer, padding included.

    Args:
      length: of a text, and of a document, in tokens.
    """
    weighed = self.candidates * self.texts * length
    tried = self.kept * self.repeats * self.trial.steps * length
    tried *= min(self.trial.batch, self.texts)
    learned = self.writer.steps * self.writer.batch * (length + document)
    return self.rounds * (weighed + tried + learned)


def optimizer(dreams: Settings, expert: Mapping[str, Any]) -> dict[str, Any]:
  """The newest expert's own, with another peak; its cosine ends the night."""
  return {
    **expert,
    'learning_rate': dreams.learning_rate,
    'decay_steps': dreams.num_updates,
  }


def make(
  trial: Mapping[str, Any], writer: Mapping[str, Any], **fields: Any
) -> Settings:
  """Checks and freezes the settings.

  Raises:
    ValueError: names the field, what it is and what it may be.
  """
  made = Settings(
    trial=adapter(trial, 'dream.trial'), writer=adapter(writer, 'dream.writer'),
    **fields,
  )  # fmt: skip
  for name, known in _WORDS.items():
    if getattr(made, name) not in known:
      raise ValueError(
        f'dream.{name} is {getattr(made, name)!r}: expected one of {known}.'
      )
  for name, least in _LEAST.items():
    _at_least(f'dream.{name}', getattr(made, name), least)
  if made.template_share > 1:
    raise ValueError(
      f'dream.template_share is {made.template_share}: expected a share, 0 to '
      f'1.'
    )
  if not 1 <= made.kept <= made.candidates:
    raise ValueError(
      f'dream.top {made.top} and dream.random {made.random} keep {made.kept} '
      f'of dream.candidates {made.candidates}: expected 1 to all of them.'
    )
  if made.num_updates % made.updates_per_round:
    raise ValueError(
      f'dream.num_updates {made.num_updates} is not a multiple of '
      f'dream.updates_per_round {made.updates_per_round}.'
    )
  return made


def adapter(fields: Mapping[str, Any], place: str) -> Adapter:
  """Checks and freezes the settings of an adapter.

  Args:
    place: where they stand in the config.

  Raises:
    ValueError: names the field, what it is and what it may be.
  """
  made = Adapter(**{**fields, 'targets': tuple(fields['targets'])})
  for field in ('rank', 'steps', 'batch'):
    _at_least(f'{place}.{field}', getattr(made, field), 1)
  unknown = set(made.targets) - set(lora.TARGETS)
  if unknown or not made.targets:
    raise ValueError(
      f'{place}.targets is {made.targets}: expected some of {lora.TARGETS}.'
    )
  return made


def _at_least(name: str, value: float, least: float) -> None:
  if not least <= value < math.inf:
    raise ValueError(f'{name} is {value}: expected {least} or more.')
