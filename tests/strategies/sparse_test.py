"""Sparse updates: only the units most specific to the new rows change."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax.schedule import events
from sleep_jax.strategies import sparse
from tests import testing
from tests.strategies import methods


def test_a_token_uses_its_units_of_largest_magnitude():
  hidden_BTF = jnp.asarray(
    [[[1.0, -5, 2, 0], [0, 3, -4, 1]], [[9, 8, 0, 0], [7, 1, 6, 0]]]
  )
  valid_BT = jnp.asarray([[1, 1], [1, 0]])
  tokens_F, rows_F = sparse.count_uses(hidden_BTF, valid_BT, 2)
  np.testing.assert_array_equal(tokens_F, [1, 3, 2, 0])
  np.testing.assert_array_equal(rows_F, [1, 2, 1, 0])


def test_units_that_old_rows_use_score_lower():
  tokens_LF = jnp.asarray([[10.0, 10, 5, 0]])
  old_rows_LF = jnp.asarray([[100.0, 0, 0, 0]])
  score_LF = sparse.scores(tokens_LF, old_rows_LF, jnp.float32(100))
  expected = np.array([[0, 0.4, 0.2, 0]]) * np.log(101)
  np.testing.assert_allclose(score_LF, expected, rtol=1e-5)
  np.testing.assert_array_equal(sparse.choose(score_LF, 2), [[0, 1, 1, 0]])


def test_without_old_rows_the_most_frequent_units_are_chosen():
  score_LF = sparse.scores(
    jnp.asarray([[1.0, 4, 5]]), jnp.zeros((1, 3)), jnp.float32(0)
  )
  np.testing.assert_array_equal(sparse.choose(score_LF, 1), [[0, 0, 1]])


def test_a_step_changes_the_weights_of_the_chosen_units_only():
  made = methods.Made(sparse.make(2), units=0.25, used=0.25)
  state, counts = jax.jit(made.method.read)(made.state, testing.batch(1))
  assert int(counts['forward']) > 0 == int(counts['tokens'])
  state = made.finish(state, events.INITIAL)
  state, _ = jax.jit(made.method.read)(state, testing.batch(2))
  state = made.finish(state, events.START)
  assert int(state.strategy['num_old']) == 2 * testing.ROWS
  step = lambda state, batch, held: (methods.moved(state), {})
  after, _ = sparse.make(2).wrap(step)(state, testing.batch(2), {})
  ones = {
    path: np.ones_like(leaf)
    for path, leaf in state.weights.params.items() if '/mlp/' in path
  }  # fmt: skip
  grads, _ = made.method.transform(state, testing.batch(2), ones)
  for mlp, own in state.strategy['units'].items():
    chosen_LF = np.asarray(own['chosen_LF']) > 0
    np.testing.assert_array_equal(chosen_LF.sum(1), 4)  # Of 16.
    for name, axis in (('gate', 1), ('up', 1), ('down', 2)):
      path = f'{mlp}/{name}'
      old, new = (s.weights.params[path] for s in (state, after))
      changed_LF = np.asarray(old != new).any(axis)
      np.testing.assert_array_equal(changed_LF, chosen_LF)
      kept_LF = np.asarray(grads[path]).any(axis)
      np.testing.assert_array_equal(kept_LF, chosen_LF)
