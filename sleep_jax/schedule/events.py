"""Lists all events of a run in order: wake steps, nights, evaluations, saves.

The whole list is known before the run starts. The run loop executes it, and a
checkpoint stores a position in it. Level l is updated after every
`update_period` completed wake steps and is consolidated into level l + 1 after
every `sleep_period`. Levels that are due at the same step go fastest first.

References: 2606.03979, section 3.3; 2512.24695, section 7.
"""

import dataclasses
import math
import re
from collections.abc import Collection, Sequence

from sleep_jax.model import config

Level = config.Level
WAKE, SLEEP, DREAM, EDIT = 'wake', 'sleep', 'dream', 'edit'
EVALUATE, SAVE, REVIEW = 'evaluate', 'save', 'review'
# What a night does: one of these, a dream or an edit.
CONSOLIDATE, MERGE = 'consolidate', 'merge'
AFTER, BEFORE = 'after', 'before'  # When to dream, relative to consolidation.
EVENING, MORNING, INITIAL = 'evening', 'morning', 'initial'
# Moments of a review, besides INITIAL: before and after the wake steps of an
# experience.
START, END = 'start', 'end'


@dataclasses.dataclass(frozen=True)
class Event:
  """One event of a run.

  Attributes:
    kind: 'wake' (one step), 'sleep' (the night of one sender), 'dream', 'edit'
      (a self-edit, see `strategies.seal`), 'evaluate', 'save' or 'review' (a
      strategy's own arrays are updated, see `strategies.method`).
    step: number of completed wake steps, including that of a wake event itself.
    experience: number of the current experience, from 1.
    cycle: number of the current cycle (wake and sleep), from 1.
    local_step: for a wake event, number of earlier steps in this experience.
    sender: for a sleep, the level that sleeps; for a dream, the level whose
      night made, or will make, the newest expert.
    held: for a wake event, the levels that sleep right after this step. The
      night applies their due updates.
    moment: for an evaluation, 'evening', 'morning' or 'initial'; for a review,
      'initial' (of pretraining, before the first experience), 'start' or 'end'.
    ends: whether the experience is complete at this event.
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


def days_of(period: int | str) -> int:
  """Returns how many experiences a sleep period has; 0 if it counts none.

  Args:
    period: see `config.Level`.
  """
  if period == config.EXPERIENCE:
    return 1
  found = re.fullmatch(r'([1-9]\d*) days', str(period))
  return int(found[1]) if found else 0


def steps_per_experience(levels: Sequence[Level], steps: int) -> int:
  """Returns wake steps of an experience, rounded up to whole update periods.

  If a level sleeps at the end of experiences, its gradients may not be summed
  across experiences, so `steps` becomes a multiple of its `update_period`.
  """
  for level in levels:
    period = level.update_period
    if days_of(level.sleep_period) and isinstance(period, int):
      steps = -(-steps // period) * period
  return steps


def steps_of_passes(num_rows: int, passes: float, batch_size: int) -> int:
  """Returns the wake steps that read rows a number of times, at least 1.

  Args:
    num_rows: rows of an experience.
    passes: how often each row is read; 0.5 reads half of them.
    batch_size: rows of a wake step.
  """
  # A product such as 10 x 1.1 is a little above 11, and is not a twelfth row.
  return max(1, math.ceil(round(num_rows * passes, 6) / batch_size))


def due_senders(
  levels: Sequence[Level], step: int, *, ends: int
) -> tuple[int, ...]:
  """Returns the levels that sleep after a step, fastest first.

  Args:
    levels: fastest first.
    step: number of completed wake steps.
    ends: number of the experience that ends at this step, from 1; 0: none.

  Returns:
    Numbers of the levels; 0 is the context window.
  """
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number
    for number, period in enumerate(periods)
    if (days_of(period) and ends and ends % days_of(period) == 0)
    or (isinstance(period, int) and step % period == 0)
  )


def sleepers(levels: Sequence[Level]) -> tuple[int, ...]:
  """Returns the levels that ever sleep, fastest first.

  Level 0 is the context window.
  """
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number for number, period in enumerate(periods) if period != config.INFINITE
  )


def make_events(
  levels: Sequence[Level],
  *,
  num_experiences: int,
  steps: int | Sequence[int],
  sleeps: bool = True,
  dreams: str = '',
) -> tuple[Event, ...]:
  """Returns all events of a run in order.

  Args:
    levels: fastest first.
    num_experiences: number of experiences in the stream.
    steps: wake steps per experience, see `steps_per_experience`: one number,
      or one for each experience.
    sleeps: False for strategies without sleep, whose experiences end with one
      evaluation.
    dreams: 'after' or 'before' adds a dream after or before the nights at the
      end of each experience; '' adds none.
  """
  plan, step, cycle = [], 0, 1
  all_steps = each_experience(steps, num_experiences)
  for experience, num_steps in enumerate(all_steps, 1):
    for local_step in range(num_steps):
      step += 1
      ends = local_step == num_steps - 1
      ending = experience if ends else 0
      due = due_senders(levels, step, ends=ending) if sleeps else ()
      common = dict(step=step, experience=experience, cycle=cycle, ends=ends)
      plan.append(Event(WAKE, local_step=local_step, held=due, **common))
      if not (due or ends):
        continue
      plan.append(Event(EVALUATE, moment=EVENING, **common))
      nights = [Event(SLEEP, sender=sender, **common) for sender in due]
      dream = [Event(DREAM, sender=due[-1], **common)] if due and ends else []
      if dreams == BEFORE:
        nights = dream + nights
      elif dreams == AFTER:
        nights += dream
      plan += nights
      if due:
        plan.append(Event(EVALUATE, moment=MORNING, **common))
      plan.append(Event(SAVE, **common))
      cycle += 1
  return tuple(plan)


def with_reviews(
  plan: Sequence[Event], moments: Collection[str]
) -> tuple[Event, ...]:
  """Returns a plan with reviews at some moments.

  Args:
    plan: see `make_events`.
    moments: some of INITIAL, START and END.
  """
  made = []
  if INITIAL in moments:
    made.append(Event(REVIEW, 0, 0, 0, moment=INITIAL, ends=True))
  for event in plan:
    awake = event.kind == WAKE
    review = dataclasses.replace(event, kind=REVIEW, held=())
    if awake and event.local_step == 0 and START in moments:
      before = dict(step=event.step - 1, ends=False)
      made.append(dataclasses.replace(review, moment=START, **before))
    made.append(event)
    if awake and event.ends and END in moments:
      made.append(dataclasses.replace(review, moment=END))
  return tuple(made)


def each_experience(
  steps: int | Sequence[int], num_experiences: int
) -> tuple[int, ...]:
  """Returns the wake steps of each experience.

  Args:
    steps: one number for all, or one for each experience and later ones.
    num_experiences: number of experiences.
  """
  if isinstance(steps, int):
    return (steps,) * num_experiences
  return tuple(steps[:num_experiences])


def end_of_waking(plan: Sequence[Event]) -> int:
  """Returns the number of the first event after the last wake step and the
  evaluations that follow it: the nights of the last experience, if any."""
  last = max((n for n, e in enumerate(plan) if e.kind == WAKE), default=-1)
  place = last + 1
  while place < len(plan) and plan[place].kind == EVALUATE:
    place += 1
  return place
