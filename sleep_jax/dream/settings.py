"""Settings of dreaming nights and of the adapters that they train.

References: 2606.03979 v2 section 3.4 (Dreaming); docs/method.md, "Dreaming".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.model import lora
from sleep_jax.schedule import events

GRADIENT, NORM, RANDOM = 'gradient', 'norm', 'random'
BASE, CURRENT = 'base', 'current'
LIKELIHOOD, GREEDY = 'likelihood', 'greedy'
_ALLOWED = {
  'order': (events.AFTER, events.BEFORE),
  'importance': (GRADIENT, NORM, RANDOM),
  'start': (BASE, CURRENT),
  'score': (LIKELIHOOD, GREEDY),
}


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Settings of a low-rank adapter and of its training.

  Attributes:
    rank, alpha: as in 2106.09685; the adapter's product is scaled by
      alpha / rank.
    targets: names of the adapted matrices, see `lora.TARGETS`.
    steps: number of optimizer steps.
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
    """Factor on the product of the adapter's two matrices."""
    return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a dreaming night.

  Attributes:
    on: whether nights dream.
    order: whether dreams come 'after' or 'before' consolidation.
    rounds: number of rounds of writing, trying and training the writer.
    start: adapter that the writer's training starts from in each round: an
      untrained one ('base'), or the last round's ('current').
    candidates: dreams written per round.
    texts: texts per dream, all about one document.
    temperature: of sampling; 0 takes the most likely tokens.
    whole: whether a text has to end with EOS; else a cut text counts as well.
    novelty: whether the gate of one random active expert is forced open while
      a text is written.
    importance: of a dream: dot product of its gradient with that of the
      practice questions ('gradient'), its gradient's 'norm', or a 'random'
      number.
    top, random: number of dreams tried per round: the most important ones, and
      random ones among the others.
    repeats: trials of each dream, from different initial adapters.
    score: practice score of a trial: mean log-'likelihood' of the answers, or
      the share of right 'greedy' answers.
    margin: a dream is rewarded if its gain is strictly above this.
    trial, writer: adapters of the trials and of the writer.
    old: rows per seeding update that rehearse 'old' prompts, by the night's
      own teacher.
    template_share: share of those prompts that use the templates of dreams.
    sequences: rows per seeding update from rewarded dreams.
    reading: rows per seeding update that the student reads with the document,
      so that it learns to write like the writer; 0 turns this off.
    num_updates, updates_per_round: of the seeding.
    learning_rate: peak learning rate of the newest expert in the seeding.
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
  def num_tried(self) -> int:
    """Number of dreams that are tried in a round."""
    return self.top + self.random

  @property
  def num_tried_texts(self) -> int:
    """Number of texts of all dreams that are tried in a night."""
    return self.rounds * self.num_tried * self.texts

  def count_tokens(self, length: int, document: int) -> int:
    """Returns the tokens that importance, trials and writer read in a night.

    Padding is included.

    Args:
      length: of a text, in tokens.
      document: length of a document, in tokens.
    """
    scored = self.candidates * self.texts * length
    tried = self.num_tried * self.repeats * self.trial.steps * length
    tried *= min(self.trial.batch, self.texts)
    trained = self.writer.steps * self.writer.batch * (length + document)
    return self.rounds * (scored + tried + trained)


def optimizer_settings(
  dreams: Settings, expert: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the settings of the newest expert's optimizer in the seeding.

  Args:
    dreams: give the peak learning rate and the length of the cosine.
    expert: settings of an expert's optimizer, `config.expert_optimizer`.
  """
  return {
    **expert,
    'learning_rate': dreams.learning_rate,
    'decay_steps': dreams.num_updates,
  }


def make(
  trial: Mapping[str, Any], writer: Mapping[str, Any], **fields: Any
) -> Settings:
  """Checks that the fields of `config.dream` fit together; returns `Settings`.

  The range of each field alone is in `config.ranges`.

  Raises:
    ConfigError: a field has a value that is not allowed; names the field, its
      value and what is expected.
  """
  made = Settings(
    trial=make_adapter(trial, 'dream.trial'),
    writer=make_adapter(writer, 'dream.writer'),
    **fields,
  )
  for name, allowed in _ALLOWED.items():
    if getattr(made, name) not in allowed:
      raise errors.ConfigError(
        f'config.dream.{name} is {getattr(made, name)!r}: expected one of '
        f'{allowed}.'
      )
  if not 1 <= made.num_tried <= made.candidates:
    raise errors.ConfigError(
      f'config.dream.top {made.top} and dream.random {made.random} select '
      f'{made.num_tried} of dream.candidates {made.candidates} dreams: '
      f'expected 1 to {made.candidates}.'
    )
  if made.num_updates % made.updates_per_round:
    raise errors.ConfigError(
      f'config.dream.num_updates {made.num_updates} is not a multiple of '
      f'dream.updates_per_round {made.updates_per_round}: change one of them.'
    )
  return made


def make_adapter(fields: Mapping[str, Any], section: str) -> Adapter:
  """Validates the settings of an adapter and returns them as `Adapter`.

  Args:
    fields: see `Adapter`.
    section: path of the settings in the config, for errors.

  Raises:
    ConfigError: a field has a value that is not allowed; names the field, its
      value and what is expected.
  """
  made = Adapter(**{**fields, 'targets': tuple(fields['targets'])})
  lora.check_targets(made.targets, section)
  return made
