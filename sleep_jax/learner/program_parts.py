"""Builds the parts of a run's programs, and the shapes of its states.

Nothing is compiled or computed here; `programs` compiles and calls the parts.
"""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.dream import seeding as dream_seeding
from sleep_jax.dream import settings as dream_settings
from sleep_jax.learner import (
  checks,
  initial_state,
  phase_programs,
  wake_program,
)
from sleep_jax.objectives import judges
from sleep_jax.optim import optimizer
from sleep_jax.replay import buffer
from sleep_jax.runtime import sharding
from sleep_jax.schedule import events
from sleep_jax.sleep import (
  consolidation,
  expert_merge,
  sender_settings,
  settings_checks,
)
from sleep_jax.strategies import method as method_lib
from sleep_jax.strategies import strategy as strategy_lib
from sleep_jax.wake import kl_penalty

CONSOLIDATE, MERGE, DREAM = events.CONSOLIDATE, events.MERGE, events.DREAM


class ProgramParts:
  """What the programs of one strategy consist of.

  Attributes:
    model: with its arrays placed on the mesh.
    strategy: whose programs these are.
    placement: mesh and sharding rules.
    pretrain_steps: number of steps of pretraining.
    row_length: tokens of a row.
    dreams: settings of the dreams.
    dream_tokens: tokens that a dreaming night or an edit reads, without the
      seeding; set if the strategy dreams or edits itself.
    edit_steps: optimizer steps of an edit; set if the strategy edits itself.
    has_day_decay: whether the learning rate falls during a day.
    method: what the strategy adds to the wake step, and its reviews.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: types.Model,
    strategy: strategy_lib.Strategy,
    placement: sharding.Placement,
    *,
    templates: types.PromptTemplates,
    bos: int,
    eos: int,
    judge: judges.Judge,
    dream_templates: types.PromptTemplates | None = None,
    task: types.Task | None = None,
    learning_rate: float | None = None,
  ):
    """Builds the programs; nothing is compiled yet.

    Args:
      config: of the run.
      model: without a placement.
      strategy: of the run.
      placement: mesh and sharding rules.
      templates: of self-study prompts.
      bos, eos: token ids.
      judge: for imitation.
      dream_templates: prompts that dreams are written on; needed to dream.
      task: any task of the stream, for its shapes; needed to dream.
      learning_rate: replaces the config's wake learning rates, if not None.

    Raises:
      ConfigError: the config does not fit the strategy, the levels or the task.
    """
    model = model.with_place(placement.constrain)
    self.model, self.strategy, self.placement = model, strategy, placement
    levels = model.config.levels
    optimizers = wake_program.make_optimizers(
      config, model, strategy, learning_rate
    )
    likelihood = wake_program.make_likelihood(config, model)
    paths = tuple(p for own in optimizers.owned_paths.values() for p in own)
    self.method = strategy.build(
      method_lib.Parts(
        config, model, likelihood, paths, bos, eos, optimizers.txs
      )
    )
    self._config = config
    self.pretrain_steps = config.pretrain.steps
    self.row_length = config.data.context
    self._templates, self._judge = templates, judge
    self._nights: dict[int, consolidation.Consolidation] = {}
    self._merges: dict[int, expert_merge.SlotRelease] = {}
    self._dreamings: dict[int, dream_seeding.Dreaming] = {}
    self._dream_templates, self._task = dream_templates, task
    self.dreams = dream_settings.make(**config.dream.to_dict())
    document = 0
    penalties: list[kl_penalty.AnchorPenalty] = []
    plain = config.to_dict()
    shared = settings_checks.make_settings(**plain['consolidate'])
    nights = {
      sender: sender_settings.make(plain, sender)
      for sender in events.sleepers(levels)
    }
    if strategy.stores_answers:
      checks.check_stored_answers(config, strategy.name)
      nights = {
        sender: dataclasses.replace(night, stored_answers=True)
        for sender, night in nights.items()
      }
    phases = phase_programs.PhasePrograms(
      config, model, placement, templates, bos, eos, judge, shared, nights
    )
    if strategy.edits or (strategy.sleeps and self.dreams.on):
      task = checks.check_task(task, config)
      self.dream_tokens = self.dreams.count_tokens(
        shared.max_length, task.prompts.context.tokens_BT.shape[1]
      )
    if strategy.edits:
      self._self_edit = phases.self_edit(self.dreams, learning_rate)
      self.edit_steps = self._self_edit.adapter.steps
      self.dream_tokens += self._self_edit.count_tokens(task)
    if strategy.sleeps:
      self._build_nights(phases, optimizers, task)
      if any(night.reads for night in nights.values()):
        document = checks.document_length(config)
      penalties = phases.kl_penalties(self._nights)
    self._state_builder = initial_state.StateBuilder(
      config,
      levels,
      strategy,
      optimizers.txs,
      optimizers.owned_paths,
      self.senders,
      document,
      penalties,
      self.method.allocate,
    )
    self._owners = tuple(optimizers.txs)
    self._keeps_core = not self.method.moves_core and checks.keeps_core(
      strategy, nights.values(), dreams=self.dreams.on
    )
    self.has_day_decay = (
      wake_program.has_day_decay(config) and 'core' not in self._owners
    )
    self._wake_step = wake_program.make_step(
      config,
      strategy,
      optimizers,
      likelihood,
      age_groups=tuple(
        initial_state.replay_capacities(config, levels, strategy)
      ),
      eos=eos,
      penalty=self.method.penalty or kl_penalty.combine(penalties),
      learns_rows=self.method.learns_rows,
      transform=self.method.transform,
    )

  @property
  def senders(self) -> tuple[int, ...]:
    """Levels that sleep; 0 is the context."""
    return tuple(self._nights)

  def is_constant(self, name: str) -> bool:
    """Whether no step, night or review changes an array of the state.

    Args:
      name: of the array, see `storage.constant_arrays`.
    """
    if name.startswith(f'replay/{buffer.OWN_TEXTS}/'):
      return True
    _, is_parameter, path = name.partition('weights/params/')
    if not is_parameter or not self._keeps_core:
      return False
    levels = self.model.config.num_levels
    return optimizer.parameter_owner(path, num_levels=levels) == 'core'

  def initial_shapes(self) -> state_lib.InitialModel:
    """Returns shapes and shardings of the pretrained model.

    The type of its core is `pretrain.dtype`.
    """
    state, num = self.abstract(None), self.model.config.num_levels
    params = {
      path: jax.ShapeDtypeStruct(
        leaf.shape,
        optimizer.parameter_dtype(
          path, self._config.pretrain.dtype, num_levels=num
        ),
        sharding=leaf.sharding,
      )
      for path, leaf in state.weights.params.items()
    }
    return state_lib.InitialModel(
      state.weights.replace(params=params), state.replay
    )

  def check(self, initial_model: state_lib.InitialModel) -> None:
    """Checks that every state of a run can be placed on the mesh.

    Raises:
      ConfigError: an axis of the mesh does not divide a dimension of an array.
      ValueError: an array has no sharding rule.
    """
    self.abstract(initial_model)
    for sender in self._nights:
      self.abstract(initial_model, night=sender)
    for sender in self._merges:
      self.abstract(initial_model, night=sender, phase=MERGE)
    for sender in self._dreamings:
      self.abstract(initial_model, night=sender, phase=DREAM)

  def abstract(
    self,
    initial_model: state_lib.InitialModel | None,
    *,
    night: int | None = None,
    phase: str = CONSOLIDATE,
  ) -> state_lib.State:
    """Returns shapes and shardings of the state; computes nothing.

    Args:
      initial_model: None: weights as drawn at random.
      night: sender of a night under way; None: awake.
      phase: of that night, CONSOLIDATE, MERGE or DREAM.
    """
    initial_model = initial_model or state_lib.InitialModel(
      self.model.shapes(), {}
    )
    shapes = jax.eval_shape(
      self._state_builder.build,
      initial_model.weights,
      initial_model.replay,
      jax.random.key(0),
      -1.0,
    )
    if night is not None:
      shapes = self._asleep_shapes(shapes, night, phase)
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      self.placement.shardings(shapes),
    )

  def _build_nights(self, phases, optimizers, task):
    """Builds consolidations, and merges and dreaming nights if configured."""
    self._nights = phases.consolidations(optimizers.txs)
    self._merges = phases.merges(self._nights)
    if self.dreams.on:
      self._dreamings = phases.dreamings(self._nights, self.dreams, task)

  def _asleep_shapes(self, shapes, sender, phase):
    if phase != DREAM:
      nights = self._merges if phase == MERGE else self._nights
      return jax.eval_shape(nights[sender].fall_asleep, shapes)
    slot = jax.ShapeDtypeStruct((), jnp.int32)
    dream = self._dreamings[sender].dream
    return jax.eval_shape(
      dream, shapes, slot, self._dream_templates, self._task
    )[0]
