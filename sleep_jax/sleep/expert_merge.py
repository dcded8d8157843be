"""Makes room in a full bank: merges two experts, or absorbs all of them.

A merge is a seeding whose teacher has both experts switched on and whose
student has one fresh expert in their place. The similarity of two experts is
the cosine of their outputs on the same rehearsals. An absorption trains the
base of the level instead, and empties the bank.

References: 2606.03979 v2 section 3.3 leaves a full bank open; docs/method.md,
"Experts".
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.model import experts
from sleep_jax.replay import buffer
from sleep_jax.sleep import copied_units, phase, seeding
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
State = state_lib.State
_FOLD = 2**30  # Separates the keys from those of the night that follows.


@dataclasses.dataclass(frozen=True)
class SlotRelease(seeding.Seeding):
  """Frees slots in the receiver's bank before a sender's night.

  Attributes:
    night: of the sender. Meanwhile the sender is as at its last waking, so what
      it learned since does not affect the result.
  """

  night: phase.Consolidation

  @abc.abstractmethod
  def fall_asleep(self, state: State) -> State:
    """Returns the state with `night` set."""

  @abc.abstractmethod
  def wake_up(self, state: State) -> State:
    """Commits the night, with free slots in the bank."""

  def teacher(self, state: State, name: str) -> types.Weights:
    """Returns the model with the whole bank switched on."""
    del name
    return self.night.anchor_weights(state)

  def prompt_window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    del prompts
    woke = state.woke_N[self.night.sender]
    return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), woke

  def key(self, state: State, count: Array | int) -> Array:
    return jax.random.fold_in(self.night.key(state, count), _FOLD)


@dataclasses.dataclass(frozen=True)
class Merge(SlotRelease):
  """Frees one slot: two experts become one."""

  def fall_asleep(self, state: State) -> State:
    """Chooses the pair of experts and initialises a fresh one."""
    r = self.night.receiver
    fresh = self.model.init_expert(self.key(state, 0), r)
    state = state.replace(
      night=self.empty_night(
        state,
        fresh,
        sender_next={},
        opt_next=(),
        pair_2=jnp.zeros((2,), jnp.int32),
      )
    )
    teacher = self.settings.teachers[0]
    rollout = self.sample_rollouts(state, teacher, self.key(state, 1))
    pair_2 = most_similar_pair(self.similarity(state, rollout))
    if self.settings.start == settings_lib.SENDER:
      bank = self.model.bank(state.weights, r)
      active_E = state.weights.active_NE[r - 1, : bank['A'].shape[1]]
      both = copied_units.of_slots(bank, active_E, pair_2)
      fresh = {str(r): copied_units.copy(fresh[str(r)], both)}
    return state.replace(night=state.night.replace(fresh=fresh, pair_2=pair_2))

  def similarity(self, state: State, rollout: types.Rollout) -> Array:
    """Returns cosines of the experts' outputs, `[E, E]`; -1 if masked."""
    r, weights = self.night.receiver, self.night.anchor_weights(state)
    tokens, segments, positions = types.model_inputs(
      rollout.tokens_BT, rollout.length_B
    )
    active_E = weights.active_NE[r - 1, : self.model.config.levels[r - 1].slots]

    def products(gates_BTE, y_BTED):
      del gates_BTE
      y_BTED = jnp.where((segments > 0)[..., None, None], y_BTED, 0)
      return jnp.einsum(
        'bted,btfd->ef', y_BTED, y_BTED, preferred_element_type=jnp.float32
      )

    rows = (tokens, segments, positions)
    products_LEE = self.model.map_expert_outputs(weights, *rows, r, products)
    products_EE = jnp.sum(products_LEE, 0)
    norm_E = jnp.sqrt(jnp.maximum(jnp.diag(products_EE), 1e-12))
    both_EE = (active_E[:, None] * active_E[None]) > 0
    return jnp.where(both_EE, products_EE / jnp.outer(norm_E, norm_E), -1.0)

  def student(self, state: State) -> types.Weights:
    """Returns the model with the fresh expert in place of both."""
    weights = self.night.anchor_weights(state)
    r, pair_2 = self.night.receiver, state.night.pair_2
    return weights.replace(
      active_NE=weights.active_NE.at[r - 1, pair_2].set(0),
      fresh=state.night.fresh,
    )

  def wake_up(self, state: State) -> State:
    """Commits: the merged expert takes the first slot, the second is freed."""
    r, (slot, free) = self.night.receiver, state.night.pair_2
    fresh = state.night.fresh[str(r)]
    params = experts.set_expert(state.weights, r, slot, fresh)
    unused = self.model.init_expert(self.key(state, 2), r)[str(r)]
    weights = state.weights.with_params(params)
    params |= experts.set_expert(weights, r, free, unused)
    active_NE = state.weights.active_NE.at[r - 1, free].set(0)
    return state.replace(
      weights=weights.with_params(params).replace(active_NE=active_NE),
      night=None,
    )


