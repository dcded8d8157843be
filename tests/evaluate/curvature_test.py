"""Second-order damage equals the closed form of a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.evaluate import curvature


def _quadratic(seed=0):
  rng = np.random.default_rng(seed)
  root = rng.normal(size=(5, 5))
  matrix = jnp.asarray(root @ root.T, jnp.float32)
  linear = jnp.asarray(rng.normal(size=5), jnp.float32)

  def loss(params):
    x = jnp.concatenate([params['a'], params['b']])
    return 0.5 * x @ matrix @ x + linear @ x

  return loss, np.asarray(matrix), np.asarray(linear)


def _tree(values):
  values = jnp.asarray(values, jnp.float32)
  return {'a': values[:2], 'b': values[2:]}


def test_the_damage_of_a_quadratic_is_its_closed_form():
  loss, matrix, linear = _quadratic()
  params, delta = np.arange(5.0), np.array([0.3, -0.2, 0.1, 0.0, 0.5])
  found = curvature.damage(loss, _tree(params), _tree(delta))
  first = (matrix @ params + linear) @ delta
  second = 0.5 * delta @ matrix @ delta
  assert found['first_order'] == pytest.approx(first, rel=1e-4)
  assert found['second_order'] == pytest.approx(second, rel=1e-4)
  assert found['measured'] == pytest.approx(first + second, rel=1e-3)


def test_at_a_minimum_the_second_order_is_all_of_the_damage():
  loss, matrix, linear = _quadratic()
  minimum = -np.linalg.solve(matrix.astype(np.float64), linear)
  found = curvature.damage(loss, _tree(minimum), _tree(np.ones(5)))
  assert abs(found['first_order']) < 1e-3 * found['second_order']
  assert found['measured'] == pytest.approx(
    float(found['second_order']), rel=1e-2
  )


def test_the_hessian_product_is_that_of_the_whole_matrix():
  loss = lambda x: jnp.sum(jnp.sin(x) * x[::-1] ** 2)
  x, delta = jnp.arange(4.0), jnp.array([1.0, -1.0, 2.0, 0.5])
  np.testing.assert_allclose(
    curvature.hessian_product(loss, x, delta),
    jax.hessian(loss)(x) @ delta, rtol=1e-4, atol=1e-4,
  )  # fmt: skip
