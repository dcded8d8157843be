"""Hope: the same levels and periods, but no sleep (arXiv 2512.24695).

The true no-sleep control: what the levels keep without consolidation.
"""

from sleep_jax.strategies import strategy


def make(num_levels: int) -> strategy.Strategy:
  return strategy.Strategy(
    name='hope',
    owners=strategy.levels_alone(num_levels),
    sleeps=False,
    plan=strategy.live_through,
    reading=strategy.one_by_one,
  )
