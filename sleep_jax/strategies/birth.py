"""Birth: the core learns what everybody knows, before any experience."""

from sleep_jax import schedule
from sleep_jax.strategies import strategy


def make(steps: int) -> strategy.Strategy:
  """Args: steps of pretraining."""

  def plan(*_):
    made = [
      schedule.Event(schedule.WAKE, step + 1, 0, 0, local_step=step)
      for step in range(steps)
    ]
    made.append(schedule.Event(schedule.SAVE, steps, 0, 0))
    return made

  return strategy.Strategy(
    name='birth',
    owners={'core': ('core',)},
    sleeps=False,
    plan=plan,
    reading=lambda stream: lambda experience: stream.birth,
  )
