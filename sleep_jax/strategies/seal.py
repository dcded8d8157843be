"""SEAL: the model edits itself, one experience after the other.

No step of its own awake, no sleep: an experience is one edit.

References: 2506.10943; docs/method.md, "Dreaming".
"""

from collections.abc import Sequence

from sleep_jax.model import config
from sleep_jax.schedule import events
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
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int,
  night_updates: int,
  dreams: str = '',
) -> Sequence[events.Event]:
  del levels, steps, night_updates, dreams
  made = []
  for number in range(1, num_experiences + 1):
    here = dict(step=number, experience=number, cycle=number, ends=True)
    made += [
      events.Event(events.EDIT, **here),
      events.Event(events.EVALUATE, moment=events.EVENING, **here),
      events.Event(events.SAVE, **here),
    ]
  return made
