"""Finds which expert holds which night, from the expert history of a run.

A row of the history says what a night did to a slot of a level's bank. A night
stays in the expert that it activated until that expert is consolidated into a
slower level, merged with another one, or forgotten.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors

# A level and a slot of its bank; slot None is the level's base.
Place = tuple[int, int | None]
FORGOTTEN = 'forgotten'


def holders(history: Sequence[Mapping[str, Any]]) -> dict[Place, list[int]]:
  """Returns the nights that each expert holds now, oldest first.

  Args:
    history: rows of `night_records.history_rows`.
  """
  held: dict[Place, list[int]] = {}
  target: Place = (0, None)  # Where the present night puts its result.
  for row in history:
    place, event = (row['level'], row['slot']), row['event']
    if event in ('activated', 'rewritten', 'dreamt'):
      target = place
      # Dreams improve an expert that exists, and a base exists always.
      before = [] if event == 'activated' else held.get(place, [])
      held[place] = [*before, row['night']]
    elif event == 'merged':
      target = place
    elif event == 'reset':
      held.setdefault(target, []).extend(held.pop(place, []))
    elif event == FORGOTTEN:
      held.pop(place, None)
  return {place: sorted(nights) for place, nights in held.items()}


def num_experts(
  history: Sequence[Mapping[str, Any]], num_levels: int
) -> tuple[int, ...]:
  """Returns the number of experts of each level that hold a night now."""
  places = [place for place in holders(history) if place[1] is not None]
  return tuple(
    sum(level == place[0] for place in places)
    for level in range(1, num_levels + 1)
  )


def holder(history: Sequence[Mapping[str, Any]], night: int) -> Place:
  """Returns the expert that holds a night.

  Raises:
    UsageError: no expert holds it, or a base, which cannot be switched off.
  """
  held = holders(history)
  for place, nights in held.items():
    if night in nights:
      if place[1] is None:
        raise errors.UsageError(
          f'Night {night} was consolidated into the base of level {place[0]}, '
          'which cannot be switched off: a night can only be forgotten with '
          "consolidate.into='expert'."
        )
      return place
  known = sorted(night for nights in held.values() for night in nights)
  raise errors.UsageError(
    f'No expert holds night {night}: it was discarded, forgotten, or has not '
    f'happened. Nights that experts hold: {known or "none"}.'
  )


def expert_to_forget(
  history: Sequence[Mapping[str, Any]], night: int
) -> tuple[Place, str]:
  """Returns the expert that holds a night, and where that is not alone.

  Returns:
    The expert; and a sentence that says where it is and which nights would be
    lost with it, or '' if it holds nothing else.

  Raises:
    UsageError: see `holder`.
  """
  place = level, slot = holder(history, night)
  others = [other for other in holders(history)[place] if other != night]
  if not others and original_slot(history, night) == place:
    return place, ''
  also = f', with nights {others}, which would be lost too' if others else ''
  return place, f'Night {night} is in expert {slot} of level {level}{also}.'


def forgotten_at(
  history: Sequence[Mapping[str, Any]],
) -> dict[int, tuple[Place, list[int]]]:
  """Returns what each row that forgets an expert has switched off.

  Args:
    history: rows of `night_records.history_rows`.

  Returns:
    Index of the row -> the expert, and the nights that it held.
  """
  found = {}
  for index, row in enumerate(history):
    if row['event'] == FORGOTTEN:
      place = (row['level'], row['slot'])
      found[index] = place, holders(history[:index]).get(place, [])
  return found


def forgotten_place(
  history: Sequence[Mapping[str, Any]], night: int
) -> Place | None:
  """Returns the expert that a forgotten night was in, alone.

  None if it was not forgotten, if it was forgotten with other nights, or if the
  expert was used again and has other weights now.
  """
  for place, nights in forgotten_at(history).values():
    if nights == [night] and place not in holders(history):
      return place
  return None


def original_slot(history: Sequence[Mapping[str, Any]], night: int) -> Place:
  """Returns the expert that a night first went into."""
  return next(
    (row['level'], row['slot'])
    for row in history
    if row['night'] == night and row['event'] in ('activated', 'dreamt')
  )


def nights_of_day(record: Mapping[str, Any], day: int) -> list[int]:
  """Returns the numbers of the nights of an experience, counted from 1.

  Args:
    record: progress of a checkpoint, or record of a run.
    day: number of the experience.
  """
  since, until, _ = span(record, day)
  return [n['night'] for n in record['nights'] if since < n['step'] <= until]


def where_is_day(record: Mapping[str, Any], day: int) -> str:
  """Returns a sentence that says where the weights hold an experience.

  Args:
    record: as in `nights_of_day`.
    day: number of an experience, which may not have begun.
  """
  ended = {row['experience'] for row in record['evaluations']}
  if day not in ended:
    return 'not learned, or under way'
  nights = nights_of_day(record, day)
  if not nights:
    return 'learned awake'
  held = holders(record['ledger'])
  parts = []
  for night in nights:
    place = next((p for p, found in held.items() if night in found), None)
    if place is None:
      parts.append(f'night {night}, which no expert holds')
    elif place[1] is None:
      parts.append(f'night {night}, in the base of level {place[0]}')
    else:
      parts.append(
        f'night {night}, in expert {place[1]} of level {place[0]}, which holds '
        f'nights {held[place]}'
      )
  return f'learned in {"; ".join(parts)}'


def span(record: Mapping[str, Any], day: int) -> tuple[int, int, int]:
  """Returns the wake steps (since, until] of a day, and its first cycle.

  Args:
    record: as in `nights_of_day`.
    day: number of an experience that is complete.
  """
  ends = {
    row['experience']: (row['step'], row['cycle'])
    for row in record['evaluations']
    if row['experience'] is not None
  }
  since, cycle = ends.get(day - 1, (0, 0))
  return since, ends[day][0], cycle + 1


def day_of_night(record: Mapping[str, Any], night: int) -> int:
  """Returns the experience of a night.

  Raises:
    UsageError: there is no such night.
  """
  steps = {row['night']: row['step'] for row in record['nights']}
  if night not in steps:
    raise errors.UsageError(
      f'There is no night {night}: nights so far are {sorted(steps) or "none"}.'
    )
  return min(
    row['experience']
    for row in record['evaluations']
    if row['experience'] is not None and row['step'] >= steps[night]
  )
