"""Tests of comparing stored texts."""

import jax.numpy as jnp
import numpy as np

from sleep_jax.replay import equality


def _contains(text, other, span):
  """As `equality.contains`, by hand."""
  wanted = other[span[0] : span[1]][:8]
  places = range(len(text) - len(wanted) + 1)
  return bool(wanted) and any(
    text[place : place + len(wanted)] == wanted for place in places
  )


def test_a_span_is_found_where_it_stands_whole():
  """Random texts of few tokens; what follows a text does not count."""
  rng = np.random.default_rng(0)
  tokens_BP, stored_KP = (
    rng.integers(0, 3, (40, 12)),
    rng.integers(0, 3, (30, 10)),
  )
  length_B = rng.integers(0, 13, 40)
  span_K2 = np.sort(rng.integers(0, 11, (30, 2)), 1)
  found_BK = equality.contains(
    *map(jnp.asarray, (tokens_BP, length_B, stored_KP, span_K2))
  )
  expected = [
    [
      _contains(text[:length].tolist(), other.tolist(), span)
      for other, span in zip(stored_KP, span_K2, strict=True)
    ]
    for text, length in zip(tokens_BP, length_B, strict=True)
  ]
  np.testing.assert_array_equal(found_BK, expected)
  assert 0.1 < np.mean(expected) < 0.9


def test_of_a_long_span_the_first_tokens_are_compared():
  stored = jnp.arange(20)[None]
  text = jnp.concatenate([jnp.arange(3, 11), jnp.full(4, 99)])[None]
  span = jnp.asarray([[3, 20]])
  assert equality.contains(text, jnp.asarray([12]), stored, span).all()
  assert not equality.contains(text, jnp.asarray([7]), stored, span).any()
