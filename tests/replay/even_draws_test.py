"""Tests of draws in proportion to weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.replay import even_draws


@functools.partial(jax.jit, static_argnames='num')
def _draw_many(weight_M, *, num):
  keys = jax.random.split(jax.random.key(0), 2_000)
  return jax.vmap(lambda key: even_draws.draw(weight_M, key, num=num))(keys)


def _counts(found_SB, size):
  return np.stack([np.bincount(x, minlength=size) for x in found_SB])


def test_each_index_is_drawn_as_often_as_its_weight_says():
  """Rounded down or up in each draw, and exactly on average."""
  weight_M = jnp.array([1.0, 0.0, 3.0, 4.5, 0.2])
  counts = _counts(np.asarray(_draw_many(weight_M, num=7)), 5)
  expected = 7 * np.asarray(weight_M) / 8.7
  assert (np.abs(counts - expected) < 1).all()
  assert not counts[:, 1].any()
  np.testing.assert_allclose(counts.mean(0), expected, atol=0.05)


@pytest.mark.parametrize('num', [3, 6, 15])
def test_with_equal_weights_each_is_drawn_once_before_one_is_drawn_again(num):
  weight_M = jnp.array([True, True, False, True, True, True, True, False])
  counts = _counts(np.asarray(_draw_many(weight_M, num=num)), 8)
  drawn = counts[:, np.asarray(weight_M)]
  assert (drawn.sum(1) == num).all()
  assert (drawn.max(1) - drawn.min(1) <= 1).all()


def test_draws_are_in_a_random_order_and_spread_over_the_array():
  found_SB = np.asarray(_draw_many(jnp.ones((6,)), num=2))
  for place in range(2):
    shares = np.bincount(found_SB[:, place], minlength=6) / len(found_SB)
    np.testing.assert_allclose(shares, 1 / 6, atol=0.03)
  assert (np.abs(found_SB[:, 0] - found_SB[:, 1]) == 3).all()


def test_if_all_weights_are_zero_all_count_the_same():
  counts = _counts(np.asarray(_draw_many(jnp.zeros((4,)), num=4)), 4)
  assert (counts == 1).all()
