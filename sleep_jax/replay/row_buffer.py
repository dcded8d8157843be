"""TODO: replay.row_buffer (from strategies.er)."""

import jax.numpy as jnp
from flax import struct

from sleep_jax import types
from sleep_jax.replay import buffer

_FIELDS = ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')


class RowBuffer(struct.PyTreeNode):
  """A reservoir of whole rows.

  Attributes:
    rows: the arrays of `types.Batch` by name, [C, T].
    count: rows offered so far; min(count, C) entries are valid.
  """

  rows: dict[str, types.Array]
  count: types.Array


def empty(tokens: int, *, width: int) -> RowBuffer:
  """A memory for `tokens` tokens in rows of `width`."""
  capacity = max(tokens // width, 1)
  kinds = {name: jnp.int32 for name in _FIELDS} | {'loss_BT': jnp.float32}
  rows = {name: jnp.zeros((capacity, width), kinds[name]) for name in _FIELDS}
  rows['segments_BT'] -= 1  # Padding: what was never stored is not read.
  return RowBuffer(rows=rows, count=jnp.zeros((), jnp.int32))


def offer(memory: RowBuffer, batch: types.Batch, key: types.Array) -> RowBuffer:
  """Offers every row of a batch to the reservoir."""
  capacity = memory.rows['tokens_BT'].shape[0]
  present_B = jnp.ones((batch.tokens_BT.shape[0],), bool)
  slot_B, count = buffer.reservoir(memory.count, present_B, capacity, key)
  rows = {
    name: old.at[slot_B].set(getattr(batch, name), mode='drop')
    for name, old in memory.rows.items()
  }
  return RowBuffer(rows=rows, count=count)
