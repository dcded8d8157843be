"""Merging: when a bank is full, its two most alike experts become one.

A seeding like any other, whose teacher has both experts on and whose student
has one fresh one in their place. Alike are experts that add much the same to
the same text: the cosine of their outputs on rehearsals.

References: 2606.03979 v2 section 3.3 leaves a full bank open; docs/method.md,
"Experts".
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.model import transformer
from sleep_jax.replay import buffer
from sleep_jax.sleep import consolidation, seeding
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
State = state_lib.State
_APART = 2**30  # From the keys of the night that follows.


@dataclasses.dataclass(frozen=True)
class Merge(seeding.Seeding):
  """Makes room in a receiver's bank, on the eve of a sender's night.

  Attributes:
    night: of the sender; the sender stands as it woke while its receiver's
      experts are merged, so the day does not colour them.
  """

  night: consolidation.Consolidation

  def fall_asleep(self, state: State) -> State:
    """Chooses the pair and lays out an empty night."""
    r = self.night.receiver
    fresh = self.model.fresh(self.key(state, 0), r)
    state = state.replace(
      night=self.lay_out(
        state,
        fresh,
        sender_next={},
        opt_next=(),
        pair_2=jnp.zeros((2,), jnp.int32),
      )
    )
    (teacher,) = self.settings.teachers
    written = self.written(state, teacher, self.key(state, 1))
    pair_2 = most_alike(self.likeness(state, written))
    return state.replace(night=state.night.replace(pair_2=pair_2))

  def likeness(self, state: State, written: types.Rollout) -> Array:
    """Cosines `[E, E]` of what the experts add; -1 where a slot is masked."""
    r, weights = self.night.receiver, self.night.morning(state)
    tokens, segments, positions = transformer.rows(
      written.tokens_BT, written.length_B
    )
    active_E = weights.active_NE[r - 1, : self.model.config.levels[r - 1].slots]

    def products(gates_BTE, y_BTED):
      del gates_BTE
      y_BTED = jnp.where((segments > 0)[..., None, None], y_BTED, 0)
      return jnp.einsum('bted,btfd->ef', y_BTED, y_BTED)

    rows = (tokens, segments, positions)
    products_LEE = self.model.additions(weights, *rows, r, products)
    products_EE = jnp.sum(products_LEE, 0)
    norm_E = jnp.sqrt(jnp.maximum(jnp.diag(products_EE), 1e-12))
    both_EE = (active_E[:, None] * active_E[None]) > 0
    return jnp.where(both_EE, products_EE / jnp.outer(norm_E, norm_E), -1.0)

  def teacher(self, state: State, name: str) -> types.Weights:
    """The model with both experts on."""
    del name
    return self.night.morning(state)

  def student(self, state: State) -> types.Weights:
    """The model with the fresh expert in the place of both."""
    weights = self.night.morning(state)
    r, pair_2 = self.night.receiver, state.night.pair_2
    return weights.replace(
      active_NE=weights.active_NE.at[r - 1, pair_2].set(0),
      fresh=state.night.fresh,
    )

  def centred(self, state: State, pools: dict) -> dict[str, types.Params]:
    """The fresh expert with its centroid: between those of the two."""
    del pools
    r, night = self.night.receiver, state.night
    router_LED = self.model.bank(state.weights, r)['router']
    centre_LD = jnp.mean(router_LED[:, night.pair_2], 1)
    return {str(r): {**night.fresh[str(r)], 'router': centre_LD}}

  def window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    del prompts
    woke = state.woke_N[self.night.sender]
    return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), woke

  def key(self, state: State, count: Array | int) -> Array:
    return jax.random.fold_in(self.night.key(state, count), _APART)

  def wake_up(self, state: State) -> State:
    """Commits: the first slot holds the merged expert, the second is free."""
    r, (slot, free) = self.night.receiver, state.night.pair_2
    fresh = state.night.fresh[str(r)]
    params = consolidation.written_to(state.weights, r, slot, fresh)
    blank = self.model.fresh(self.key(state, 2), r)[str(r)]
    weights = state.weights.with_params(params)
    params |= consolidation.written_to(weights, r, free, blank)
    active_NE = state.weights.active_NE.at[r - 1, free].set(0)
    return state.replace(
      weights=weights.with_params(params).replace(active_NE=active_NE),
      night=None,
    )


def most_alike(cosine_EE: Array) -> Array:
  """The two different slots of the largest cosine, the lower first: `[2]`."""
  E = cosine_EE.shape[0]
  above_EE = jnp.triu(jnp.ones((E, E), bool), 1)
  best = jnp.argmax(jnp.where(above_EE, cosine_EE, -jnp.inf))
  return jnp.stack([best // E, best % E]).astype(jnp.int32)


def settings(night: settings_lib.Settings) -> settings_lib.Settings:
  """A merge is a night on old prompts alone, without imitation.

  Raises:
    ValueError: no teacher of the night has old prompts.
  """
  old = [t for t in night.teachers if t.prompts == 'old']
  if not old:
    raise ValueError(
      "consolidate.full is 'merge', but no entry of consolidate.teachers has "
      "prompts 'old': a merge rehearses those. Add one, or set full to 'error'."
    )
  return dataclasses.replace(
    night,
    teachers=(dataclasses.replace(old[0], teacher='both'),),
    imitation=dataclasses.replace(night.imitation, alpha=1.0),
  )
