"""Lists the events of a run, as its config and the runs beside it say.

`joint_night` takes the seeding updates of `sleep`. Adaptive nights end before
their largest length (`sleep.night_length`), so the number that they used is
known only when the `sleep` run has ended. It is read from the night records in
that run's checkpoint, which a resumed run continues. `joint_night` keeps the
number that it began with in its own checkpoints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax.data import batches
from sleep_jax.schedule import events
from sleep_jax.sleep import sender_settings
from sleep_jax.strategies import strategy as strategy_lib

_BUDGET = 'night_budget'  # Key of a checkpoint's progress.


def make(
  config: Mapping[str, Any],
  levels: Sequence[events.Level],
  strategy: strategy_lib.Strategy,
  steps: Sequence[int],
  budget: int | None = None,
) -> tuple[events.Event, ...]:
  """Returns all events of a run.

  Args:
    config: of the study, as JSON returns it.
    levels: of the model, fastest first.
    strategy: of the run.
    steps: wake steps of each day.
    budget: see `night_budget`.
  """
  dream = config['dream']
  updates: Mapping[int, int] | int | None = budget
  if budget is None:
    updates = {
      sender: sender_settings.make(config, sender).num_updates
      for sender in events.sleepers(levels)
    }
  order = dream['order'] if dream['on'] else ''
  return tuple(strategy.plan(levels, len(steps), steps, updates, order))


def wake_steps(
  config: Mapping[str, Any],
  levels: Sequence[events.Level],
  days: Sequence[batches.Source],
) -> list[int]:
  """Returns the wake steps that each day has in a run without checkpoints.

  Args:
    config, levels: see `make`.
    days: of the stream.
  """
  data, wake = config['data'], config['wake']
  if epochs := wake.get('epochs', 0):
    rows = data.get('day_batch_size', 0) or data['batch_size']
    steps = [events.steps_of_passes(day.num_rows, epochs, rows) for day in days]
  else:
    steps = [wake['steps']] * len(days)
  return [events.steps_per_experience(levels, num) for num in steps]


def night_budget(
  own: Mapping[str, Any] | None,
  sleep: Mapping[str, Any] | None,
  num_events: int,
) -> int | None:
  """Returns the seeding updates of all nights together that a run takes.

  Args:
    own: progress of the run's latest checkpoint; None: it has not begun.
    sleep: that of the `sleep` run with the same seed; None if there is none.
    num_events: events of that run, of which the last ends it.

  Returns:
    The number that the run began with; for a new run, the updates that the
    consolidations of a finished `sleep` run used. None: the largest number
    that the config allows, because that run has not finished.
  """
  if own is not None:
    return own.get(_BUDGET)
  if sleep is None or sleep['event'] < num_events:
    return None
  nights = [n for n in sleep['nights'] if n['phase'] == events.CONSOLIDATE]
  # Runs of earlier versions did not record it, and had no adaptive nights.
  if any('updates' not in night for night in nights):
    return None
  return sum(night['updates'] for night in nights)


def describe_budget(name: str, budget: int | None) -> str:
  """Returns a sentence about the updates that a new run of `name` takes."""
  if budget is None:
    return (
      f'{name}: takes as many updates as the nights of sleep have at most, '
      'because no finished sleep run with this seed is here'
    )
  return f'{name}: takes the {budget} updates that the nights of sleep used'
