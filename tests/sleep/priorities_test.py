"""Tests of the priorities of newly written sequences."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax.sleep import priorities
from tests.sleep import nights


def test_new_sequences_have_the_largest_priority():
  """That of the largest so far; 1 in the first round."""
  night = nights.make_consolidation(priority=1.0, on_policy=0.0)
  state = jax.jit(night.fall_asleep)(nights.awake_state())
  known = {
    t.name: jnp.ones((night.settings.rounds * t.draws,))
    .at[: t.draws]
    .set(jnp.linspace(0.1, 0.3, t.draws))
    for t in night.settings.teachers
  }
  for update, expected in ((0, 1.0), (night.settings.updates_per_round, 0.3)):
    asleep = state.night.replace(update=jnp.int32(update), priorities=known)
    updated = priorities.with_new_rollouts(asleep, night.settings)
    for teacher in night.settings.teachers:
      n = teacher.draws
      start = n * (update // night.settings.updates_per_round)
      new = np.asarray(updated[teacher.name])
      np.testing.assert_allclose(new[start : start + n], expected)
      before = np.asarray(known[teacher.name])[:start]
      np.testing.assert_array_equal(new[:start], before)
