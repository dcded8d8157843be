"""SEAL, a baseline: the model edits its own weights once per experience.

There are no wake steps and no nights; see `dream.self_edit` for the edit.

References: 2506.10943; docs/method.md, "Dreaming".
"""

from collections.abc import Mapping, Sequence

from sleep_jax.model import config
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

NAME = 'seal'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  return strategy.Strategy(
    name=NAME,
    owners={},
    sleeps=False,
    plan=_plan,
    sources=strategy.sequential_sources,
    edits=True,
    tuned=True,
  )


def _plan(
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int | Sequence[int],
  night_updates: Mapping[int, int],
  dreams: str = '',
) -> Sequence[events.Event]:
  """Returns an edit and an evaluation per experience."""
  del levels, steps, night_updates, dreams
  made = []
  for number in range(1, num_experiences + 1):
    now = dict(step=number, experience=number, cycle=number, ends=True)
    made += [
      events.Event(events.EDIT, **now),
      events.Event(events.EVALUATE, moment=events.EVENING, **now),
      events.Event(events.SAVE, **now),
    ]
  return made
