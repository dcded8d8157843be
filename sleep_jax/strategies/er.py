"""Experience replay (ER), a baseline: each batch is joined by stored rows.

The buffer is a reservoir over all rows read since the start of pretraining. It
stores whole rows, answers included, and has capacity for as many tokens as the
prompt buffers of `sleep`. A step reads the same new rows as the other
strategies, and as many stored ones; both are counted as tokens read.

References: 1902.10486 (tiny episodic memories); Vitter 1985.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.replay import row_buffer
from sleep_jax.strategies import strategy

NAME = 'er'
Array = types.Array


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with so many levels."""
  return strategy.Strategy(
    name=NAME,
    owners=strategy.single_optimizer(num_levels),
    sleeps=False,
    plan=strategy.sequential_plan,
    sources=strategy.sequential_sources,
    wrap=_with_stored_rows,
    stores_rows=True,
    tuned=True,
  )


def _with_stored_rows(step: strategy.Step) -> strategy.Step:
  """Returns a step that also reads stored rows, and stores the new ones."""

  def wrapped(state, batch, held, *share):
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 7)
    draw_key, offer_key = jax.random.split(key)
    capacity = state.row_buffer.rows['tokens_BT'].shape[0]
    size = jnp.clip(state.row_buffer.count, 1, capacity)
    num = batch.tokens_BT.shape[0]
    pick_B = jax.random.randint(draw_key, (num,), 0, size)
    joined = {
      name: jnp.concatenate([getattr(batch, name), old[pick_B]])
      for name, old in state.row_buffer.rows.items()
    }
    # Prompts stay those of the new rows, so that none is stored twice.
    state, metrics = step(state, batch.replace(**joined), held, *share)
    rows = row_buffer.insert(state.row_buffer, batch, offer_key)
    return state.replace(row_buffer=rows), metrics

  return wrapped
