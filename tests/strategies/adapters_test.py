"""Strategies that train one adapter per day: merged, or kept orthogonal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.runs import reviews
from sleep_jax.schedule import events
from sleep_jax.strategies import merge, olora
from tests import testing
from tests.strategies import methods


def _adapter(seed):
  random = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
  return {'w': {'a': draw(2, 6, 3), 'b': draw(2, 3, 5)}}


def test_the_running_mean_is_the_mean_of_all_products():
  mean = {'w': jnp.zeros((2, 6, 5))}
  for count in range(4):
    mean = merge.add_to_mean(mean, _adapter(count), jnp.int32(count))
  products = [
    low['a'] @ low['b'] for low in (_adapter(n)['w'] for n in range(4))
  ]
  np.testing.assert_allclose(mean['w'], np.mean(products, 0), atol=1e-5)


def test_a_merged_model_is_the_initial_one_plus_the_mean_of_its_adapters():
  made = methods.Made(merge.make(2), rank=2)
  state, products = made.state, []
  for number in range(2):
    state = made.finish(state.replace(step=jnp.int32(number)), events.START)
    initial = made.weights.params
    assert all(
      testing.same(state.weights.params[p], initial[p]) for p in initial
    )  # Each adapter begins at the initial model,
    testing.close(  # and adds nothing at first.
      made.outputs(state.weights), made.outputs(made.weights), 1e-5
    )
    by = 0.1 * (number + 1)
    trained = jax.tree.map(lambda x, by=by: x + by, state.weights.adapter)
    state = state.replace(weights=state.weights.replace(adapter=trained))
    products.append({p: low['a'] @ low['b'] for p, low in trained.items()})
    state = made.finish(state, events.END)
  for path, product in products[0].items():
    expected = initial[path] + (product + products[1][path]) / 2
    np.testing.assert_allclose(
      state.weights.params[path], expected, rtol=1e-5, atol=1e-5
    )
    assert not np.asarray(state.weights.adapter[path]['b']).any()


def test_adapters_of_two_days_start_from_different_random_factors():
  made = methods.Made(merge.make(2), rank=2)
  first, second = (
    made.finish(made.state.replace(step=jnp.int32(step)), events.START)
    for step in (0, 4)
  )
  for path, low in first.weights.adapter.items():
    assert not testing.same(low['a'], second.weights.adapter[path]['a'])


def test_the_overlap_is_zero_for_orthogonal_factors():
  basis = jnp.eye(6)[None]
  past = {'w': {'a': jnp.stack([basis[..., :2], basis[..., 2:4]])}}
  new = {'w': {'a': basis[..., 4:], 'b': jnp.zeros((1, 2, 5))}}
  assert float(olora.overlap(new, past)) == 0
  # Half of column 1 of the first task and of column 3 of the second.
  mixed = basis[..., 4:].at[0, 1, 0].set(-0.5).at[0, 3, 1].set(0.25)
  new['w']['a'] = mixed
  assert float(olora.overlap(new, past)) == pytest.approx(0.75)


def test_a_finished_adapter_computes_the_same_and_is_then_avoided():
  made = methods.Made(olora.make(2), rank=2, tasks=3)
  batch = testing.batch()
  assert float(made.penalty(made.state, batch)) == 0  # Nothing to avoid yet.
  adapter = jax.tree.map(lambda x: x + 0.05, made.state.weights.adapter)
  state = made.state.replace(
    weights=made.state.weights.replace(adapter=adapter)
  )
  after = made.finish(state, events.END)
  testing.close(made.outputs(after.weights), made.outputs(state.weights), 1e-3)
  again = after.replace(weights=after.weights.replace(adapter=adapter))
  own = sum(
    float(jnp.abs(jnp.einsum('ldr,lds->lrs', low['a'], low['a'])).sum())
    for low in adapter.values()
  )
  found = float(made.penalty(again, batch))
  assert found == pytest.approx(0.5 * own, rel=1e-4)


def test_a_run_of_more_experiences_than_there_is_room_for_is_refused():
  class Context:
    """A run of three experiences."""

    name = 'olora'
    plan = [events.Event(events.REVIEW, 0, number, 1) for number in (1, 2, 3)]

    def __init__(self, tasks):
      self.program = methods.Made(olora.make(2), rank=2, tasks=tasks)

  reviews.check_room(Context(3))
  with pytest.raises(errors.ConfigError, match='tasks is 2, .* 3 experiences'):
    reviews.check_room(Context(2))
