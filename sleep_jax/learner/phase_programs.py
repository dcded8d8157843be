"""Builds what a config asks for besides the wake step: nights, dreams, edits.

Each builder returns objects whose methods are array programs; `programs`
compiles them.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import ml_collections
import optax

from sleep_jax import errors, types
from sleep_jax.dream import rounds, seeding, self_edit, trials
from sleep_jax.dream import settings as dream_settings
from sleep_jax.learner import checks
from sleep_jax.objectives import judges
from sleep_jax.optim import day_schedule, optimizer
from sleep_jax.runtime import sharding
from sleep_jax.sleep import (
  consolidation,
  expert_merge,
  sender_settings,
  settings_checks,
)
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.wake import kl_penalty

Nights = Mapping[int, consolidation.Consolidation]


@dataclasses.dataclass(frozen=True)
class PhasePrograms:
  """Builds the phases of a run; all of them share these arguments.

  Attributes:
    config: of the run.
    model: with its arrays placed on the mesh.
    placement: mesh and sharding rules.
    templates: of self-study prompts, see `Seeding`.
    bos, eos: token ids.
    judge: for imitation, see `Seeding`.
    shared: settings of `config.consolidate`, without changes by a level.
    nights: settings of consolidating nights, by sender.
  """

  config: ml_collections.ConfigDict
  model: types.Model
  placement: sharding.Placement
  templates: types.PromptTemplates
  bos: int
  eos: int
  judge: judges.Judge
  shared: sleep_settings.Settings
  nights: Mapping[int, sleep_settings.Settings]

  def consolidations(
    self, txs: Mapping[str, optax.GradientTransformation]
  ) -> dict[int, consolidation.Consolidation]:
    """Returns a consolidation for each level that sleeps, by sender.

    Args:
      txs: owner -> its wake optimizer.

    Raises:
      ConfigError: a night would train a base that is updated awake.
    """
    num_levels = len(self.model.config.levels)
    for sender, night in self.nights.items():
      if night.into == sleep_settings.BASE:
        checks.check_base_receiver(sender, num_levels)
      if night.start == sleep_settings.SENDER:
        checks.check_copied_sender(night, self.model.config, sender)
    return {
      sender: consolidation.Consolidation(
        self.model,
        self._expert_tx(sender, night),
        self.templates,
        self.bos,
        self.eos,
        self.judge,
        night,
        sender,
        txs.get(str(sender)),
      )
      for sender, night in self.nights.items()
    }

  def self_edit(
    self, dreams: dream_settings.Settings, learning_rate: float | None
  ) -> self_edit.SelfEdit:
    """Returns the self-edit of a strategy that edits itself.

    Args:
      dreams: settings of the dreams.
      learning_rate: replaces the config's, if not None.
    """
    adapter = self.config.self_edit.to_dict()
    if learning_rate is not None:
      adapter['learning_rate'] = learning_rate
    return self_edit.SelfEdit(
      self.dream_rounds(dreams),
      dream_settings.make_adapter(adapter, 'self_edit'),
    )

  def merges(self, nights: Nights) -> dict[int, expert_merge.SlotRelease]:
    """Returns what makes room in full banks, by sender.

    Two experts are merged where there are two slots or more. The slowest level
    may absorb its bank instead, with the settings of its own nights.

    Args:
      nights: consolidations by sender.

    Raises:
      ConfigError: a faster level would absorb its bank.
    """
    made: dict[int, expert_merge.SlotRelease] = {}
    parts = self.templates, self.bos, self.eos, self.judge
    levels = self.model.config.levels
    for sender, night in nights.items():
      full, receiver = night.settings.full, night.receiver
      if full == sleep_settings.MERGE and levels[sender].slots > 1:
        settings = expert_merge.merge_settings(night.settings)
        tx = self._expert_tx(sender, night.settings)
        made[sender] = expert_merge.Merge(
          self.model, tx, *parts, settings, night
        )
      if full == sleep_settings.ABSORB:
        checks.check_absorbing(receiver, len(levels))
        own = dataclasses.replace(
          sender_settings.make(self.config.to_dict(), receiver),
          stored_answers=night.settings.stored_answers,
        )
        settings = expert_merge.absorption_settings(own)
        made[sender] = expert_merge.Absorption(
          self.model, self._expert_tx(receiver, own), *parts, settings, night
        )
    return made

  def dreamings(
    self,
    nights: Nights,
    dreams: dream_settings.Settings,
    task: types.Task,
  ) -> dict[int, seeding.Dreaming]:
    """Returns a dreaming night for each sender.

    Args:
      nights: consolidations by sender.
      dreams: settings of the dreams.
      task: any task of the stream, for its shapes.
    """
    c = self.config
    tx = optimizer.make(
      **dream_settings.optimizer_settings(dreams, c.expert_optimizer)
    )
    return {
      sender: seeding.Dreaming(
        self.model,
        tx,
        self.templates,
        self.bos,
        self.eos,
        self.judge,
        seeding.make_settings(night.settings, dreams),
        night,
        self.dream_rounds(dreams),
        task.prompts.context.tokens_BT.shape[1],
      )
      for sender, night in nights.items()
    }

  def dream_rounds(self, dreams: dream_settings.Settings) -> rounds.DreamRounds:
    """Returns the rounds of dreams, for any task."""
    place = self.placement
    trial_placement = trials.TrialPlacement(
      self._num_parallel_trials(dreams),
      place.shard_rows,
      place.replicate_states,
      place.num_row_shards,
    )
    return rounds.DreamRounds(
      self.model, self.bos, self.eos, self.shared, dreams, trial_placement
    )

  def kl_penalties(self, nights: Nights) -> list[kl_penalty.AnchorPenalty]:
    """Returns the KL penalties for the fastest level whose weight is above 0.

    Args:
      nights: consolidations by sender.

    Raises:
      ConfigError: a setting is not allowed, or the fastest level never sleeps.
    """
    found = (self._kl_penalty(name, nights) for name in kl_penalty.NAMES)
    return [penalty for penalty in found if penalty is not None]

  def _kl_penalty(
    self, name: str, nights: Nights
  ) -> kl_penalty.AnchorPenalty | None:
    """Returns a KL penalty, or None if its weight is 0."""
    settings = dict(self.config.wake.get(name) or {'weight': 0})
    weight, place = settings.pop('weight'), f'config.wake.{name}'
    if not weight:
      return None
    named = dict(teacher='anchor', prompts='old') | settings
    teacher = sleep_settings.Teacher(**named)
    for field, allowed in (
      ('teacher', ('anchor', 'first')), ('prompts', ('old', 'own_texts'))
    ):  # fmt: skip
      if (found := getattr(teacher, field)) not in allowed:
        raise errors.ConfigError(
          f'{place}.{field} is {found!r}: expected one of {allowed}.'
        )
    if 1 not in nights:
      raise errors.ConfigError(
        f'{place}.weight is {weight}, but the fastest level never sleeps, so '
        'it has no anchor to stay close to: give levels[0] a sleep_period, or '
        'set the weight to 0.'
      )
    settings_checks.check_first(nights[1].settings, teacher, place)
    # A step reads rehearsals in as many micro-batches as divide them.
    num = math.gcd(self.config.wake.micro_batches, teacher.sequences)
    return kl_penalty.AnchorPenalty(nights[1], weight, teacher, name, num)

  def _expert_tx(
    self, sender: int, night: sleep_settings.Settings
  ) -> optax.GradientTransformation:
    settings = sender_settings.optimizer(self.config.to_dict(), sender)
    if night.adaptive is None:
      return optimizer.make(**settings)
    final = settings.pop('final', 0.0)
    return day_schedule.with_cosine(optimizer.make(**settings), final)

  def _num_parallel_trials(self, dreams: dream_settings.Settings) -> int:
    """Returns how many trials run at once.

    One per device, so that a trial fits the cache of a CPU
    (`benchmarks/trials.py`) or the memory of one of many chips; all of them on
    a single accelerator.
    """
    num, rows = dreams.num_tried * dreams.repeats, self.placement.num_row_shards
    alone = rows == 1 and jax.default_backend() != 'cpu'
    return num if alone or num % rows else rows
