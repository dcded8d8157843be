"""SEAL: the model edits itself, one experience after the other.

No step of its own awake, no sleep: an experience is one edit.

References: 2506.10943; docs/method.md, "Dreaming".
"""

from collections.abc import Sequence

from sleep_jax import schedule
from sleep_jax.model import config as config_lib
from sleep_jax.strategies import strategy


def make(num_levels: int) -> strategy.Strategy:
  del num_levels
  return strategy.Strategy(
    name='seal',
    owners={},
    sleeps=False,
    plan=_plan,
    reading=strategy.one_by_one,
    edits=True,
    tuned=True,
  )


def _plan(
  levels: Sequence[config_lib.Level],
  num_experiences: int,
  steps: int,
  night_updates: int,
  dreams: str = '',
) -> Sequence[schedule.Event]:
  del levels, steps, night_updates, dreams
  made = []
  for number in range(1, num_experiences + 1):
    here = dict(step=number, experience=number, cycle=number, ends=True)
    made += [
      schedule.Event(schedule.EDIT, **here),
      schedule.Event(schedule.EVALUATE, moment=schedule.EVENING, **here),
      schedule.Event(schedule.SAVE, **here),
    ]
  return made
