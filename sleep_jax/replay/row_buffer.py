"""Row buffer: a reservoir of whole training rows, for replay baselines.

It is a uniform sample of the different rows that were read, each stored once,
see `priorities`.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types
from sleep_jax.replay import priorities

_FIELDS = ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')


class RowBuffer(struct.PyTreeNode):
  """A reservoir of whole rows.

  Attributes:
    rows: arrays of `types.Batch` by name, [C, T].
    priority_C: int32, of each entry. Entries that are used come first.
    step_C: wake step that first read an entry, 0 of pretraining; None if not
      kept.
  """

  rows: dict[str, types.Array]
  priority_C: types.Array
  step_C: types.Array | None = None

  @property
  def num_rows(self) -> types.Array:
    """Number of stored rows."""
    return jnp.sum(self.priority_C < priorities.EMPTY)


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
    priority_C=jnp.full((capacity,), priorities.EMPTY, jnp.int32),
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
    batch: rows, `[B, T]`. Two rows of equal tokens are one row.
    key: of the run: the same one for all rows of a buffer. Not consumed.
    step: wake step that reads the batch, 0 of pretraining.
  """
  length_B = jnp.full(len(batch.tokens_BT), batch.tokens_BT.shape[1])
  priority_B = priorities.of_texts([(batch.tokens_BT, length_B)], key)
  is_row_B = jnp.any(batch.segments_BT >= 0, 1)
  priority_B = jnp.where(is_row_B, priority_B, priorities.EMPTY)
  slot_B = priorities.slots(priority_B, row_buffer.priority_C)
  put = lambda stored, values: stored.at[slot_B].set(values, mode='drop')
  step_C = row_buffer.step_C
  return RowBuffer(
    rows={
      name: put(old, getattr(batch, name))
      for name, old in row_buffer.rows.items()
    },
    priority_C=put(row_buffer.priority_C, priority_B),
    step_C=None if step_C is None else put(step_C, step),
  )


def sample(
  row_buffer: RowBuffer, key: types.Array, num: int
) -> dict[str, types.Array]:
  """Returns `num` stored rows, drawn with replacement, or padding if none is.

  Consumes the key.
  """
  size = jnp.maximum(row_buffer.num_rows, 1)
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
  return (row_buffer.priority_C < priorities.EMPTY) & (step_C <= step)


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


def draw_key(key: types.Array, step: types.Array) -> types.Array:
  """Returns the key with which a wake step draws stored rows.

  Args:
    key: of the run.
    step: number of earlier wake steps.
  """
  return jax.random.fold_in(jax.random.fold_in(key, step), 7)
