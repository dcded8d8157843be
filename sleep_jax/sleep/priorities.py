"""Choosing: which rehearsals an update reads.

Those from which the student was still far when it last read them come more
often, so that an update is not spent on what is known by heart.

References: prioritised replay, 1511.05952, without its correction: the mean is
meant to lean on what is not yet learned.
"""

import jax
import jax.numpy as jnp

from sleep_jax import state, types
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
_NEAR = 1e-4  # Nats per token: no sequence is left out for good.


def welcomed(
  night: state.Night, settings: settings_lib.Settings
) -> dict[str, Array]:
  """Priorities in which what was just written comes first."""
  first, found = night.update // settings.updates_per_round, {}
  for teacher in settings.teachers:
    known_M, n = night.priorities[teacher.name], teacher.draws
    old_M = jnp.arange(len(known_M)) < first * n
    most = jnp.max(jnp.where(old_M, known_M, 0), initial=0)
    most = jnp.full((n,), jnp.where(first > 0, most, 1.0))
    found[teacher.name] = jax.lax.dynamic_update_slice_in_dim(
      known_M, most, first * n, 0
    )
  return found


def choose(
  pools: dict[str, types.Rollout],
  rollouts: dict[str, types.Rollout],
  priorities: dict[str, Array],
  key: Array,
  settings: settings_lib.Settings,
  *,
  valid: Array,
  own: Array,
) -> tuple[dict[str, types.Rollout], dict[str, Array]]:
  """Rows of one update: each teacher's, some of them by the student.

  Args:
    pools, rollouts, priorities: see `state.Night`.
    key: consumed.
    settings: of the night.
    valid: rounds whose sequences stand in the pools.
    own: whether the student writes yet.

  Returns:
    The rows, and where those that a teacher wrote stand in its pool; the
    others stand beyond its end.
  """
  rows, places = {}, {}
  for number, teacher in enumerate(settings.teachers):
    keys = jax.random.split(jax.random.fold_in(key, number), 3)
    n = teacher.sequences
    weight_M = jnp.maximum(priorities[teacher.name], _NEAR) ** settings.priority
    theirs_B = drawn(weight_M, valid * teacher.draws, keys[0], num=n)
    # Else the student's rows would always take the place of the oldest.
    theirs_B = jax.random.permutation(keys[2], theirs_B)
    places[teacher.name] = theirs_B
    chosen = jax.tree.map(lambda x, i=theirs_B: x[i], pools[teacher.name])
    num_own = round(n * settings.on_policy)
    if num_own:
      mine_B = jax.random.randint(keys[1], (n,), 0, teacher.draws)
      swap_B = own & (jnp.arange(n) < num_own)
      nowhere = len(priorities[teacher.name])
      places[teacher.name] = jnp.where(swap_B, nowhere, theirs_B)
      chosen = jax.tree.map(
        lambda x, y, i=mine_B, b=swap_B: where(b, y[i], x),
        chosen,
        rollouts[teacher.name],
      )
    rows[teacher.name] = chosen
  return rows, places


def drawn(weight_M: Array, valid: Array, key: Array, *, num: int) -> Array:
  """`num` places below `valid`, as often as they weigh, spread out evenly."""
  weight_M = jnp.where(jnp.arange(len(weight_M)) < valid, weight_M, 0)
  upto_M = jnp.cumsum(weight_M)
  at_B = (jnp.arange(num) + jax.random.uniform(key, (num,))) / num
  place_B = jnp.searchsorted(upto_M, at_B * upto_M[-1], side='right')
  return jnp.minimum(place_B, valid - 1).astype(jnp.int32)


def where(condition, yes, no):
  """Select that also takes typed keys and a condition per row."""
  if jnp.issubdtype(yes.dtype, jax.dtypes.prng_key):
    return yes
  extra = yes.ndim - jnp.ndim(condition)
  return jnp.where(jnp.reshape(condition, (*condition.shape, *[1] * extra)),
                   yes, no)  # fmt: skip
