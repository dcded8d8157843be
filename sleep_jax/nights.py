"""Nights: what a config asks for, of each kind, by sender."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import optax

from sleep_jax import optimizer, schedule, sharding, types
from sleep_jax.model import transformer
from sleep_jax.objectives import judges
from sleep_jax.phases import (
  consolidate,
  curriculum,
  dreaming,
  merge,
  self_edit,
  tether,
  trials,
)
from sleep_jax.phases import dreams as dreams_lib
from sleep_jax.phases import night as night_lib

Nights = Mapping[int, consolidate.Consolidation]


@dataclasses.dataclass(frozen=True)
class Builder:
  """What nights of all kinds share.

  Attributes:
    stems, judge: see `Seeding`.
    night: settings of those that consolidate.
  """

  config: ml_collections.ConfigDict
  model: transformer.Transformer
  placement: sharding.Placement
  stems: types.Stems
  bos: int
  eos: int
  judge: judges.Judge
  night: night_lib.Settings

  def consolidations(
    self, txs: Mapping[str, optax.GradientTransformation]
  ) -> dict[int, consolidate.Consolidation]:
    """One for each level that sleeps.

    Args:
      txs: optimizers awake, by owner.

    Raises:
      ValueError: a night would go into a base that moves awake.
    """
    levels = self.model.config.levels
    senders = schedule.sleepers(levels)
    if self.night.into == night_lib.BASE:
      _check_base(senders, len(levels))
    return {
      sender: consolidate.Consolidation(
        self.model, self._tx(), self.stems, self.bos, self.eos, self.judge,
        self.night, sender, txs[str(sender)] if sender else None,
      )
      for sender in senders
    }  # fmt: skip

  def edit(
    self, dreams: dreams_lib.Settings, learning_rate: float | None
  ) -> self_edit.SelfEdit:
    """Of a model that edits itself.

    Args:
      learning_rate: in place of the config's.
    """
    adapter = self.config.self_edit.to_dict()
    if learning_rate is not None:
      adapter['learning_rate'] = learning_rate
    return self_edit.SelfEdit(
      self.curriculum(dreams), dreams_lib.adapter(adapter, 'self_edit')
    )

  def merges(
    self, nights: Nights, settings: night_lib.Settings
  ) -> dict[int, merge.Merge]:
    """One for each receiver that has two slots or more."""
    return {
      sender: merge.Merge(
        self.model, self._tx(), self.stems, self.bos, self.eos, self.judge,
        settings, own,
      )
      for sender, own in nights.items()
      if self.model.config.levels[sender].slots > 1
    }  # fmt: skip

  def dreamings(
    self,
    nights: Nights,
    dreams: dreams_lib.Settings,
    settings: night_lib.Settings,
    task: types.Task,
  ) -> dict[int, dreaming.Dreaming]:
    """One for each sender.

    Args:
      settings: of the seeding that keeps the gain.
      task: any, for its shapes.
    """
    c = self.config
    tx = optimizer.make(**dreams_lib.optimizer(dreams, c.expert_optimizer))
    return {
      sender: dreaming.Dreaming(
        self.model, tx, self.stems, self.bos, self.eos, self.judge, settings,
        own, self.curriculum(dreams),
        task.prompts.context.tokens_BT.shape[1],
      )
      for sender, own in nights.items()
    }  # fmt: skip

  def curriculum(self, dreams: dreams_lib.Settings) -> curriculum.Curriculum:
    """How any task is dreamt about."""
    place = self.placement
    spread = trials.Spread(
      self._together(dreams), place.spread, place.alone, place.rows
    )
    return curriculum.Curriculum(
      self.model, self.bos, self.eos, self.night, dreams, spread
    )

  def tether(self, nights: Nights) -> tether.Tether | None:
    """What holds the fastest level's day, if anything does.

    Raises:
      ValueError: its settings, or that level never sleeps.
    """
    settings = self.config.wake.tether.to_dict()
    weight = settings.pop('weight')
    author = night_lib.Teacher('anchor', 'old', **settings)
    night_lib.check_teacher(author, 'wake.tether')
    if not weight >= 0:
      raise ValueError(f'wake.tether.weight is {weight}: expected 0 or more.')
    if not weight:
      return None
    if 1 not in nights:
      raise ValueError(
        f'config.wake.tether.weight is {weight}, but the fastest '
        'level never sleeps, so that there is no waking to hold it to: give '
        'levels[0] a sleep_period, or set the weight to 0.'
      )
    return tether.Tether(nights[1], weight, author)

  def _tx(self) -> optax.GradientTransformation:
    # The cosine ends with the night, unless the config says otherwise.
    whole: dict[str, Any] = {'decay_steps': self.night.num_updates}
    return optimizer.make(**(whole | dict(self.config.expert_optimizer)))

  def _together(self, dreams: dreams_lib.Settings) -> int:
    """How many trials are made at once.

    One for each device, so that its work stays in the cache of a CPU
    (`benchmarks/trials.py`) and in the memory of one of many chips; all of
    them where an accelerator is alone.
    """
    num, rows = dreams.kept * dreams.repeats, self.placement.rows
    alone = rows == 1 and jax.default_backend() != 'cpu'
    return num if alone or num % rows else rows


def dreamt_about(task: types.Task | None, config) -> types.Task:
  """The task, if there is one and nights can dream about it.

  Raises:
    ValueError: there is nothing to dream about, or what there is does not fit
      what nights read and write.
  """
  if task is None:
    raise ValueError(
      f'The world {config.data.world!r} as it is set has nothing to dream '
      'about: no documents with practice questions. Of facts, set '
      'data.settings.readings and .practice; of passages, .practice; or do '
      "without config.dream.on and the strategy 'seal'."
    )
  if task.choices is not None:
    lessons = task.choices.lessons
    told = max(
      int((lessons.length_B - lessons.prompt_length_B).max()),
      int(task.choices.length_C.max()),
    )
    for name, found, expected, fits in (
      ('dream.texts', config.dream.texts, '1, a dream is one choice',
       config.dream.texts == 1),
      ('consolidate.max_length', config.consolidate.max_length,
       f'data.context, {lessons.tokens_BT.shape[1]}',
       config.consolidate.max_length == lessons.tokens_BT.shape[1]),
      ('consolidate.max_new', config.consolidate.max_new,
       f'{told} or more, the longest that is learned or chosen',
       config.consolidate.max_new >= told),
    ):  # fmt: skip
      if not fits:
        raise ValueError(
          f'config.{name} is {found}, but the dreams of this world are choices '
          f'of how to learn from lessons: expected {expected}.'
        )
  return task


def document(config) -> int:
  """Tokens of a document that a teacher will read: a whole row."""
  if config.data.pack:
    raise ValueError(
      "consolidate.teachers has 'context', which reads whole rows, but "
      'data.pack puts several texts into one: set data.pack to False.'
    )
  if config.replay.store == 'none':
    raise ValueError(
      "consolidate.teachers has 'context', but replay.store is 'none': the "
      "documents of a day are kept in its band. Set replay.store to 'prompts'."
    )
  if not config.replay.day:
    raise ValueError(
      "consolidate.teachers has 'context', but replay.day is 0: set it to as "
      'many documents as a day brings, or more.'
    )
  return config.data.context


def _check_base(senders, num_levels: int) -> None:
  """A receiver's base may take a night only where it has no day of its own."""
  for sender in senders:
    if sender + 1 != num_levels:
      raise ValueError(
        f"consolidate.into is 'base', but level {sender} sleeps into level "
        f'{sender + 1}, whose base moves awake and returns to its anchor: only '
        "the slowest level can take a night in. Set into to 'expert'."
      )
