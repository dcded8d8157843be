"""Compares stored texts."""

import jax.numpy as jnp

from sleep_jax import types


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


def widen(rows_BP: types.Array, width: int) -> types.Array:
  """Pads or cuts rows to a width."""
  extra = max(width - rows_BP.shape[1], 0)
  return jnp.pad(rows_BP, ((0, 0), (0, extra)))[:, :width]
