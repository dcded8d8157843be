"""Which level moves and which falls asleep, at every step of a run.

The whole run is known before it starts: a plain list of events that the
lifecycle walks through and a checkpoint points into. Level l moves after every
`update_period` completed steps and is consolidated into level l + 1 after every
`sleep_period`; levels due at one step go fastest first.

References: 2606.03979 section 3.3; 2512.24695 section 7.
"""

import dataclasses
from collections.abc import Sequence

from sleep_jax.model import config

Level = config.Level
WAKE, SLEEP, DREAM, EDIT = 'wake', 'sleep', 'dream', 'edit'
EVALUATE, SAVE = 'evaluate', 'save'
AFTER, BEFORE = 'after', 'before'  # Consolidation: when to dream.
EVENING, MORNING, INITIAL = 'evening', 'morning', 'initial'


@dataclasses.dataclass(frozen=True)
class Event:
  """One thing that happens.

  Attributes:
    kind: 'wake' (one step), 'sleep' (one sender's night), 'dream', 'edit' (of
      itself, see `strategies.seal`), 'evaluate' or 'save'.
    step: wake steps completed (a wake event completes its own).
    experience: number of the experience under way, from 1.
    cycle: number of the cycle (wake and sleep), from 1.
    local_step: of a wake event, steps of this experience before it.
    sender: of a sleep, the level that sleeps; of a dream, the one whose night
      made, or will make, the newest expert.
    held: of a wake event, levels that fall asleep right after this step.
    moment: of an evaluation, 'evening' or 'morning'.
    ends: whether the experience is over at this event.
  """

  kind: str
  step: int
  experience: int
  cycle: int
  local_step: int = 0
  sender: int = 0
  held: tuple[int, ...] = ()
  moment: str = ''
  ends: bool = False


def steps_per_experience(levels: Sequence[Level], steps: int) -> int:
  """`steps`, rounded up so that no chunk of a sleeper crosses experiences."""
  for level in levels:
    period = level.update_period
    if level.sleep_period == config.EXPERIENCE and isinstance(period, int):
      steps = -(-steps // period) * period
  return steps


def due_senders(
  levels: Sequence[Level], step: int, *, ends: bool
) -> tuple[int, ...]:
  """Who falls asleep after `step` completed steps: 0 the context, then levels.

  Fastest first.
  """
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number
    for number, period in enumerate(periods)
    if (period == config.EXPERIENCE and ends)
    or (isinstance(period, int) and step % period == 0)
  )


def sleepers(levels: Sequence[Level]) -> tuple[int, ...]:
  """Senders that ever fall asleep, fastest first; 0 is the context window."""
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number for number, period in enumerate(periods) if period != config.INFINITE
  )


def make_events(
  levels: Sequence[Level],
  *,
  num_experiences: int,
  steps: int,
  sleeps: bool = True,
  dreams: str = '',
) -> tuple[Event, ...]:
  """The whole run.

  Args:
    levels: fastest first.
    num_experiences: of the stream.
    steps: wake steps per experience, see `steps_per_experience`.
    sleeps: False for strategies that never sleep: an experience then ends
      with one evaluation.
    dreams: whether who sleeps at the end of an experience dreams 'after' or
      'before' it; '': never.
  """
  made, step, cycle = [], 0, 1
  for experience in range(1, num_experiences + 1):
    for local_step in range(steps):
      step += 1
      ends = local_step == steps - 1
      due = due_senders(levels, step, ends=ends) if sleeps else ()
      here = dict(step=step, experience=experience, cycle=cycle, ends=ends)
      made.append(Event(WAKE, local_step=local_step, held=due, **here))
      if not (due or ends):
        continue
      made.append(Event(EVALUATE, moment=EVENING, **here))
      nights = [Event(SLEEP, sender=sender, **here) for sender in due]
      dream = [Event(DREAM, sender=due[-1], **here)] if due and ends else []
      if dreams == BEFORE:
        nights = dream + nights
      elif dreams == AFTER:
        nights += dream
      made += nights
      if due:
        made.append(Event(EVALUATE, moment=MORNING, **here))
      made.append(Event(SAVE, **here))
      cycle += 1
  return tuple(made)