@dataclasses.dataclass(frozen=True)
class Absorption(SlotRelease):
  """Frees all slots: the whole bank goes into the base of its level.

  The student is the model with the bank switched off, and what is trained is
  the MLP of the slowest level. So a chain of levels never has a last night.
  """

  def fall_asleep(self, state: State) -> State:
    """Copies the base of the receiver, which is trained."""
    r = self.night.receiver
    base = experts.base_of_level(state.weights.params, r)
    fresh = {str(r): jax.tree.map(jnp.copy, base)}
    night = self.empty_night(state, fresh, sender_next={}, opt_next=())
    return state.replace(night=night)

  def student(self, state: State) -> types.Weights:
    """Returns the model with the trained base in place of the whole bank."""
    r, weights = self.night.receiver, self.night.anchor_weights(state)
    weights = weights.replace(active_NE=weights.active_NE.at[r - 1].set(0))
    return weights.with_params(state.night.fresh[str(r)])

  def wake_up(self, state: State) -> State:
    """Commits: the base has what the bank had, and all slots are free."""
    r = self.night.receiver
    params = state.night.fresh[str(r)] | experts.init_bank(
      self.model.config, r, self.key(state, 2)
    )
    active_NE = state.weights.active_NE.at[r - 1].set(0)
    weights = state.weights.with_params(params).replace(active_NE=active_NE)
    return state.replace(weights=weights, night=None)


def most_similar_pair(cosine_EE: Array) -> Array:
  """Returns the two different slots of largest cosine, lower first, `[2]`."""
  E = cosine_EE.shape[0]
  above_EE = jnp.triu(jnp.ones((E, E), bool), 1)
  best = jnp.argmax(jnp.where(above_EE, cosine_EE, -jnp.inf))
  return jnp.stack([best // E, best % E]).astype(jnp.int32)


def merge_settings(night: settings_lib.Settings) -> settings_lib.Settings:
  """Returns the settings of a merge: no prompts of a day, no imitation.

  Args:
    night: settings of a consolidation; the first teacher on 'old' prompts
      gives the number of sequences. The initial model's own texts stay.

  Raises:
    ConfigError: no teacher of the night has old prompts.
  """
  old = [t for t in night.teachers if t.prompts == 'old']
  if not old:
    raise errors.ConfigError(
      f'consolidate.full is {night.full!r}, but no entry of '
      "consolidate.teachers has prompts 'old', which it rehearses. Add one, or "
      "set full to 'error'."
    )
  return dataclasses.replace(
    night,
    teachers=(
      dataclasses.replace(old[0], teacher='both'),
      *(t for t in night.teachers if not t.writes),
    ),
    imitation=dataclasses.replace(night.imitation, alpha=1.0),
  )


def absorption_settings(
  night: settings_lib.Settings,
) -> settings_lib.Settings:
  """Returns the settings of an absorption.

  Args:
    night: settings of a consolidation, see `merge_settings`.
  """
  settings = merge_settings(night)
  return dataclasses.replace(settings, into=settings_lib.BASE)
