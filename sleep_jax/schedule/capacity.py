"""Computes when each level is updated and sleeps, and how full its bank gets.

The whole schedule is known before a run starts, so a bank that is too small is
an error at the start.
"""

import dataclasses
import itertools
import types
from collections.abc import Mapping, Sequence

from sleep_jax import errors
from sleep_jax.schedule import events

_SHOWN = 6  # Steps of a level that a table names.


@dataclasses.dataclass(frozen=True)
class LevelSchedule:
  """The schedule of one level over a whole run.

  Attributes:
    level: number of the level; 0 is the context window.
    updates: wake steps after which the level is updated.
    sleeps: wake steps after which the level sleeps.
    most_experts: largest number of active experts in the bank of the level.
    slots: number of slots of the bank.
  """

  level: int
  updates: tuple[int, ...]
  sleeps: tuple[int, ...]
  most_experts: int
  slots: int


def audit(
  levels: Sequence[events.Level],
  plan: Sequence[events.Event],
  *,
  overflow: Mapping[int, str] = types.MappingProxyType({}),
  done: int = 0,
  in_use: Sequence[int] = (),
) -> tuple[LevelSchedule, ...]:
  """Returns the schedule of every level.

  Args:
    levels: fastest first.
    plan: the events of the run, see `events.make_events`.
    overflow: level -> what happens when its bank is full: 'error' (also where
      none is given) allows no more experts than slots; 'merge' merges two;
      'absorb' empties the bank; 'none' if nights add no experts.
    done: number of events that have happened.
    in_use: active experts of each level after them. A bank has fewer than
      planned if nights were discarded or forgotten, and more if the night that
      empties it was discarded. The latter is no error of the schedule: nights
      that find no slot are discarded too.

  Returns:
    One entry per level, preceded by one for the context window if it sleeps.

  Raises:
    ConfigError: a bank would overflow; says how many slots it needs.
  """
  count = [0] * len(levels)
  for event in plan[:done]:
    _add_expert(count, event)
  if done:
    count = [min(pair) for pair in zip(count, in_use, strict=True)]
  most = [*count]
  for event in plan[done:]:
    _add_expert(count, event)
    most = [max(pair) for pair in zip(most, count, strict=True)]
  updates: list[list[int]] = [[] for _ in levels]
  sleeps: list[list[int]] = [[] for _ in (0, *levels)]
  for event in plan:
    if event.kind == events.WAKE:
      for index, level in enumerate(levels):
        period = level.update_period
        if isinstance(period, int) and event.step % period == 0:
          updates[index].append(event.step)
    if event.kind == events.SLEEP:
      sleeps[event.sender].append(event.step)
  for index, level in enumerate(levels):
    full = overflow.get(index + 1, 'error')
    if full == 'none':
      most[index] = 0
    if (full == 'merge' and level.slots > 1) or full == 'absorb':
      most[index] = min(most[index], level.slots)
    if most[index] > level.slots:
      raise errors.ConfigError(
        f'The bank of level {index + 1} has {level.slots} slots, but '
        f'{most[index]} nights add an expert before it is reset: set its '
        f'slots to {most[index]}, increase the sleep period of level {index}, '
        "or set consolidate.full to 'absorb' (for the slowest level), or to "
        "'merge' with 2 slots or more."
      )
  rows = [
    LevelSchedule(index + 1, tuple(updates[index]), tuple(sleeps[index + 1]),
        most[index], level.slots)
    for index, level in enumerate(levels)
  ]  # fmt: skip
  if sleeps[0]:
    rows.insert(0, LevelSchedule(0, (), tuple(sleeps[0]), 0, 0))
  return tuple(rows)


def _add_expert(count: list[int], event: events.Event) -> None:
  """Counts the expert of a night, which empties the bank of its sender."""
  if event.kind == events.SLEEP:
    count[event.sender] += 1  # The receiver: levels count from 1.
    if event.sender:
      count[event.sender - 1] = 0


def most_experts(rows: Sequence[LevelSchedule]) -> int:
  """Returns the largest number of active experts, over all levels."""
  return sum(row.most_experts for row in rows)


def describe(rows: Sequence[LevelSchedule]) -> str:
  """Formats the schedule as a text table."""
  lines = [
    'level  updates  sleeps  max experts / slots   updated at; sleeps at'
  ]
  for row in rows:
    lines.append(
      f'{row.level:>5}  {len(row.updates):>7}  {len(row.sleeps):>6}  '
      f'{row.most_experts:>11} / {row.slots:<5}   '
      f'{_format_steps(row.updates)}; {_format_steps(row.sleeps)}'
    )
  return '\n'.join(lines)


def _format_steps(steps: Sequence[int]) -> str:
  shown = ', '.join(str(step) for step in itertools.islice(steps, _SHOWN))
  if len(steps) > _SHOWN:
    return f'{shown}, ... {steps[-1]}'
  return shown or 'never'
