"""Experience replay: every batch is joined by as many stored rows.

The memory is a reservoir over everything read since birth and holds whole
rows, answers included; it has as much room for tokens as sleep's bands of
prompts. A step sees the same new rows as the other strategies; what it reads
again is counted as read.

References: 1902.10486 (tiny episodic memories); Vitter 1985.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types
from sleep_jax.phases import replay
from sleep_jax.strategies import strategy

Array = types.Array
_FIELDS = ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')


class Memory(struct.PyTreeNode):
  """A reservoir of whole rows.

  Attributes:
    rows: the arrays of `types.Batch` by name, [C, T].
    count: rows offered so far; min(count, C) entries are valid.
  """

  rows: dict[str, Array]
  count: Array


def make(num_levels: int) -> strategy.Strategy:
  return strategy.Strategy(
    name='er',
    owners=strategy.all_weights(num_levels),
    sleeps=False,
    plan=strategy.live_through,
    reading=strategy.one_by_one,
    wrap=_with_memory,
    memory=True,
    tuned=True,
  )


def empty(tokens: int, *, width: int) -> Memory:
  """A memory for `tokens` tokens in rows of `width`."""
  capacity = max(tokens // width, 1)
  kinds = {name: jnp.int32 for name in _FIELDS} | {'loss_BT': jnp.float32}
  rows = {name: jnp.zeros((capacity, width), kinds[name]) for name in _FIELDS}
  rows['segments_BT'] -= 1  # Padding: what was never stored is not read.
  return Memory(rows=rows, count=jnp.zeros((), jnp.int32))


def offer(memory: Memory, batch: types.Batch, key: Array) -> Memory:
  """Offers every row of a batch to the reservoir."""
  capacity = memory.rows['tokens_BT'].shape[0]
  present_B = jnp.ones((batch.tokens_BT.shape[0],), bool)
  slot_B, count = replay.reservoir(memory.count, present_B, capacity, key)
  rows = {
    name: old.at[slot_B].set(getattr(batch, name), mode='drop')
    for name, old in memory.rows.items()
  }
  return Memory(rows=rows, count=count)


def _with_memory(step: strategy.Step) -> strategy.Step:
  def wrapped(state, batch, held):
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 7)
    draw_key, offer_key = jax.random.split(key)
    capacity = state.memory.rows['tokens_BT'].shape[0]
    known = jnp.clip(state.memory.count, 1, capacity)
    num = batch.tokens_BT.shape[0]
    pick_B = jax.random.randint(draw_key, (num,), 0, known)
    both = {
      name: jnp.concatenate([getattr(batch, name), old[pick_B]])
      for name, old in state.memory.rows.items()
    }
    # Prompts stay those of the new rows: nothing enters the bands twice.
    state, metrics = step(state, batch.replace(**both), held)
    memory = offer(state.memory, batch, offer_key)
    return state.replace(memory=memory), metrics

  return wrapped
