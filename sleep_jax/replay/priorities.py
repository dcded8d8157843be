"""Uniform samples of different texts, however often each is offered.

A day is read in several passes, so its texts are offered several times. Every
text has a random priority, which depends on its tokens only, and a reservoir
keeps the texts of lowest priority. This is a uniform sample of the different
texts that were offered, each once, in whatever order they came.

Reference: bottom-k sketches, Cohen and Kaplan 2007; for texts that are offered
once it is the reservoir of Vitter 1985.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array
EMPTY = 2**31 - 1  # Priority of an entry without a text.
_FNV_START, _FNV_PRIME = 2166136261, 16777619  # Of the hash FNV-1a.


def of_texts(parts: Iterable[tuple[Array, Array]], key: Array) -> Array:
  """Returns a random number for each text, equal for equal texts only, `[B]`.

  Of two different texts one is lost if their hashes of 32 bits or their numbers
  of 31 bits are equal: for 10,000 texts, with a probability of a few percent.

  Args:
    parts: of the texts, tokens `[B, T]` and their number `[B]`. What stands
      behind them does not count.
    key: of the run: the same one for all texts of a reservoir. Not consumed.
  """

  def add(hash_B, value_B):
    value_B = value_B.astype(jnp.uint32)
    return (hash_B ^ value_B) * jnp.uint32(_FNV_PRIME), None

  hash_B = jnp.uint32(_FNV_START)
  for tokens_BT, length_B in parts:
    inside_BT = jnp.arange(tokens_BT.shape[1])[None] < length_B[:, None]
    values_TB = jnp.where(inside_BT, tokens_BT, 0).T
    values_TB = jnp.concatenate([length_B[None], values_TB])
    start_B = jnp.broadcast_to(hash_B, length_B.shape)
    hash_B, _ = jax.lax.scan(add, start_B, values_TB)
  draw = lambda value: jax.random.bits(
    jax.random.fold_in(key, value), dtype=jnp.uint32
  )
  number_B = (jax.vmap(draw)(hash_B) >> 1).astype(jnp.int32)
  return jnp.minimum(number_B, EMPTY - 1)


def slots(new_B: Array, old_C: Array) -> Array:
  """Assigns texts to entries, so that those of lowest priority are kept.

  Args:
    new_B: priorities of the texts; `EMPTY` where there is none.
    old_C: of the entries; `EMPTY` where one is not used. Those that are used
      come first.

  Returns:
    Entry of each text, C where it is not stored or is there already. This is
    out of bounds, for writes with mode 'drop'.
  """
  capacity = len(old_C)
  is_stored_B = jnp.any(new_B[:, None] == old_C[None], 1)
  repeats_B = jnp.any(jnp.tril(new_B[:, None] == new_B[None], -1), 1)
  new_B = jnp.where(is_stored_B | repeats_B, EMPTY, new_B)
  # The lowest of the new ones replaces the highest of the stored ones, and so
  # on as long as it is lower: what is kept are the lowest of both.
  num = min(capacity, len(new_B))
  old_K, slot_K = jax.lax.top_k(old_C, num)
  order_K = jnp.argsort(new_B)[:num]
  slot_K = jnp.where(new_B[order_K] < old_K, slot_K, capacity)
  return jnp.full(len(new_B), capacity).at[order_K].set(slot_K)
