"""Tests of rotary positions, the norm and the MLP of an added level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import layers, rope


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), 'f4')


def test_products_of_rotated_vectors_depend_only_on_the_distance():
  q, k = _draw(1, 1, 1, 8), _draw(1, 1, 1, 8, seed=1)

  def product(i, j):
    frequencies = rope.frequencies(8, theta=100.0)
    rotate = lambda x, p: rope.rotate(x, jnp.array([[p]]), frequencies)
    return float(jnp.sum(rotate(q, i) * rotate(k, j)))

  assert product(7, 3) == pytest.approx(product(14, 10), abs=1e-5)
  assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)
  assert product(5, 5) == pytest.approx(float(jnp.sum(q * k)), abs=1e-5)


def test_scaling_changes_only_low_frequencies():
  """Uses the constants of Llama 3.1 and its formula by wavelength."""
  unscaled = rope.frequencies(128, theta=5e5)
  factor, low, high, positions = 8.0, 1.0, 4.0, 8192
  found = rope.frequencies(
    128, theta=5e5, scaling=(factor, low, high, positions)
  )
  for before, after in zip(unscaled, found, strict=True):
    wavelength = 2 * np.pi / before
    if wavelength < positions / high:
      expected = before
    elif wavelength > positions / low:
      expected = before / factor
    else:
      smooth = (positions / wavelength - low) / (high - low)
      expected = (1 - smooth) * before / factor + smooth * before
    assert after == pytest.approx(expected, rel=1e-5)
  assert found[0] == unscaled[0] and found[-1] == pytest.approx(
    unscaled[-1] / 8
  )
  divided = rope.frequencies(128, theta=5e5, scaling=(4.0,))
  np.testing.assert_allclose(divided, unscaled / 4, rtol=1e-6)


def test_a_norm_gives_unit_mean_square_at_any_scale():
  norm = layers.RMSNorm(eps=0.0)
  params = {'params': {'scale': jnp.ones((6,))}}
  x = _draw(2, 3, 6)
  y = norm.apply(params, x)
  np.testing.assert_allclose(jnp.mean(y**2, -1), 1, atol=1e-5)
  np.testing.assert_allclose(norm.apply(params, 100 * x), y, atol=1e-5)


def test_an_added_level_starts_as_zero_and_has_gradients():
  x = _draw(1, 2, 4)
  mlp = layers.SwiGLU(8, zero_out=True)
  params = mlp.init(jax.random.key(0), x)
  loss = lambda p: jnp.sum(mlp.apply(p, x) * x)
  assert not np.asarray(mlp.apply(params, x)).any()
  assert np.asarray(jax.grad(loss)(params)['params']['down']).any()


def test_a_16_bit_product_is_the_f32_product_of_its_inputs_rounded_once():
  random = np.random.default_rng(0)
  x, w, weight = (
    jnp.asarray(random.normal(size=shape), jnp.float32)
    for shape in ((3, 5, 32), (32, 16), (3, 5, 16))
  )
  low = x.astype(jnp.bfloat16)
  exact = low.astype(jnp.float32), w.astype(jnp.bfloat16).astype(jnp.float32)

  def loss(x, w):
    y = layers.product(x, w)
    return jnp.sum(y.astype(jnp.float32) * weight), y

  found = jax.value_and_grad(loss, (0, 1), has_aux=True)(low, w)
  expected = jax.value_and_grad(loss, (0, 1), has_aux=True)(*exact)
  (_, y), (dx, dw) = found
  assert (y.dtype, dx.dtype, dw.dtype) == (jnp.bfloat16,) * 2 + (jnp.float32,)
  rounded = expected[0][1].astype(jnp.bfloat16)
  np.testing.assert_array_equal(
    y.astype(jnp.float32), rounded.astype(jnp.float32)
  )
  # The incoming gradient is rounded too.
  for a, b in zip((dx, dw), expected[1], strict=True):
    np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05)
  # In f32, factors are rounded only if that is asked for, and sums are not.
  assert layers.product(x, w).dtype == jnp.float32
  np.testing.assert_array_equal(layers.product(x, w), x @ w)
  np.testing.assert_allclose(
    layers.product(low.astype(jnp.float32), w, 'bfloat16'),
    expected[0][1], rtol=1e-5, atol=1e-5,
  )  # fmt: skip
