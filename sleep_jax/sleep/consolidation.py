"""Consolidation: a level's day becomes one more expert of the next level.

Three programs make a night. `fall_asleep` computes the sender's due update
without applying it and draws a fresh expert; `seed`, called again and again,
lets the teachers write rehearsals and distils them into that expert alone;
`wake_up` commits all of it or nothing. Teachers and student share every array
but the sender's base and the fresh expert: no second model exists.

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
from sleep_jax.sleep import priorities, seeding, settings

Array = types.Array
State = state_lib.State
_PRUNE = 2**31 - 1  # Apart from every update number.


@dataclasses.dataclass(frozen=True)
class Consolidation(seeding.Seeding):
  """The three programs of one sender's night.

  Attributes:
    sender: level that sleeps, 1 = fastest; the receiver is the next one. 0 is
      the context window: it has nothing to move or to clear.
    wake_tx: the sender's optimizer awake; None for the context.
  """

  sender: int
  wake_tx: optax.GradientTransformation | None

  @property
  def receiver(self) -> int:
    return self.sender + 1

  def fall_asleep(self, state: State) -> State:
    """Compute: proposes the due update and lays out an empty night."""
    sender_next: types.Params = {}
    opt_next: Any = ()
    if self.sender:
      name = str(self.sender)
      base = base_of(state.weights.params, self.sender)
      sender_next, opt_next = optimizer.update(
        self.wake_tx, base, state.opt[name], state.sums[name]
      )
    if self.settings.into == settings.EXPERT:
      fresh = self.model.fresh(self.key(state, 0), self.receiver)
    else:
      own = base_of(state.weights.params, self.receiver)
      fresh = {str(self.receiver): jax.tree.map(jnp.copy, own)}
    return state.replace(
      night=self.lay_out(
        state, fresh, sender_next=sender_next, opt_next=opt_next
      )
    )

  def teacher(self, state: State, name: str) -> types.Weights:
    """The weights of a teacher; only the sender's base is its own."""
    if name == 'anchor':
      return self.morning(state)
    if name == 'next':
      return state.weights.with_params(state.night.sender_next)
    if name == 'average' and self.sender:
      return state.weights.with_params(state.average[str(self.sender)])
    return state.weights

  def student(self, state: State) -> types.Weights:
    """The larger self: sender as after the night, plus what is trained."""
    if self.settings.sender_after_sleep == settings.CLEARED:
      weights = self.morning(state)
    else:
      weights = self._experts_off(
        state.weights.with_params(state.night.sender_next)
      )
    if self.settings.into == settings.EXPERT:
      return weights.replace(fresh=state.night.fresh)
    return weights.with_params(state.night.fresh[str(self.receiver)])

  def morning(self, state: State) -> types.Weights:
    """The model with its sender as it woke from its last sleep."""
    return self._experts_off(state.weights.with_params(self._anchor(state)))

  def window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    woke = state.woke_N[self.sender]
    if prompts == 'old':
      return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), woke
    return (buffer.day(self.sender),), woke, state.step

  def wake_up(self, state: State, accept: Array, guard: Array) -> State:
    """Update: commits the whole night, or only the sender's due update.

    Args:
      accept: bool scalar; False discards the night.
      guard: f32 scalar, the guard's score to be remembered if accepted.
    """
    committed, discarded = self._commit(state, guard), self._discard(state)
    return jax.tree.map(
      lambda yes, no: priorities.where(accept, yes, no), committed, discarded
    )

  def committed(self, state: State) -> types.Weights:
    """What would wake up: its expert in the bank and under its selection."""
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
      params |= written_to(state.weights, r, slot, night.fresh[str(r)])
    else:
      params |= night.fresh[str(r)]
    age_groups = dict(state.replay)
    if buffer.day(s) in age_groups:
      age_group = age_groups[buffer.day(s)]
      age_groups[buffer.day(s)] = age_group.replace(
        count=jnp.zeros_like(age_group.count)
      )
    state = state.replace(
      woke_N=state.woke_N.at[s].set(state.step),
      guard_N=state.guard_N.at[s].set(guard),
      replay=age_groups,
    )
    if s:
      params |= self._redrawn(state)
      active_NE = active_NE.at[s - 1].set(0)
      opt = self.wake_tx.init(base) if cleared else night.opt_next
      state = state.replace(
        opt=state.opt | {name: opt}, anchor=state.anchor | {name: base}
      )
      if name in state.average:
        state = state.replace(average=state.average | {name: base})
    weights = state.weights.with_params(params).replace(active_NE=active_NE)
    return self._rested(state).replace(weights=weights)

  def _discard(self, state):
    if self.sender:
      night = state.night
      state = state.replace(
        weights=state.weights.with_params(night.sender_next),
        opt=state.opt | {str(self.sender): night.opt_next},
      )
    return self._rested(state)

  def _rested(self, state):
    sums = state.sums
    if self.sender:
      name = str(self.sender)
      sums = sums | {name: jax.tree.map(jnp.zeros_like, sums[name])}
    return state.replace(sums=sums, night=None)

  def _redrawn(self, state):
    """The sender's bank as new: synaptic pruning."""
    c, level = self.model.config, self.model.config.levels[self.sender - 1]
    if not level.slots:
      return {}
    num_layers = c.layers_of(self.sender)
    keys = jax.random.split(self.key(state, _PRUNE), (num_layers, level.slots))
    draw = lambda k: experts.init(k, c.width, level.rank, gate_bias=c.gate_bias)
    bank = jax.vmap(jax.vmap(draw))(keys)
    prefix = f'blocks/levels/{self.sender}/experts/'
    return {prefix + name: leaf for name, leaf in bank.items()}

  def _anchor(self, state):
    return state.anchor[str(self.sender)] if self.sender else {}

  def _experts_off(self, weights):
    if not self.sender:
      return weights
    active_NE = weights.active_NE.at[self.sender - 1].set(0)
    return weights.replace(active_NE=active_NE)

  def key(self, state: State, count: Array | int) -> Array:
    key = jax.random.fold_in(state.key, state.step)
    return jax.random.fold_in(jax.random.fold_in(key, self.sender), count)


def base_of(params: types.Params, level: int) -> types.Params:
  """A level's base: its MLP, and its norm in a chain."""
  prefix = f'blocks/levels/{level}/base/'
  return {p: leaf for p, leaf in params.items() if p.startswith(prefix)}


def written_to(
  weights: types.Weights, level: int, slot: Array, expert: types.Params
) -> types.Params:
  """A level's bank with one slot overwritten by an expert."""
  prefix = f'blocks/levels/{level}/experts/'
  return {
    prefix + name: weights.params[prefix + name].at[:, slot].set(leaf)
    for name, leaf in expert.items()
  }
