"""Birth: the core learns what everybody knows, before any experience."""

from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

_TIMES = 10  # Held-out text is read this often.


def make(steps: int, *, num_levels: int = 1) -> strategy.Strategy:
  """What comes before the first day.

  Args:
    steps: of pretraining.
    num_levels: all but the slowest of so many are pretrained with the core.
  """

  def plan(*_):
    made = []
    for step in range(1, steps + 1):
      made.append(events.Event(events.WAKE, step, 0, 0, local_step=step - 1))
      if step * _TIMES // steps > (step - 1) * _TIMES // steps:
        made.append(events.Event(events.EVALUATE, step, 0, 0))
    made.append(events.Event(events.SAVE, steps, 0, 0))
    return made

  return strategy.Strategy(
    name='pretrain',
    owners={'core': ('core', *strategy.levels_alone(num_levels))},
    sleeps=False,
    plan=plan,
    reading=lambda stream: lambda experience: stream.pretrain,
  )
