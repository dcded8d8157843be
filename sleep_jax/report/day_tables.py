"""Builds the table of what is read of each day, and of what its nights keep."""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax.report import html, text_format


def days(found: Sequence[Mapping[str, Any]]) -> html.Table:
  """Returns one row per day, or per group of days that are alike.

  Args:
    found: see `runs.coverage.rows`.
  """
  read = ['rows', 'left out', 'windows', 'wake steps', 'windows per step']
  read += ['passes', 'windows never read']
  head = [('', ['day']), ('read awake', read)]
  head += [
    ('night', ['prompts', 'prompts kept', 'prompts too long', 'rehearsals'])
  ]
  return html.Table(head, [_row(day) for day in found])


def _row(day: Mapping[str, Any]) -> list[str | html.Cell]:
  unread, too_wide = f'{day["unread"]:,}', f'{day["too_wide"]:,}'
  kept, rehearsals = text_format.UNKNOWN, text_format.UNKNOWN
  if day['kept'] is not None:
    kept = f'{min(day["kept"], day["prompts"]):,}'
    rehearsals = f'{day["rehearsals"]:,}'
  return [
    day['name'],
    *(
      f'{day[key]:,}'
      for key in ('rows', 'skipped', 'windows', 'steps', 'batch_size')
    ),
    text_format.short(day['passes'], 3),
    html.Cell(unread, kind='best') if day['unread'] else unread,
    f'{day["prompts"]:,}',
    kept,
    html.Cell(too_wide, kind='best') if day['too_wide'] else too_wide,
    rehearsals,
  ]
