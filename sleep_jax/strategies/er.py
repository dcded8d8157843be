"""Experience replay (ER), a baseline: each batch is joined by stored rows.

The buffer is a reservoir over all rows read since the start of pretraining.
Each row is stored at most once, however often it is read. It stores whole rows,
answers included, and has capacity for as many tokens as the buffers of `sleep`,
or of `sleep_rows` if answers are stored. A step reads the same new rows as the
other strategies, and as many stored ones; both are counted as tokens read.

References: 1902.10486 (tiny episodic memories); of the buffer, see
`replay.row_buffer`.
"""

import jax.numpy as jnp

from sleep_jax.replay import row_buffer
from sleep_jax.strategies import strategy

NAME = 'er'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, wrap=_with_stored_rows, stores_rows=True
  )


def _with_stored_rows(step: strategy.Step) -> strategy.Step:
  """Returns a step that also reads stored rows, and stores the new ones."""

  def wrapped(state, batch, held, *share):
    key = row_buffer.draw_key(state.key, state.step)
    old = row_buffer.sample(state.row_buffer, key, batch.tokens_BT.shape[0])
    joined = {
      name: jnp.concatenate([getattr(batch, name), rows])
      for name, rows in old.items()
    }
    # Prompts stay those of the new rows, so that none is stored twice.
    state, metrics = step(state, batch.replace(**joined), held, *share)
    rows = row_buffer.insert(state.row_buffer, batch, state.key)
    return state.replace(row_buffer=rows), metrics

  return wrapped
