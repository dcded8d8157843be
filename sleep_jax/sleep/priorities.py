"""Priorities: selects the rehearsals that an update reads.

A sequence is drawn in proportion to a power of the student's divergence when
it was last read, so that updates are not spent on sequences that the student
already predicts like its teacher.

References: prioritised replay, 1511.05952, without its importance correction:
the weighted mean is intended to favour what is not yet learned.
"""

import jax
import jax.numpy as jnp

from sleep_jax import state, types
from sleep_jax.replay import even_draws
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
_MIN_PRIORITY = 1e-4  # Nats per token; keeps every sequence drawable.


def with_new_rollouts(
  night: state.Night, settings: settings_lib.Settings
) -> dict[str, Array]:
  """Returns the priorities, with this round's sequences at the maximum.

  A new sequence gets the largest divergence of its teacher's earlier ones; in
  the first round all get 1.
  """
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


def choose_rows(
  pools: dict[str, types.Rollout],
  rollouts: dict[str, types.Rollout],
  priorities: dict[str, Array],
  key: Array,
  settings: settings_lib.Settings,
  *,
  num_rounds: Array,
  on_policy: Array,
) -> tuple[dict[str, types.Rollout], dict[str, Array]]:
  """Chooses the rows of one update, for each teacher.

  Args:
    pools, rollouts, priorities: see `state.Night`.
    key: consumed.
    settings: of the night.
    num_rounds: number of rounds whose sequences are in the pools.
    on_policy: whether the student has written sequences yet. If so, the share
      `settings.on_policy` of each teacher's rows are the student's.

  Returns:
    The rows and, for those that a teacher wrote, their places in its pool; the
    student's rows have a place beyond its end.
  """
  rows, places = {}, {}
  for number, teacher in enumerate(settings.teachers):
    keys = jax.random.split(jax.random.fold_in(key, number))
    n = teacher.sequences
    weight_M = priorities[teacher.name]
    weight_M = jnp.maximum(weight_M, _MIN_PRIORITY) ** settings.priority
    is_written_M = jnp.arange(len(weight_M)) < num_rounds * teacher.draws
    teacher_B = even_draws.draw(weight_M * is_written_M, keys[0], num=n)
    places[teacher.name] = teacher_B
    chosen = jax.tree.map(lambda x, i=teacher_B: x[i], pools[teacher.name])
    num_student = round(n * settings.on_policy)
    if num_student:
      student_B = jax.random.randint(keys[1], (n,), 0, teacher.draws)
      swap_B = on_policy & (jnp.arange(n) < num_student)
      beyond = len(priorities[teacher.name])
      places[teacher.name] = jnp.where(swap_B, beyond, teacher_B)
      chosen = jax.tree.map(
        lambda x, y, i=student_B, b=swap_B: where(b, y[i], x),
        chosen,
        rollouts[teacher.name],
      )
    rows[teacher.name] = chosen
  return rows, places


def where(condition, yes, no):
  """Selects like `jnp.where`, for a condition per row.

  Typed keys cannot be selected: of those, `yes` is returned.
  """
  if jnp.issubdtype(yes.dtype, jax.dtypes.prng_key):
    return yes
  extra = yes.ndim - jnp.ndim(condition)
  return jnp.where(jnp.reshape(condition, (*condition.shape, *[1] * extra)),
                   yes, no)  # fmt: skip
