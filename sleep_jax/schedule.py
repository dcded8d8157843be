"""Which level moves and which falls asleep, at every step of a run.

The whole run is known before it starts: a plain list of events that the
lifecycle walks through and a checkpoint points into. Level l moves after every
`update_period` completed steps and is consolidated into level l + 1 after every
`sleep_period`; levels due at one step go fastest first.

References: 2606.03979 section 3.3; 2512.24695 section 7.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from sleep_jax.model import config as config_lib

Level = config_lib.Level
WAKE, SLEEP, DREAM, EDIT = 'wake', 'sleep', 'dream', 'edit'
EVALUATE, SAVE = 'evaluate', 'save'
AFTER, BEFORE = 'after', 'before'  # Consolidation: when to dream.
EVENING, MORNING, NEWBORN = 'evening', 'morning', 'newborn'


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


def check(levels: Sequence[Level]) -> None:
  """Raises ValueError where two periods do not fit each other."""
  for number, level in enumerate(levels, 1):
    update, sleep = level.update_period, level.sleep_period
    if isinstance(update, int) and update < 1:
      raise ValueError(
        f'levels[{number}].update_period is {update}: expected at least 1 step.'
      )
    _check_sleep(number, 'sleep_period', sleep)
    context = level.context_sleep_period
    if number > 1 and context != config_lib.INFINITE:
      raise ValueError(
        f'levels[{number}].context_sleep_period is {context!r}: the context '
        'window is consolidated into levels[1], the fastest, alone.'
      )
    _check_sleep(number, 'context_sleep_period', context)
    if number == len(levels):
      if not update == sleep == config_lib.INFINITE:
        raise ValueError(
          f'levels[{number}], the slowest, has update_period {update!r} and '
          f'sleep_period {sleep!r}: it has no receiver, so both must be '
          "'infinite'."
        )
      continue
    if not isinstance(update, int):
      raise ValueError(
        f'levels[{number}].update_period is {update!r}: expected a number of '
        'wake steps; only the slowest level is infinite.'
      )
    if isinstance(sleep, int) and sleep % update:
      raise ValueError(
        f'levels[{number}].sleep_period {sleep} is not a multiple of its '
        f'update_period {update}: a sleep would cut a chunk.'
      )
    above = levels[number].update_period
    if isinstance(above, int) and above % update:
      raise ValueError(
        f'levels[{number + 1}].update_period {above} is not a multiple of '
        f'levels[{number}].update_period {update}.'
      )


def steps_per_experience(levels: Sequence[Level], steps: int) -> int:
  """`steps`, rounded up so that no chunk of a sleeper crosses experiences."""
  for level in levels:
    period = level.update_period
    if level.sleep_period == config_lib.EXPERIENCE and isinstance(period, int):
      steps = -(-steps // period) * period
  return steps


def senders(
  levels: Sequence[Level], step: int, *, ends: bool
) -> tuple[int, ...]:
  """Who falls asleep after `step` completed steps: 0 the context, then levels.

  Fastest first.
  """
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number
    for number, period in enumerate(periods)
    if (period == config_lib.EXPERIENCE and ends)
    or (isinstance(period, int) and step % period == 0)
  )


def sleepers(levels: Sequence[Level]) -> tuple[int, ...]:
  """Senders that ever fall asleep, fastest first; 0 is the context window."""
  periods = (levels[0].context_sleep_period, *(x.sleep_period for x in levels))
  return tuple(
    number
    for number, period in enumerate(periods)
    if period != config_lib.INFINITE
  )


def events(
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
      due = senders(levels, step, ends=ends) if sleeps else ()
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


@dataclasses.dataclass(frozen=True)
class Row:
  """What one level does in a whole run; see `audit`."""

  level: int
  updates: tuple[int, ...]
  sleeps: tuple[int, ...]
  most_experts: int
  slots: int


def audit(
  levels: Sequence[Level], plan: Sequence[Event], *, overflow: str = 'error'
) -> tuple[Row, ...]:
  """Who moves when, who sleeps when, and how full each bank gets.

  Args:
    levels: fastest first.
    plan: see `events`.
    overflow: what a full bank does: 'error', 'merge' two of its experts, or
      'none': nights fill no slot.

  Raises:
    ValueError: a bank must overflow; says when and how many slots it needs.
  """
  count, most = [0] * len(levels), [0] * len(levels)
  updates: list[list[int]] = [[] for _ in levels]
  sleeps: list[list[int]] = [[] for _ in (0, *levels)]
  for event in plan:
    if event.kind == WAKE:
      for index, level in enumerate(levels):
        period = level.update_period
        if isinstance(period, int) and event.step % period == 0:
          updates[index].append(event.step)
    if event.kind == SLEEP:
      receiver = event.sender  # As an index: the sender's own is one less.
      sleeps[event.sender].append(event.step)
      count[receiver] += 1
      most[receiver] = max(most[receiver], count[receiver])
      if event.sender:
        count[event.sender - 1] = 0
  for index, level in enumerate(levels):
    if overflow == 'none':
      most[index] = 0
    if overflow == 'merge' and level.slots > 1:
      most[index] = min(most[index], level.slots)
    if most[index] > level.slots:
      raise ValueError(
        f'The bank of level {index + 1} has {level.slots} slots, but '
        f'{most[index]} nights fill it before it is emptied: set its slots '
        f'to {most[index]}, let level {index} sleep less often, or give it 2 '
        "or more and set consolidate.full to 'merge'."
      )
  rows = [
    Row(index + 1, tuple(updates[index]), tuple(sleeps[index + 1]),
        most[index], level.slots)
    for index, level in enumerate(levels)
  ]  # fmt: skip
  if sleeps[0]:
    rows.insert(0, Row(0, (), tuple(sleeps[0]), 0, 0))
  return tuple(rows)


def describe(rows: Sequence[Row]) -> str:
  """The audit as a table for people."""
  lines = ['level  moves  sleeps  most experts / slots   moves at; sleeps at']
  for row in rows:
    lines.append(
      f'{row.level:>5}  {len(row.updates):>5}  {len(row.sleeps):>6}  '
      f'{row.most_experts:>12} / {row.slots:<5}   '
      f'{_some(row.updates)}; {_some(row.sleeps)}'
    )
  return '\n'.join(lines)


def _check_sleep(number, field, period):
  known = (config_lib.EXPERIENCE, config_lib.INFINITE)
  if not isinstance(period, int) and period not in known:
    raise ValueError(
      f'levels[{number}].{field} is {period!r}: expected steps, '
      "'experience' or 'infinite'."
    )
  if isinstance(period, int) and period < 1:
    raise ValueError(
      f'levels[{number}].{field} is {period}: expected at least 1 step.'
    )


def _some(steps: Sequence[int], most: int = 6) -> str:
  shown = ', '.join(str(step) for step in itertools.islice(steps, most))
  if len(steps) > most:
    return f'{shown}, ... {steps[-1]}'
  return shown or 'never'
