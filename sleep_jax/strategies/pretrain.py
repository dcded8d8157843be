"""Pretraining: trains the core on the common data before any experience.

It makes the initial model of all strategies, and is not one of
`config.strategies` itself.
"""

from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

_NUM_EVALUATIONS = 10  # Evaluations on held-out text.


def make(steps: int, *, num_levels: int = 1) -> strategy.Strategy:
  """Returns pretraining as a strategy.

  Args:
    steps: number of steps.
    num_levels: levels 1 to `num_levels - 1` are trained with the core, which
      contains the slowest level; 1 trains the core alone.
  """

  def plan(*_):
    made = []
    for step in range(1, steps + 1):
      made.append(events.Event(events.WAKE, step, 0, 0, local_step=step - 1))
      done = step * _NUM_EVALUATIONS // steps
      if done > (step - 1) * _NUM_EVALUATIONS // steps:
        made.append(events.Event(events.EVALUATE, step, 0, 0))
    made.append(events.Event(events.SAVE, steps, 0, 0))
    return made

  return strategy.Strategy(
    name='pretrain',
    owners={'core': ('core', *strategy.optimizer_per_level(num_levels))},
    sleeps=False,
    plan=plan,
    sources=lambda stream: lambda experience: stream.pretrain,
  )
