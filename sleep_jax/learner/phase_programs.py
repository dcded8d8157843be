"""Nights: what a config asks for, of each kind, by sender."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import optax

from sleep_jax import types
from sleep_jax.dream import rounds, seeding, self_edit, trials
from sleep_jax.dream import settings as dream_settings
from sleep_jax.learner import checks
from sleep_jax.model import transformer
from sleep_jax.objectives import judges
from sleep_jax.optim import optimizer
from sleep_jax.runtime import sharding
from sleep_jax.schedule import events
from sleep_jax.sleep import consolidation, expert_merge, settings_checks
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.wake import kl_penalty

Nights = Mapping[int, consolidation.Consolidation]


@dataclasses.dataclass(frozen=True)
class PhasePrograms:
  """What nights of all kinds share.

  Attributes:
    stems, judge: see `Seeding`.
    night: settings of those that consolidate.
  """

  config: ml_collections.ConfigDict
  model: transformer.Transformer
  placement: sharding.Placement
  templates: types.PromptTemplates
  bos: int
  eos: int
  judge: judges.Judge
  night: sleep_settings.Settings

  def consolidations(
    self, txs: Mapping[str, optax.GradientTransformation]
  ) -> dict[int, consolidation.Consolidation]:
    """One for each level that sleeps.

    Args:
      txs: optimizers awake, by owner.

    Raises:
      ValueError: a night would go into a base that moves awake.
    """
    levels = self.model.config.levels
    senders = events.sleepers(levels)
    if self.night.into == sleep_settings.BASE:
      checks.check_base_receiver(senders, len(levels))
    return {
      sender: consolidation.Consolidation(
        self.model, self._tx(), self.templates, self.bos, self.eos, self.judge,
        self.night, sender, txs[str(sender)] if sender else None,
      )
      for sender in senders
    }  # fmt: skip

  def edit(
    self, dreams: dream_settings.Settings, learning_rate: float | None
  ) -> self_edit.SelfEdit:
    """Of a model that edits itself.

    Args:
      learning_rate: in place of the config's.
    """
    adapter = self.config.self_edit.to_dict()
    if learning_rate is not None:
      adapter['learning_rate'] = learning_rate
    return self_edit.SelfEdit(
      self.curriculum(dreams), dream_settings.make_adapter(adapter, 'self_edit')
    )

  def merges(
    self, nights: Nights, settings: sleep_settings.Settings
  ) -> dict[int, expert_merge.Merge]:
    """One for each receiver that has two slots or more."""
    return {
      sender: expert_merge.Merge(
        self.model, self._tx(), self.templates, self.bos, self.eos, self.judge,
        settings, own,
      )
      for sender, own in nights.items()
      if self.model.config.levels[sender].slots > 1
    }  # fmt: skip

  def dreamings(
    self,
    nights: Nights,
    dreams: dream_settings.Settings,
    settings: sleep_settings.Settings,
    task: types.Task,
  ) -> dict[int, seeding.Dreaming]:
    """One for each sender.

    Args:
      settings: of the seeding that keeps the gain.
      task: any, for its shapes.
    """
    c = self.config
    tx = optimizer.make(**dream_settings.optimizer_settings(dreams, c.expert_optimizer))
    return {
      sender: seeding.Dreaming(
        self.model,
        tx,
        self.templates,
        self.bos,
        self.eos,
        self.judge,
        settings,
        own,
        self.curriculum(dreams),
        task.prompts.context.tokens_BT.shape[1],
      )
      for sender, own in nights.items()
    }

  def curriculum(self, dreams: dream_settings.Settings) -> rounds.DreamRounds:
    """How any task is dreamt about."""
    place = self.placement
    spread = trials.TrialPlacement(
      self._together(dreams), place.shard_rows, place.replicate_states, place.num_row_shards
    )
    return rounds.DreamRounds(
      self.model, self.bos, self.eos, self.night, dreams, spread
    )

  def kl_penalty(self, nights: Nights) -> kl_penalty.AnchorPenalty | None:
    """What holds the fastest level's day, if anything does.

    Raises:
      ValueError: its settings, or that level never sleeps.
    """
    settings = self.config.wake.kl_penalty.to_dict()
    weight = settings.pop('weight')
    author = sleep_settings.Teacher('anchor', 'old', **settings)
    settings_checks.check_teacher(author, 'wake.kl_penalty')
    if not weight >= 0:
      raise ValueError(
        f'wake.kl_penalty.weight is {weight}: expected 0 or more.'
      )
    if not weight:
      return None
    if 1 not in nights:
      raise ValueError(
        f'config.wake.kl_penalty.weight is {weight}, but the fastest '
        'level never sleeps, so that there is no waking to hold it to: give '
        'levels[0] a sleep_period, or set the weight to 0.'
      )
    return kl_penalty.AnchorPenalty(nights[1], weight, author)

  def _tx(self) -> optax.GradientTransformation:
    # The cosine ends with the night, unless the config says otherwise.
    whole: dict[str, Any] = {'decay_steps': self.night.num_updates}
    return optimizer.make(**(whole | dict(self.config.expert_optimizer)))

  def _together(self, dreams: dream_settings.Settings) -> int:
    """How many trials are made at once.

    One for each device, so that its work stays in the cache of a CPU
    (`benchmarks/trials.py`) and in the memory of one of many chips; all of
    them where an accelerator is alone.
    """
    num, rows = dreams.kept * dreams.repeats, self.placement.num_row_shards
    alone = rows == 1 and jax.default_backend() != 'cpu'
    return num if alone or num % rows else rows
