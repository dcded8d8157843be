"""Compiles the programs of a run on first use, and calls them.

A program is a function of the state that runs on the mesh: the wake step, the
three parts of a night, dreams, edits and a few small ones. Each is compiled
once, with its outputs pinned to the sharding rules, so that the state stays on
the devices from one program to the next. Unless a method says otherwise, the
given state is donated: its arrays must not be used afterwards.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.data import batches
from sleep_jax.learner import program_parts
from sleep_jax.replay import buffer, row_buffer
from sleep_jax.runtime import profiling
from sleep_jax.sleep import question_calls, question_sampling
from sleep_jax.sleep import seeding as sleep_seeding
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.wake import kl_penalty

Array = types.Array
CONSOLIDATE, MERGE = program_parts.CONSOLIDATE, program_parts.MERGE
DREAM = program_parts.DREAM
_QUESTIONS = 2**30 + 2**28  # Keeps the keys of questions apart from others.


class Programs(program_parts.ProgramParts):
  """The programs of one strategy, placed on the mesh."""

  def begin(
    self,
    initial_model: state_lib.InitialModel | None,
    key: Array,
    *,
    guard: float = -1.0,
  ) -> state_lib.State:
    """Returns the initial state.

    Args:
      initial_model: its arrays are copied, because those of a state are
        donated, unless it is spare. None: weights are drawn at random.
      key: of the run.
      guard: score of the initial model, see `RunContext.guard_score`; -1.0 if
        the guard is off.
    """

    spare = initial_model is not None and initial_model.is_spare

    def make(weights, age_groups, key, guard):
      if weights is None:
        weights = self.model.init(key)
      elif not spare:
        weights = jax.tree.map(jnp.copy, weights)
      return self._state_builder.build(weights, age_groups, key, guard)

    weights, age_groups = None, {}
    if initial_model is not None:
      weights, age_groups = initial_model.weights, initial_model.replay
    return self._run(
      ('begin', weights is None, spare), make, weights, age_groups, key,
      jnp.float32(guard), donate=spare,
    )  # fmt: skip

  def wake(self, state, batch, held: Sequence[int], day_share: float = 0.0):
    """Takes one wake step; the due updates of `held` levels wait for the night.

    Args:
      state: the state.
      batch: rows.
      held: levels that sleep right after this step.
      day_share: share of the day's steps that are done; for a learning rate
        that falls during the day.

    Returns:
      The state and the metrics of the step, see `wake.step`.
    """
    flags = {name: jnp.asarray(name in map(str, held)) for name in self._owners}
    batch = self.placement.put(batch, prefix='batch/')
    share = (jnp.float32(day_share),) * self.has_day_decay
    return self._run('wake', self._wake_step, state, batch, flags, *share)

  def review(self, state, batch):
    """Reads a batch between wake steps, see `Method.read`."""
    batch = self.placement.put(batch, prefix='batch/')
    return self._run('review', self.method.read, state, batch)

  def finish_review(self, state, moment: str):
    """Ends a review, see `Method.finish`."""
    finish = functools.partial(self.method.finish, moment=moment)
    return self._run(('finish_review', moment), finish, state)

  def settings(
    self, sender: int, phase: str = CONSOLIDATE
  ) -> sleep_settings.Settings:
    """Returns the seeding settings of a sender's nights of a phase."""
    return self._phase_nights(phase)[sender].settings

  def night_end(self, state, sender: int, *, phase: str = CONSOLIDATE) -> int:
    """Returns the number of updates of a night under way, as known so far."""
    length = state.night.length
    if length is None:
      return self.settings(sender, phase).num_updates
    return int(length.end)

  def grows(self, sender: int) -> bool:
    """Returns whether a sender's nights add experts."""
    return self.settings(sender).into == sleep_settings.EXPERT

  def is_full(self, state, sender: int) -> bool:
    """Returns whether the receiver's bank has no free slot for a new expert."""
    slots = self.model.config.levels[sender].slots
    active_E = np.asarray(state.weights.active_NE)[sender]
    return self.grows(sender) and int(np.sum(active_E)) >= slots

  def needs_merge(self, state, sender: int) -> bool:
    """Returns whether a merge has to precede this sender's night."""
    return sender in self._merges and self.is_full(state, sender)

  def fall_asleep(self, state, sender: int, *, phase: str = CONSOLIDATE):
    """Begins a night or a merge; returns the state with `night` set."""
    nights = self._merges if phase == MERGE else self._nights
    return self._run(
      ('fall_asleep', sender, phase), nights[sender].fall_asleep, state
    )

  def edit(self, state, task: types.Task):
    """Edits the model itself, see `SelfEdit.edit`."""
    edit = self._self_edit.edit
    return self._run('edit', edit, state, self._dream_templates, task)

  def dream(self, state, sender: int, slot: int, task: types.Task):
    """Begins a dreaming night, see `Dreaming.dream`."""
    return self._run(
      ('dream', sender),
      self._dreamings[sender].dream,
      state,
      jnp.int32(slot),
      self._dream_templates,
      task,
    )

  def wake_from_dream(self, state, sender: int, *, accept: bool):
    """Ends a dreaming night, see `Dreaming.wake_up`."""
    return self._run(
      ('wake_from_dream', sender),
      self._dreamings[sender].wake_up,
      state,
      jnp.asarray(accept),
    )

  def seed(self, state, sender: int, *, phase: str = CONSOLIDATE):
    """Runs one round of seeding, see `Seeding.seed`."""
    night = self._phase_nights(phase)[sender]

    def seed(state, templates, judge):
      # Arguments, so that one compiled night serves all tokenizers.
      return dataclasses.replace(night, templates=templates, judge=judge).seed(
        state
      )

    templates = self._dream_templates if phase == DREAM else self._templates
    return self._run(
      ('seed', sender, phase), seed, state, templates, self._judge
    )

  def commit_merge(self, state, sender: int):
    """Ends a merge, see `Merge.wake_up`."""
    return self._run(
      ('commit_merge', sender), self._merges[sender].wake_up, state
    )

  def merge_weights(
    self, state, sender: int
  ) -> tuple[types.Weights, types.Weights]:
    """Returns a merge's teacher and student, for evaluation.

    The state is not donated.
    """
    night = self._merges[sender]
    make = lambda state: (night.teacher(state, ''), night.student(state))
    return self._run(('merge_weights', sender), make, state, donate=False)

  def wake_up(self, state, sender: int, *, accept: bool, guard: float):
    """Ends a night, see `Consolidation.wake_up`."""
    night = self._nights[sender]
    return self._run(
      ('wake_up', sender),
      night.wake_up,
      state,
      jnp.asarray(accept),
      jnp.asarray(guard, jnp.float32),
    )

  def write_texts(
    self,
    state,
    prompts: types.Texts,
    rows: question_calls.Rows,
    ends_V: Array,
    call: Array,
    temperature: Array,
    *,
    max_new: int,
  ) -> types.Texts:
    """Samples texts of the running model, see `question_sampling.write`.

    The state is not donated.

    Args:
      state: the learner; its key and step, with `call`, give the key.
      prompts, rows, ends_V: see `question_sampling.write`.
      call: number of the call in this evening.
      temperature, max_new: see `question_sampling.write`.
    """

    def write(state, prompts, rows, ends_V, call, temperature):
      key = jax.random.fold_in(state.key, state.step)
      key = jax.random.fold_in(jax.random.fold_in(key, _QUESTIONS), 1 + call)
      return {}, question_sampling.write(
        self.model, state.weights, prompts, rows, ends_V, key,
        max_new=max_new, temperature=temperature,
      )  # fmt: skip

    args = prompts, rows, ends_V, call, temperature
    return self._run(
      ('write_texts', prompts.tokens_BT.shape, max_new), write, state, *args,
      donate=False,
    )[1]  # fmt: skip

  def store_questions(self, state, sender: int, prompts: types.Prompts):
    """Stores questions among the prompts of a sender's day and of the past.

    Args:
      state: the learner, in the evening.
      sender: of the day.
      prompts: with documents; later nights rehearse the questions without.
    """

    def store(state, prompts):
      replay = dict(state.replay)
      for name in (buffer.day_group(sender), buffer.PAST):
        if name in replay:
          replay[name] = buffer.insert(
            replay[name], prompts, state.step, state.key,
            documents=prompts.context, once=True,
          )  # fmt: skip
      return state.replace(replay=replay)

    return self._run(('store_questions', sender), store, state, prompts)

  def disable_expert(self, state, level: int, slot: int):
    """Returns the state with an expert switched off, its slot free again.

    Rehearsals of the KL penalties may repeat what it held: they are emptied,
    and written again on the next day.
    """

    def disable(state, level, slot):
      active_NE = state.weights.active_NE.at[level - 1, slot].set(0)
      state = state.replace(weights=state.weights.replace(active_NE=active_NE))
      return kl_penalty.without_rehearsals(state)

    return self._run(
      'disable_expert', disable, state, jnp.int32(level), jnp.int32(slot)
    )

  def committed(
    self, state, sender: int, *, phase: str = CONSOLIDATE
  ) -> types.Weights:
    """Returns the weights after the night if accepted, for evaluation.

    The state is not donated.
    """
    nights = self._dreamings if phase == DREAM else self._nights
    return self._run(
      ('committed', sender, phase),
      nights[sender].committed,
      state,
      donate=False,
    )

  def fill_row_buffer(self, state, pretrain: batches.Source | None):
    """Offers the batches of pretraining to the row buffer of `er`.

    The batches are those that pretraining read, in its order; none is learned.
    """

    def offer(state, batch):
      return state.replace(
        row_buffer=row_buffer.insert(state.row_buffer, batch, state.key)
      )

    for index in range(self.pretrain_steps if pretrain is not None else 0):
      batch = self.placement.put(pretrain.batch(index), prefix='batch/')
      state = self._run('fill_row_buffer', offer, state, batch)
    return state

  def _phase_nights(self, phase: str) -> Mapping[int, sleep_seeding.Seeding]:
    """Returns the nights of a phase, by sender."""
    nights: dict[str, Mapping[int, sleep_seeding.Seeding]] = {
      CONSOLIDATE: self._nights,
      MERGE: self._merges,
      DREAM: self._dreamings,
    }
    return nights[phase]

  @functools.cached_property
  def _compiled(self) -> dict[Any, Callable]:
    """Compiled programs by name."""
    return {}

  def _run(self, name, function, state, *args, donate=True):
    """Calls a program, and compiles it first if it has not run yet."""
    if name in self._compiled:
      return self._compiled[name](state, *args)
    self._compiled[name] = self.placement.jit(
      function, state, *args, donate=donate
    )
    with profiling.CompileTimer() as compiling:
      self.placement.compile(self._compiled[name], state, *args)
      found = self._compiled[name](state, *args)
    logging.info('compiled %s in %.2f s', name, compiling.seconds)
    return found
