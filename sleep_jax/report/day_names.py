"""Names days by their files, beside their numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

Run = Mapping[str, Any]


def name(run: Run, number: int | None) -> str:
  """Returns the name of an experience, or '' if its number says all.

  Args:
    run: with 'days', names in the order of learning.
    number: of the experience, from 1; None or 0: of none.
  """
  days = run.get('days', ())
  if not number or number > len(days) or days[number - 1] == f'day {number}':
    return ''
  return str(days[number - 1])


def title(run: Run, number: int) -> str:
  """Returns 'experience 2 (day_2.jsonl)', or only the number."""
  found = name(run, number)
  return f'experience {number}' + (f' ({found})' if found else '')


def night(run: Run, number: int) -> str:
  """Returns '3 (day_2.jsonl)' for the third night, or only its number."""
  for record in run['nights']:
    if record['night'] == number:
      found = name(run, record.get('experience'))
      return f'{number} ({found})' if found else str(number)
  return str(number)


def numbered(runs: Sequence[Run], num: int) -> list[str]:
  """Returns '1 day_1.jsonl' and so on, where all runs agree on the name."""
  found = []
  for number in range(1, num + 1):
    names = {
      name(run, number) for run in runs if len(run.get('days', ())) >= number
    }
    found.append(
      f'{number} {clip(*names)}'.strip() if len(names) == 1 else str(number)
    )
  return found


def clip(text: str, most: int = 18) -> str:
  """Returns a name that fits into a drawing; its end tells days apart."""
  return text if len(text) <= most else f'…{text[1 - most :]}'
