"""Draws indices in proportion to weights, as evenly as these allow.

With independent draws, a third of the prompts of a day are never drawn, and
others are drawn several times. References: systematic resampling, Kitagawa
1996.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def draw(weight_M: Array, key: Array, *, num: int) -> Array:
  """Draws `num` indices, i32 `[num]`, in a random order.

  An index whose share of the total weight is s is drawn `num * s` times,
  rounded down or up. With equal weights each index is drawn once before any is
  drawn again. The indices are spread over the array: neighbours are rarely
  drawn together.

  Args:
    weight_M: not negative. An index of weight 0 is not drawn, unless all are 0:
      then all count the same.
    key: consumed.
    num: number of draws.
  """
  offset_key, order_key = jax.random.split(key)
  weight_M = jnp.where(jnp.any(weight_M > 0), weight_M, 1).astype(jnp.float32)
  # The sum of XLA may fall by rounding; an index of weight 0 adds nothing.
  upto_M = jnp.where(weight_M > 0, jnp.cumsum(weight_M), 0)
  upto_M = jax.lax.cummax(upto_M)
  at_B = (jnp.arange(num) + jax.random.uniform(offset_key)) * upto_M[-1] / num
  place_B = jnp.searchsorted(upto_M, at_B, side='right')
  # Rounding may place the last draw at the end of the total weight.
  last = len(weight_M) - 1 - jnp.argmax(weight_M[::-1] > 0)
  place_B = jnp.minimum(place_B, last).astype(jnp.int32)
  return jax.random.permutation(order_key, place_B)
