"""Joint training: everything at once, birth included. The upper bound.

All weights, batches uniform over the rows of birth and of every experience,
at two budgets: sleep's wake steps, and its wake and seeding updates together.
It meets the experiences in no order, so only its end is evaluated.
"""

import functools
from collections.abc import Sequence

from sleep_jax.data import batches
from sleep_jax.model import config
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

BUDGETS = ('wake', 'night')


def make(num_levels: int, budget: str) -> strategy.Strategy:
  return strategy.Strategy(
    name=f'joint_{budget}',
    owners=strategy.single_optimizer(num_levels),
    sleeps=False,
    plan=functools.partial(_plan, budget=budget),
    sources=_everything,
  )


def _plan(
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int,
  night_updates: int,
  dreams: str = '',
  *,
  budget: str,
) -> Sequence[events.Event]:
  """One long stretch of wake steps that counts as the last experience."""
  del dreams
  total = num_experiences * steps
  if budget == 'night':
    nights = events.make_events(levels, num_experiences=num_experiences, steps=steps)
    slept = sum(event.kind == events.SLEEP for event in nights)
    total += slept * night_updates
  end = {'experience': num_experiences, 'cycle': 1}
  plan = [
    events.Event(
      events.WAKE, step=step + 1, local_step=step, ends=step == total - 1,
      **end,
    )
    for step in range(total)
  ]  # fmt: skip
  last = {'step': total, 'ends': True, **end}
  plan.append(events.Event(events.EVALUATE, moment=events.EVENING, **last))
  plan.append(events.Event(events.SAVE, **last))
  return plan


def _everything(stream):
  known = [stream.pretrain] if stream.pretrain is not None else []
  whole = batches.concat([*known, *stream.experiences])
  return lambda experience: whole
