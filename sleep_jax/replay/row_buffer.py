"""Row buffer: a reservoir of whole training rows, for replay baselines.

A day is read in several passes, so each row is offered several times. Every row
has a random priority, which depends on its tokens only, and the buffer keeps
the rows of lowest priority. This is a uniform sample of the different rows that
were offered, each stored once, however often it was offered.

Reference: bottom-k sketches, Cohen and Kaplan 2007; with rows that are offered
once it is the reservoir of Vitter 1985.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types

_FIELDS = ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')
_EMPTY = 2**31 - 1  # Priority of an entry that is not used.
_FNV_START, _FNV_PRIME = 2166136261, 16777619  # Of the hash FNV-1a.


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
    return jnp.sum(self.priority_C < _EMPTY)


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
    priority_C=jnp.full((capacity,), _EMPTY, jnp.int32),
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
  capacity = len(row_buffer.priority_C)
  new_B = _priorities(batch, key)
  is_stored_B = jnp.any(new_B[:, None] == row_buffer.priority_C[None], 1)
  repeats_B = jnp.any(jnp.tril(new_B[:, None] == new_B[None], -1), 1)
  new_B = jnp.where(is_stored_B | repeats_B, _EMPTY, new_B)
  # The lowest of the new ones replaces the highest of the stored ones, and so
  # on as long as it is lower: what is kept are the lowest of both.
  num = min(capacity, len(new_B))
  old_K, slot_K = jax.lax.top_k(row_buffer.priority_C, num)
  order_K = jnp.argsort(new_B)[:num]
  new_K = new_B[order_K]
  # Out of bounds, where a row is not stored: the write is dropped.
  slot_K = jnp.where(new_K < old_K, slot_K, capacity)
  put = lambda stored, values: stored.at[slot_K].set(values, mode='drop')
  step_C = row_buffer.step_C
  return RowBuffer(
    rows={
      name: put(old, getattr(batch, name)[order_K])
      for name, old in row_buffer.rows.items()
    },
    priority_C=put(row_buffer.priority_C, new_K),
    step_C=None if step_C is None else put(step_C, step),
  )


def _priorities(batch: types.Batch, key: types.Array) -> types.Array:
  """Returns a random number for each row, `_EMPTY` for rows of padding, `[B]`.

  Of two different rows one is lost if their hashes of 32 bits or their numbers
  of 31 bits are equal: for 10,000 rows, with a probability of a few percent.
  """

  def add(hash_B, token_B):
    return (hash_B ^ token_B.astype(jnp.uint32)) * jnp.uint32(_FNV_PRIME), None

  start_B = jnp.full(len(batch.tokens_BT), _FNV_START, jnp.uint32)
  hash_B, _ = jax.lax.scan(add, start_B, batch.tokens_BT.T)
  draw = lambda value: jax.random.bits(
    jax.random.fold_in(key, value), dtype=jnp.uint32
  )
  number_B = (jax.vmap(draw)(hash_B) >> 1).astype(jnp.int32)
  is_row_B = jnp.any(batch.segments_BT >= 0, 1)
  return jnp.where(is_row_B, jnp.minimum(number_B, _EMPTY - 1), _EMPTY)


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
  return (row_buffer.priority_C < _EMPTY) & (step_C <= step)


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
