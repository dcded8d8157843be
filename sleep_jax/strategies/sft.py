"""Sequential fine-tuning (SFT) of all weights, a baseline.

It takes the same steps on the same batches as `sleep`.
"""

from sleep_jax.strategies import strategy

NAME = 'sft'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(NAME, num_levels)
