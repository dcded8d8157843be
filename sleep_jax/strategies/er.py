"""Experience replay: every batch is joined by as many stored rows.

The memory is a reservoir over everything read since birth and holds whole
rows, answers included; it has as much room for tokens as sleep's bands of
prompts. A step sees the same new rows as the other strategies; what it reads
again is counted as read.

References: 1902.10486 (tiny episodic memories); Vitter 1985.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.replay import row_buffer
from sleep_jax.strategies import strategy

Array = types.Array


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
    memory = row_buffer.offer(state.memory, batch, offer_key)
    return state.replace(memory=memory), metrics

  return wrapped
