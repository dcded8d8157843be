"""Row buffer: a reservoir of whole training rows, for replay baselines.

Reference: reservoir sampling, Vitter 1985.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types
from sleep_jax.replay import buffer

_FIELDS = ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')


class RowBuffer(struct.PyTreeNode):
  """A reservoir of whole rows.

  Attributes:
    rows: arrays of `types.Batch` by name, [C, T].
    count: number of rows offered so far. min(count, C) entries are valid.
    step_C: wake step that read an entry, 0 of pretraining; None if not kept.
  """

  rows: dict[str, types.Array]
  count: types.Array
  step_C: types.Array | None = None


def allocate(num_tokens: int, *, width: int, dated: bool = False) -> RowBuffer:
  """Allocates an empty buffer of at least one row.

  Args:
    num_tokens: maximum number of tokens in the buffer.
    width: number of tokens of a row.
    dated: whether the step of each row is kept.
  """
  capacity = max(num_tokens // width, 1)
  dtypes = {name: jnp.int32 for name in _FIELDS} | {'loss_BT': jnp.float32}
  rows = {name: jnp.zeros((capacity, width), dtypes[name]) for name in _FIELDS}
  rows['segments_BT'] -= 1  # Empty entries are padding.
  return RowBuffer(
    rows=rows,
    count=jnp.zeros((), jnp.int32),
    step_C=jnp.zeros((capacity,), jnp.int32) if dated else None,
  )


def insert(
  row_buffer: RowBuffer,
  batch: types.Batch,
  key: types.Array,
  step: types.Array | int = 0,
) -> RowBuffer:
  """Offers every row of a batch to the reservoir.

  Args:
    row_buffer: the reservoir.
    batch: rows, `[B, T]`.
    key: consumed.
    step: wake step that reads the batch, 0 of pretraining.
  """
  capacity = row_buffer.rows['tokens_BT'].shape[0]
  present_B = jnp.ones((batch.tokens_BT.shape[0],), bool)
  slot_B, count = buffer.reservoir_slots(
    row_buffer.count, present_B, capacity, key
  )
  rows = {
    name: old.at[slot_B].set(getattr(batch, name), mode='drop')
    for name, old in row_buffer.rows.items()
  }
  step_C = row_buffer.step_C
  if step_C is not None:
    step_C = step_C.at[slot_B].set(step, mode='drop')
  return RowBuffer(rows=rows, count=count, step_C=step_C)


def sample(
  row_buffer: RowBuffer, key: types.Array, num: int
) -> dict[str, types.Array]:
  """Returns `num` stored rows, drawn with replacement, or padding if none is.

  Consumes the key.
  """
  capacity = row_buffer.rows['tokens_BT'].shape[0]
  size = jnp.clip(row_buffer.count, 1, capacity)
  pick_B = jax.random.randint(key, (num,), 0, size)
  return {name: rows[pick_B] for name, rows in row_buffer.rows.items()}


def is_until(row_buffer: RowBuffer, step: types.Array | int) -> types.Array:
  """Returns whether an entry is a row that was read until a step, `[C]`.

  Args:
    row_buffer: a reservoir that keeps steps.
    step: number of wake steps done.
  """
  step_C = row_buffer.step_C
  assert step_C is not None
  return (jnp.arange(len(step_C)) < row_buffer.count) & (step_C <= step)


def sample_until(
  row_buffer: RowBuffer, key: types.Array, num: int, step: types.Array | int
) -> dict[str, types.Array]:
  """Returns rows that were read until a step, drawn with replacement.

  Args:
    row_buffer: a reservoir that keeps steps and has such a row.
    key: consumed.
    num: number of rows B.
    step: number of wake steps done.

  Returns:
    Arrays of `types.Batch` by name, `[B, T]`.
  """
  is_old_C = is_until(row_buffer, step)
  pick_B = jax.random.categorical(
    key, jnp.where(is_old_C, 0.0, -jnp.inf), shape=(num,)
  )
  return {name: rows[pick_B] for name, rows in row_buffer.rows.items()}


def step_keys(key: types.Array, step: types.Array) -> types.Array:
  """Returns the keys of a wake step for sampling and for inserting, `[2]`.

  Args:
    key: of the run.
    step: number of earlier wake steps.
  """
  return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, step), 7))
