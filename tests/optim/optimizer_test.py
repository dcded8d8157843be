"""Tests of parameter owners and optimizers."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax.optim import optimizer
from tests import testing


@pytest.mark.parametrize('arrangement', ['sequential', 'independent'])
def test_every_parameter_has_exactly_one_owner(arrangement):
  model = testing.tiny((1, 2), (2, 4), arrangement=arrangement)
  params = testing.weights(model).params
  owners = ('core', '1', '2', 'expert')
  parts = [optimizer.select_owned(params, (o,), num_levels=3) for o in owners]
  assert sum(len(part) for part in parts) == len(params)
  assert set().union(*parts) == set(params)
  core, first, second, bank = parts
  assert all('levels/1/base' in path for path in first)
  assert all('levels/2/base' in path for path in second)
  assert all('experts/' in path for path in bank)
  # The slowest level is the MLP of the block itself.
  assert {p for p in params if 'levels/3/base' in p} <= set(core)
  assert {'embed', 'norm/scale'} <= set(core)
  norms = {p for p in first if p.endswith('norm/scale')}
  assert bool(norms) == (arrangement == 'sequential')


def _run_updates(tx, grads, start=1.0):
  params = {'x': jnp.full((2,), start)}
  state, values = tx.init(params), []
  for grad in grads:
    updates, state = tx.update({'x': jnp.asarray(grad)}, state, params)
    params = optax.apply_updates(params, updates)
    values.append(np.asarray(params['x']))
  return values


def test_the_first_update_is_the_learning_rate_against_the_gradient():
  values = _run_updates(optimizer.make(learning_rate=0.01), [[0.2, -0.3]])
  np.testing.assert_allclose(values[0], [0.99, 1.01], atol=1e-5)


def test_a_learning_rate_of_0_changes_no_bit():
  tx = optimizer.make(learning_rate=0.0, weight_decay=0.1)
  for x in _run_updates(tx, [[0.2, -0.3]] * 3):
    np.testing.assert_array_equal(x, [1.0, 1.0])


def test_weight_decay_is_decoupled_from_the_gradient():
  tx = optimizer.make(learning_rate=0.1, weight_decay=0.5)
  np.testing.assert_allclose(_run_updates(tx, [[0.0, 0.0]])[0], [0.95, 0.95])


def test_the_learning_rate_follows_warmup_and_cosine_decay():
  tx = optimizer.make(
    learning_rate=1.0, warmup=2, decay_steps=6, final=0.1, clip=0.0
  )
  values = [np.float32([0, 0]), *_run_updates(tx, [[1.0, 1.0]] * 7, start=0.0)]
  rates = -np.diff([x[0] for x in values])
  cosine = lambda part: 0.1 + 0.9 * (1 + np.cos(np.pi * part)) / 2
  expected = [0, 0.5, 1, cosine(0.25), cosine(0.5), cosine(0.75), 0.1]
  np.testing.assert_allclose(rates, expected, atol=2e-3)


def test_clipping_is_by_the_global_norm_of_the_owner():
  # The direction is kept and the norm is clipped from 50 to 1.
  tx = optimizer.make(learning_rate=1.0, clip=1.0)
  initial = tx.init({'x': jnp.zeros(2)})
  _, state = tx.update(
    {'x': jnp.array([30.0, 40.0])}, initial, {'x': jnp.zeros(2)}
  )
  moments = optax.tree.get(state, 'mu')['x']
  np.testing.assert_allclose(moments, [0.06, 0.08], rtol=1e-5)
  tx = optimizer.make(learning_rate=1.0, clip=0.0)
  _, state = tx.update(
    {'x': jnp.array([30.0, 40.0])}, initial, {'x': jnp.zeros(2)}
  )
  moments = optax.tree.get(state, 'mu')['x']
  np.testing.assert_allclose(moments, [3.0, 4.0], rtol=1e-5)


@pytest.mark.parametrize(
  'share, layers',
  [((0.25, 0.75), [1, 2]), ((0.0, 0.1), [0]), ((1.0, 1.0), [3])],
)
def test_only_some_layers_are_updated(share, layers):
  """The others keep every bit, and do not count for clipping or decay."""
  make = lambda: optimizer.make(learning_rate=0.1, weight_decay=0.5, clip=1.0)
  random = np.random.default_rng(0)
  whole = {
    'a': jnp.asarray(random.normal(size=(4, 2, 3)), 'f4'),
    'b': jnp.asarray(random.normal(size=(4, 5)), 'f4'),
  }
  grads = {name: 3 * leaf + 1 for name, leaf in whole.items()}
  part = lambda tree: {
    name: leaf[np.array(layers)] for name, leaf in tree.items()
  }
  tx = optimizer.only_layers(make(), *share)
  found, _ = optimizer.update(tx, whole, tx.init(whole), grads)
  tx = make()
  expected, _ = optimizer.update(
    tx, part(whole), tx.init(part(whole)), part(grads)
  )
  others = np.array([n for n in range(4) if n not in layers])
  for name, leaf in found.items():
    np.testing.assert_allclose(part(found)[name], expected[name], rtol=1e-6)
    assert not np.array_equal(part(found)[name], part(whole)[name])
    np.testing.assert_array_equal(leaf[others], whole[name][others])
