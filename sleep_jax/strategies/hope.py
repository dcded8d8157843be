"""Hope, the control without sleep: the same levels and periods, no nights.

It shows what the levels retain without consolidation.

References: 2512.24695.
"""

from sleep_jax.strategies import strategy

NAME = 'hope'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.Strategy(
    name=NAME,
    owners=strategy.optimizer_per_level(num_levels),
    sleeps=False,
    plan=strategy.sequential_plan,
    sources=strategy.sequential_sources,
  )
