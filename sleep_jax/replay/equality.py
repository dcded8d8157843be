"""Compares stored texts."""

import jax.numpy as jnp

from sleep_jax import types

_MAX_SPAN = 8  # Tokens of a span that are compared.


def equal(
  tokens_BP: types.Array,
  length_B: types.Array,
  stored_KP: types.Array,
  length_K: types.Array,
) -> types.Array:
  """Returns bool `[B, K]`, which texts are equal; widths may differ."""
  width = max(tokens_BP.shape[1], stored_KP.shape[1])
  tokens_BP, stored_KP = (widen(x, width) for x in (tokens_BP, stored_KP))
  after_BP = jnp.arange(width)[None] >= length_B[:, None]
  equal_BKP = tokens_BP[:, None] == stored_KP[None]
  same_BK = jnp.all(equal_BKP | after_BP[:, None], -1)
  return same_BK & (length_B[:, None] == length_K[None])


def contains(
  tokens_BP: types.Array,
  length_B: types.Array,
  stored_KP: types.Array,
  span_K2: types.Array,
) -> types.Array:
  """Returns bool `[B, K]`, which texts have a span of another.

  Args:
    tokens_BP: texts.
    length_B: tokens of each.
    stored_KP: other texts.
    span_K2: [start, stop) of a span of each, of which at most the first
      `_MAX_SPAN` tokens are compared; an empty one is in no text.
  """
  start_K, size_K = span_K2[:, 0], span_K2[:, 1] - span_K2[:, 0]
  size_1K1 = jnp.minimum(size_K, _MAX_SPAN)[None, :, None]
  at_KS = start_K[:, None] + jnp.arange(_MAX_SPAN)[None]
  span_KS = jnp.take_along_axis(
    stored_KP, jnp.minimum(at_KS, stored_KP.shape[1] - 1), 1
  )
  width = tokens_BP.shape[1]
  wide_BP = widen(tokens_BP, width + _MAX_SPAN)
  # A span that begins at a place must end in the text.
  place_11P = jnp.arange(width)[None, None]
  found_BKP = place_11P + size_1K1 <= length_B[:, None, None]
  for number in range(_MAX_SPAN):
    token_B1P = wide_BP[:, None, number : number + width]
    same_BKP = token_B1P == span_KS[None, :, number, None]
    found_BKP &= same_BKP | (number >= size_1K1)
  return jnp.any(found_BKP, -1) & (size_K > 0)[None]


def widen(rows_BP: types.Array, width: int) -> types.Array:
  """Pads or cuts rows to a width."""
  extra = max(width - rows_BP.shape[1], 0)
  return jnp.pad(rows_BP, ((0, 0), (0, extra)))[:, :width]
