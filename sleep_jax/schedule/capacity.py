"""TODO: schedule.capacity (from schedule)."""

import dataclasses
from collections.abc import Sequence

from sleep_jax.schedule import checks, events


@dataclasses.dataclass(frozen=True)
class LevelSchedule:
  """What one level does in a whole run; see `audit`."""

  level: int
  updates: tuple[int, ...]
  sleeps: tuple[int, ...]
  most_experts: int
  slots: int


def audit(
  levels: Sequence[events.Level],
  plan: Sequence[events.Event],
  *,
  overflow: str = 'error',
) -> tuple[LevelSchedule, ...]:
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
    if event.kind == events.WAKE:
      for index, level in enumerate(levels):
        period = level.update_period
        if isinstance(period, int) and event.step % period == 0:
          updates[index].append(event.step)
    if event.kind == events.SLEEP:
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
    LevelSchedule(index + 1, tuple(updates[index]), tuple(sleeps[index + 1]),
        most[index], level.slots)
    for index, level in enumerate(levels)
  ]  # fmt: skip
  if sleeps[0]:
    rows.insert(0, LevelSchedule(0, (), tuple(sleeps[0]), 0, 0))
  return tuple(rows)


def describe(rows: Sequence[LevelSchedule]) -> str:
  """The audit as a table for people."""
  lines = ['level  moves  sleeps  most experts / slots   moves at; sleeps at']
  for row in rows:
    lines.append(
      f'{row.level:>5}  {len(row.updates):>5}  {len(row.sleeps):>6}  '
      f'{row.most_experts:>12} / {row.slots:<5}   '
      f'{checks.join_some(row.updates)}; {checks.join_some(row.sleeps)}'
    )
  return '\n'.join(lines)
