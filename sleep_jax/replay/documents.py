"""Texts of a batch as documents, in front of which a prompt can stand."""

import jax.numpy as jnp

from sleep_jax import types


def make(
  tokens_BT: types.Array, length_B: types.Array, eos: int
) -> types.Texts:
  """Returns texts without EOS, which would separate them from a prompt.

  A token of a chat template that ends a turn, and is not EOS, stays.

  Args:
    tokens_BT: texts with BOS. One that goes on has no EOS.
    length_B: tokens of each.
    eos: end of a text.
  """
  last_B1 = jnp.maximum(length_B - 1, 0)[:, None]
  ends_B = jnp.take_along_axis(tokens_BT, last_B1, 1)[:, 0] == eos
  return types.Texts(tokens_BT, jnp.maximum(length_B - ends_B, 1))
