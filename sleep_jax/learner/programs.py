"""A life's compiled programs, and the state that they start from."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.data import batches
from sleep_jax.dream import seeding as dream_seeding
from sleep_jax.dream import settings as dream_settings
from sleep_jax.learner import checks, initial_state, phase_programs
from sleep_jax.model import transformer
from sleep_jax.objectives import chunked_losses, judges, losses
from sleep_jax.optim import gradient_accumulation, optimizer
from sleep_jax.replay import row_buffer
from sleep_jax.runtime import profiling, sharding
from sleep_jax.sleep import (
  consolidation,
  expert_merge,
  imitation,
  settings_checks,
)
from sleep_jax.sleep import seeding as sleep_seeding
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.strategies import strategy
from sleep_jax.wake import step as step_lib

Array = types.Array
# What a night may be.
CONSOLIDATE, MERGE, DREAM, EDIT = 'consolidate', 'merge', 'dream', 'edit'


class Programs:
  """Everything that a strategy compiles, placed on the mesh.

  Attributes:
    wake: (state, batch, held) -> (state, metrics).
    fall_asleep, seed, committed, wake_up: by sender.
    birth_steps: batches that birth read.
    settings: of each kind of night that there is.
    dreams: whether and how nights dream.
    dream_tokens: read by trials and writer in a night of dreams, or an edit.
    edit_steps: of learning an edit.
    grows: whether a night adds an expert.
    collapse: (first, now) -> why a night is to end, see `imitate.collapse`.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    model: transformer.Transformer,
    kind: strategy.Strategy,
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
    """Args: task any, for its shapes; with `dream_stems`, where it dreams."""
    model = dataclasses.replace(model, place=placement.constrain)
    self.model, self.strategy, self.placement = model, kind, placement
    levels = model.config.levels
    txs, periods, moving = {}, {}, {}
    shapes = model.shapes()
    for name, owners in kind.owners.items():
      settings = dict(_optimizer(config, name))
      if learning_rate is not None:
        settings['learning_rate'] = learning_rate
      txs[name] = optimizer.make(**settings)
      own = name.isdigit()
      periods[name] = levels[int(name) - 1].update_period if own else 1
      moving[name] = tuple(
        optimizer.owned(shapes.params, owners, num_levels=len(levels))
      )
    self._config = config
    self.pretrain_steps = config.pretrain.steps
    self._asked = templates, judge
    self._nights: dict[int, consolidation.Consolidation] = {}
    self._merges: dict[int, expert_merge.Merge] = {}
    self._dreamings: dict[int, dream_seeding.Dreaming] = {}
    self._dreamt = dream_templates, task
    self.settings: dict[str, sleep_settings.Settings] = {}
    self.dreams = dream_settings.make(**config.dream.to_dict())
    average_decay, document = 0.0, 0
    night = settings_checks.make_settings(**config.consolidate.to_dict())
    build = phase_programs.PhasePrograms(
      config, model, placement, templates, bos, eos, judge, night
    )
    if kind.edits or (kind.sleeps and self.dreams.on):
      task = checks.check_task(task, config)
      self.dream_tokens = self.dreams.tokens(
        night.max_length, task.prompts.context.tokens_BT.shape[1]
      )
    if kind.edits:
      self._self_edit = build.edit(self.dreams, learning_rate)
      self.edit_steps = self._self_edit.adapter.steps
      self.dream_tokens += self._self_edit.tokens(task)
    if kind.sleeps:
      self.settings[CONSOLIDATE] = night
      self.grows = night.into == sleep_settings.EXPERT
      self.collapse = functools.partial(
        imitation.detect_collapse, settings=night.imitation
      )
      self._nights = build.consolidations(txs)
      if night.full == sleep_settings.MERGE:
        self.settings[MERGE] = expert_merge.merge_settings(night)
        self._merges = build.merges(self._nights, self.settings[MERGE])
      if self.dreams.on:
        self.settings[DREAM] = dream_seeding.make_settings(night, self.dreams)
        self._dreamings = build.dreamings(
          self._nights, self.dreams, self.settings[DREAM], task
        )
      if night.reads:
        document = checks.document_length(config)
      if night.averaged:
        average_decay = night.average_decay
    tied = build.kl_penalty(self._nights) if kind.sleeps else None
    self._first = initial_state.StateBuilder(
      config, levels, kind, txs, moving, self.senders, document,
      bool(average_decay), tied,
    )  # fmt: skip
    self._owners = tuple(txs)
    sizes = {'data.batch_size': config.data.batch_size}
    if config.data.day_batch_size:
      sizes['data.day_batch_size'] = config.data.day_batch_size
    gradient_accumulation.check(
      config.wake.micro_batches, sizes, 'wake.micro_batches'
    )
    step = step_lib.make(
      self._likelihood, moving, txs, periods,
      age_groups=tuple(initial_state.replay_capacities(config, levels, kind)),
      hold=None if tied is None else tied.hold, average_decay=average_decay,
      micro_batches=config.wake.micro_batches,
    )  # fmt: skip
    self._wake = kind.wrap(step)
    self._jitted: dict[Any, Callable] = {}

  @property
  def senders(self) -> tuple[int, ...]:
    """Levels that sleep; 0 is the context."""
    return tuple(self._nights)

  def begin(
    self,
    initial_model: initial_state.InitialModel | None,
    key: Array,
    *,
    guard: float = -1.0,
  ) -> state_lib.State:
    """The first state: as born, or newly drawn.

    The newborn's arrays are copied, since a state's own are donated.

    Args:
      guard: the newborn's score on the guard's probes, if it was asked.
    """

    def make(initial_model, key, guard):
      if initial_model is None:
        return self._first.state(self.model.init(key), {}, key, guard)
      weights, age_groups = initial_model
      return self._first.state(
        jax.tree.map(jnp.copy, weights), age_groups, key, guard
      )

    given = (
      None
      if initial_model is None
      else (initial_model.weights, initial_model.replay)
    )
    args = (given, key, jnp.float32(guard))
    return self._run(
      ('begin', initial_model is None), make, *args, donate=False
    )

  def initial_shapes(self) -> initial_state.InitialModel:
    """Shapes and places of what this birth will leave, see `pretrain.dtype`."""
    born, num = self.abstract(None), self.model.config.num_levels
    params = {
      path: jax.ShapeDtypeStruct(
        leaf.shape,
        optimizer.dtype(path, self._config.pretrain.dtype, num_levels=num),
        sharding=leaf.sharding,
      )
      for path, leaf in born.weights.params.items()
    }
    return initial_state.InitialModel(
      born.weights.replace(params=params), born.replay
    )

  def check(self, initial_model: initial_state.InitialModel) -> None:
    """Lays out every state of a life as shapes, to find what cannot be."""
    self.abstract(initial_model)
    for sender in self._nights:
      self.abstract(initial_model, night=sender)
    for sender in self._merges:
      self.abstract(initial_model, night=sender, phase=MERGE)
    for sender in self._dreamings:
      self.abstract(initial_model, night=sender, phase=DREAM)

  def abstract(
    self,
    initial_model: initial_state.InitialModel | None,
    *,
    night: int | None = None,
    phase: str = CONSOLIDATE,
  ) -> state_lib.State:
    """Shapes and places of the state, during a sender's night if it is given.

    Args:
      newborn: None: as drawn.
      night: its sender.
      phase: what the night is: it consolidates, merges or dreams.
    """
    initial_model = initial_model or initial_state.InitialModel(
      self.model.shapes(), {}
    )
    shapes = jax.eval_shape(
      self._first.state,
      initial_model.weights,
      initial_model.replay,
      jax.random.key(0),
      -1.0,
    )
    if night is not None:
      shapes = self._asleep(shapes, night, phase)
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      self.placement.shardings(shapes),
    )

  def wake(self, state, batch, held: Sequence[int]):
    """One wake step; `held` levels keep their update for the night."""
    flags = {name: jnp.asarray(name in map(str, held)) for name in self._owners}
    batch = self.placement.put(batch, prefix='batch/')
    return self._run('wake', self._wake, state, batch, flags)

  def is_full(self, state, sender: int) -> bool:
    """Whether a night of this sender finds no room in the receiver's bank."""
    slots = self.model.config.levels[sender].slots
    active_E = np.asarray(state.weights.active_NE)[sender]
    return self.grows and int(np.sum(active_E)) >= slots

  def needs_merge(self, state, sender: int) -> bool:
    return sender in self._merges and self.is_full(state, sender)

  def fall_asleep(self, state, sender: int, *, phase: str = CONSOLIDATE):
    night = self._merges if phase == MERGE else self._nights
    return self._run(
      ('fall_asleep', sender, phase), night[sender].fall_asleep, state
    )

  def edit(self, state, task: types.Task):
    """The model edits itself, see `SelfEdit.edit`."""
    edit = self._self_edit.edit
    return self._run('edit', edit, state, self._dreamt[0], task)

  def dream(self, state, sender: int, slot: int, task: types.Task):
    """Falls asleep to dream, see `Dreaming.dream`."""
    return self._run(
      ('dream', sender), self._dreamings[sender].dream, state,
      jnp.int32(slot), self._dreamt[0], task,
    )  # fmt: skip

  def wake_from_dream(self, state, sender: int, *, accept: bool):
    """Wakes up from dreams."""
    return self._run(
      ('dreamt', sender), self._dreamings[sender].wake_up, state,
      jnp.asarray(accept),
    )  # fmt: skip

  def seed(self, state, sender: int, *, phase: str = CONSOLIDATE):
    night = self._of(phase)[sender]

    def seed(state, templates, judge):
      # Arguments, so that one compiled night serves all vocabularies.
      return dataclasses.replace(night, templates=templates, judge=judge).seed(
        state
      )

    templates, judge = self._asked
    if phase == DREAM:
      templates = self._dreamt[0]
    return self._run(('seed', sender, phase), seed, state, templates, judge)

  def commit_merge(self, state, sender: int):
    """Commits a merge."""
    return self._run(('merged', sender), self._merges[sender].wake_up, state)

  def merge_weights(self, state, sender: int) -> tuple[types.Weights, types.Weights]:
    """A merge's teacher and student, for probing."""
    night = self._merges[sender]
    make = lambda state: (night.teacher(state, ''), night.student(state))
    return self._run(('both', sender), make, state, donate=False)

  def wake_up(self, state, sender: int, *, accept: bool, guard: float):
    night = self._nights[sender]
    return self._run(
      ('wake_up', sender), night.wake_up, state, jnp.asarray(accept),
      jnp.asarray(guard, jnp.float32),
    )  # fmt: skip

  def disable_expert(self, state, level: int, slot: int):
    """The same with an expert switched off; its slot is free again."""

    def forget(state, level, slot):
      active_NE = state.weights.active_NE.at[level - 1, slot].set(0)
      return state.replace(weights=state.weights.replace(active_NE=active_NE))

    return self._run(
      'forgotten', forget, state, jnp.int32(level), jnp.int32(slot)
    )

  def committed(
    self, state, sender: int, *, phase: str = CONSOLIDATE
  ) -> types.Weights:
    """What would wake up, for probing; the state is not given away."""
    night = self._dreamings if phase == DREAM else self._nights
    return self._run(
      ('committed', sender, phase), night[sender].committed, state,
      donate=False,
    )  # fmt: skip

  def fill_memory(self, state, pretrain: batches.Source | None):
    """Offers a memory all that birth read, as often, without learning it."""

    def offer(state, batch, index):
      key = jax.random.fold_in(jax.random.fold_in(state.key, 11), index)
      return state.replace(memory=row_buffer.offer(state.memory, batch, key))

    for index in range(self.pretrain_steps if pretrain is not None else 0):
      batch = self.placement.put(pretrain.batch(index), prefix='batch/')
      count = state.memory.count + 0
      state = self._run('offer', offer, state, batch, count)
    return state

  def _of(self, phase: str) -> Mapping[int, sleep_seeding.Seeding]:
    """The nights of a kind, by sender."""
    nights: dict[str, Mapping[int, sleep_seeding.Seeding]] = {
      CONSOLIDATE: self._nights, MERGE: self._merges, DREAM: self._dreamings
    }  # fmt: skip
    return nights[phase]

  def _asleep(self, shapes, sender, phase):
    if phase != DREAM:
      night = self._merges if phase == MERGE else self._nights
      return jax.eval_shape(night[sender].fall_asleep, shapes)
    slot = jax.ShapeDtypeStruct((), jnp.int32)
    dream = self._dreamings[sender].dream
    return jax.eval_shape(dream, shapes, slot, *self._dreamt)[0]

  def _run(self, name, function, state, *args, donate=True):
    if name in self._jitted:
      return self._jitted[name](state, *args)
    self._jitted[name] = self.placement.jit(
      function, state, *args, donate=donate
    )
    with profiling.CompileTimer() as compiling:
      found = self._jitted[name](state, *args)
    logging.info('compiled %s in %.2f s', name, compiling.seconds)
    return found

  def _likelihood(self, weights, tokens_BT, *where):
    tokens = self._config.wake.block_tokens
    if not tokens:
      logits_BTV = self.model.forward(weights, tokens_BT, *where)
      return losses.log_likelihood(logits_BTV, tokens_BT)
    states_BTD = self.model.states(weights, tokens_BT, *where)
    # All places, so that rows are of a round size; the last foretells nothing.
    said_BT = jnp.roll(tokens_BT, -1, 1)
    score_BT = chunked_losses.log_likelihood(
      states_BTD, said_BT, functools.partial(self.model.logits, weights),
      tokens=tokens, place=functools.partial(self.model.place, 'block'),
    )  # fmt: skip
    return score_BT[:, :-1]


def _optimizer(config, name):
  """Settings of an owner's optimizer."""
  if name == 'core':
    return config.pretrain.optimizer
  if name == 'all':
    return config.fine_tune
  return config.wake.optimizers[int(name) - 1]
