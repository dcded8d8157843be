"""Consolidation: transfers what a level learned into an expert of the next.

A night consists of three programs. `fall_asleep` computes the sender's due
update without applying it and initialises a fresh expert. `seed`, called once
per round, samples rehearsals from the teachers and distils them into that
expert alone. `wake_up` commits the whole night or discards it. Teachers and
student share all arrays except the sender's base and the fresh expert, so no
second copy of the model exists.

References: 2606.03979 v2 section 3.3 (compute - consolidate - update, Knowledge
Seeding); teachers and prompts: docs/method.md, "Whose knowledge".
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.model import experts
from sleep_jax.optim import optimizer
from sleep_jax.replay import buffer
from sleep_jax.sleep import copied_units, priorities, seeding, settings

Array = types.Array
State = state_lib.State
_RESET_BANK = 2**31 - 1  # Key count; larger than any number of updates.


@dataclasses.dataclass(frozen=True)
class Consolidation(seeding.Seeding):
  """The three programs of one sender's night.

  Attributes:
    sender: level that sleeps, 1 = fastest; the receiver is the next one. 0 is
      the context window, which has no parameters to update or to reset.
    wake_tx: the sender's optimizer while awake; None for the context window,
      and for a bank level, whose base never moves.
  """

  sender: int
  wake_tx: optax.GradientTransformation | None

  @property
  def day_group(self) -> str:
    """Name of the age group of the sender's day."""
    return buffer.day_group(self.sender)

  @property
  def receiver(self) -> int:
    """The level that receives the expert."""
    return self.sender + 1

  def fall_asleep(self, state: State) -> State:
    """Compute: prepares the sender's due update and a fresh expert."""
    sender_next: types.Params = {}
    opt_next: Any = ()
    if self.wake_tx is not None:
      name = str(self.sender)
      base = experts.base_of_level(state.weights.params, self.sender)
      sender_next, opt_next = optimizer.update(
        self.wake_tx, base, state.opt[name], state.sums[name]
      )
    if self.settings.into == settings.EXPERT:
      fresh = self.model.init_expert(self.key(state, 0), self.receiver)
      if self.settings.start == settings.SENDER:
        fresh = self._copy_sender(state, fresh, sender_next)
    else:
      own = experts.base_of_level(state.weights.params, self.receiver)
      fresh = {str(self.receiver): jax.tree.map(jnp.copy, own)}
    return state.replace(
      night=self.empty_night(
        state, fresh, sender_next=sender_next, opt_next=opt_next
      )
    )

  def teacher(self, state: State, name: str) -> types.Weights:
    """Returns the weights of a teacher, which differ in the sender alone.

    Args:
      state: the learner, asleep.
      name: see `settings.Teacher`.
    """
    # Of the initial model only the head is used, which never changes.
    if name in ('anchor', 'first'):
      return self.anchor_weights(state)
    if name == 'next':
      return state.weights.with_params(state.night.sender_next)
    return state.weights

  def student(self, state: State) -> types.Weights:
    """Returns the model as after the night, with the trained parameters."""
    if self.settings.sender_after_sleep == settings.CLEARED:
      weights = self.anchor_weights(state)
    else:
      weights = self._experts_off(
        state.weights.with_params(state.night.sender_next)
      )
    if self.settings.into == settings.EXPERT:
      return weights.replace(fresh=state.night.fresh)
    return weights.with_params(state.night.fresh[str(self.receiver)])

  def anchor_weights(self, state: State) -> types.Weights:
    """Returns the model with the sender as at its last waking."""
    return self._experts_off(state.weights.with_params(self._anchor(state)))

  def prompt_window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    """Returns age groups and steps of the prompts, split at the last waking."""
    woke = state.woke_N[self.sender]
    if prompts == 'old':
      return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), woke
    return (buffer.day_group(self.sender),), woke, state.step

  def wake_up(self, state: State, accept: Array, guard: Array) -> State:
    """Update: commits the whole night, or only the sender's due update.

    Args:
      state: the learner after the last round.
      accept: bool scalar; False discards the night.
      guard: f32 scalar, the guard's score to store if the night is accepted.
    """
    committed, discarded = self._commit(state, guard), self._discard(state)
    return jax.tree.map(
      lambda yes, no: priorities.where(accept, yes, no), committed, discarded
    )

  def committed(self, state: State) -> types.Weights:
    """Returns the weights that accepting the night would give.

    The fresh expert is in the bank, so the bank's selection applies to it.
    """
    return self._commit(state, jnp.zeros(())).weights

  def _commit(self, state, guard):
    s, r, name = self.sender, self.receiver, str(self.sender)
    night = state.night
    cleared = self.settings.sender_after_sleep == settings.CLEARED
    base = self._anchor(state) if cleared else night.sender_next
    active_NE = state.weights.active_NE
    params = dict(base)
    if self.settings.into == settings.EXPERT:
      slots = self.model.config.levels[r - 1].slots
      slot = jnp.argmin(active_NE[r - 1, :slots])
      active_NE = active_NE.at[r - 1, slot].set(1)
      params |= experts.set_expert(state.weights, r, slot, night.fresh[str(r)])
    else:
      params |= night.fresh[str(r)]
    age_groups = dict(state.replay)
    if buffer.day_group(s) in age_groups:
      age_group = age_groups[buffer.day_group(s)]
      age_groups[buffer.day_group(s)] = age_group.replace(
        count=jnp.zeros_like(age_group.count)
      )
    state = state.replace(
      woke_N=state.woke_N.at[s].set(state.step),
      guard_N=state.guard_N.at[s].set(guard),
      replay=age_groups,
    )
    if s:
      params |= self._reset_bank(state)
      active_NE = active_NE.at[s - 1].set(0)
    if self.wake_tx is not None:
      opt = self.wake_tx.init(base) if cleared else night.opt_next
      state = state.replace(
        opt=state.opt | {name: opt}, anchor=state.anchor | {name: base}
      )
    weights = state.weights.with_params(params).replace(active_NE=active_NE)
    return self._end_night(state).replace(weights=weights)

  def _discard(self, state):
    if self.wake_tx is not None:
      night = state.night
      state = state.replace(
        weights=state.weights.with_params(night.sender_next),
        opt=state.opt | {str(self.sender): night.opt_next},
      )
    return self._end_night(state)

  def _end_night(self, state):
    sums = state.sums
    if self.wake_tx is not None:
      name = str(self.sender)
      sums = sums | {name: jax.tree.map(jnp.zeros_like, sums[name])}
    return state.replace(sums=sums, night=None)

  def _reset_bank(self, state):
    """Returns the sender's bank as freshly initialised: synaptic pruning."""
    key = self.key(state, _RESET_BANK)
    return experts.init_bank(self.model.config, self.sender, key)

  def _copy_sender(self, state, fresh, sender_next):
    """Returns the fresh expert with units of the sender's MLP and experts."""
    pools = []
    if sender_next:
      pools.append(copied_units.of_mlp(sender_next, self.sender))
    if slots := self.model.config.levels[self.sender - 1].slots:
      bank = self.model.bank(state.weights, self.sender)
      active_E = state.weights.active_NE[self.sender - 1, :slots]
      pools.append(copied_units.of_slots(bank, active_E))
    ((level, expert),) = fresh.items()
    return {level: copied_units.copy(expert, *pools)}

  def _anchor(self, state):
    return state.anchor.get(str(self.sender), {})

  def _experts_off(self, weights):
    if not self.sender:
      return weights
    active_NE = weights.active_NE.at[self.sender - 1].set(0)
    return weights.replace(active_NE=active_NE)

  def key(self, state: State, count: Array | int) -> Array:
    """Returns a key of this sender at this step; `count` tells uses apart."""
    key = jax.random.fold_in(state.key, state.step)
    return jax.random.fold_in(jax.random.fold_in(key, self.sender), count)
