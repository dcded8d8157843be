"""Sleep, the method: levels learn awake, and nights consolidate into experts.

References: 2606.03979.
"""

import functools

from sleep_jax.strategies import strategy

NAME = 'sleep'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.Strategy(
    name=NAME,
    owners=strategy.optimizer_per_level(num_levels),
    sleeps=True,
    plan=functools.partial(strategy.sequential_plan, sleeps=True),
    sources=strategy.sequential_sources,
  )
