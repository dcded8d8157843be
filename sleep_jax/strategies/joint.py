"""Joint training on all data at once, pretraining data included: upper bound.

All weights are trained, on batches drawn uniformly from the rows of pretraining
and of all experiences. There are two budgets: the wake steps of `sleep`, and
its wake steps and seeding updates together. These are the updates that the
nights of `sleep` used, or if that is not known, those that they have at most
(see `runs.run_plan`). The experiences have no order, so only the end is
evaluated.
"""

import functools
from collections.abc import Mapping, Sequence

from sleep_jax.data import batches
from sleep_jax.model import config
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

NAME = 'joint'
BUDGETS = ('wake', 'night')


def make(num_levels: int) -> tuple[strategy.Strategy, ...]:
  """Returns one strategy per budget for a model with `num_levels` levels."""
  return tuple(
    strategy.Strategy(
      name=f'{NAME}_{budget}',
      owners=strategy.single_optimizer(num_levels),
      sleeps=False,
      plan=functools.partial(_plan, budget=budget),
      sources=_all_rows,
      takes_night_updates=budget == 'night',
    )
    for budget in BUDGETS
  )


def _plan(
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int | Sequence[int],
  night_updates: Mapping[int, int] | int,
  dreams: str = '',
  *,
  budget: str,
) -> Sequence[events.Event]:
  """Returns wake steps that all belong to the last experience."""
  del dreams
  total = sum(events.each_experience(steps, num_experiences))
  if budget == 'night':
    total += (
      night_updates
      if isinstance(night_updates, int)
      else _planned_updates(levels, num_experiences, steps, night_updates)
    )
  end = {'experience': num_experiences, 'cycle': 1}
  plan = [
    events.Event(
      events.WAKE,
      step=step + 1,
      local_step=step,
      ends=step == total - 1,
      **end,
    )
    for step in range(total)
  ]
  last = {'step': total, 'ends': True, **end}
  plan.append(events.Event(events.EVALUATE, moment=events.EVENING, **last))
  plan.append(events.Event(events.SAVE, **last))
  return plan


def _planned_updates(levels, num_experiences, steps, updates) -> int:
  """Returns the updates of all nights if none ends early."""
  plan = events.make_events(
    levels, num_experiences=num_experiences, steps=steps
  )
  return sum(updates[e.sender] for e in plan if e.kind == events.SLEEP)


def _all_rows(stream):
  pretrain = [stream.pretrain] if stream.pretrain is not None else []
  all_rows = batches.concat([*pretrain, *stream.experiences])
  return lambda experience: all_rows
