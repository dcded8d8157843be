"""Sleep: levels learn awake, experts grow at night (arXiv 2606.03979)."""

import functools

from sleep_jax.strategies import strategy


def make(num_levels: int) -> strategy.Strategy:
  return strategy.Strategy(
    name='sleep',
    owners=strategy.levels_alone(num_levels),
    sleeps=True,
    plan=functools.partial(strategy.live_through, sleeps=True),
    reading=strategy.one_by_one,
  )
