"""The ledger of a life: which expert holds which nights.

A row says what a night did to a slot of a level's bank. A night stays where it
was activated until its expert moves into a slower level, merges with another or
is forgotten.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# A level, and a slot of its bank; None: its base.
Place = tuple[int, int | None]
FORGOTTEN = 'forgotten'


def holders(ledger: Sequence[Mapping[str, Any]]) -> dict[Place, list[int]]:
  """Nights by the expert that holds them now, in the order of their coming.

  Args:
    ledger: rows of `records.entries`.
  """
  held: dict[Place, list[int]] = {}
  target: Place = (0, None)  # Of the night whose rows are read.
  for row in ledger:
    place, event = (row['level'], row['slot']), row['event']
    if event in ('activated', 'rewritten', 'dreamt'):
      target = place
      # What nights of dreams improve is there already, and so is a base.
      before = [] if event == 'activated' else held.get(place, [])
      held[place] = [*before, row['night']]
    elif event == 'merged':
      target = place
    elif event == 'reset':
      held.setdefault(target, []).extend(held.pop(place, []))
    elif event == FORGOTTEN:
      held.pop(place, None)
  return {place: sorted(nights) for place, nights in held.items()}


def holder(ledger: Sequence[Mapping[str, Any]], night: int) -> Place:
  """Where a night is held.

  Raises:
    ValueError: nowhere, or in a base, which cannot be switched off.
  """
  held = holders(ledger)
  for place, nights in held.items():
    if night in nights:
      if place[1] is None:
        raise ValueError(
          f"Night {night} went into level {place[0]}'s own weights, which "
          "cannot be switched off: only with consolidate.into='expert' can a "
          'night be forgotten.'
        )
      return place
  known = sorted(night for nights in held.values() for night in nights)
  raise ValueError(
    f'No expert holds night {night}: it was discarded, forgotten, or never '
    f'was. Those that are held: {known or "none"}.'
  )


def original_slot(ledger: Sequence[Mapping[str, Any]], night: int) -> Place:
  """Where a night that is held somewhere was put when it was slept."""
  return next(
    (row['level'], row['slot'])
    for row in ledger
    if row['night'] == night and row['event'] in ('activated', 'dreamt')
  )
