"""The table of each part of the fault campaign, as markdown."""

import pathlib
from typing import Any

Row = dict[str, Any]


def line(part: str, row: Row) -> str:
  """Returns one line about a finished case."""
  verdict = 'survived' if row['survived'] else 'FAILED'
  return f'{part} {row["name"]}: {verdict} ({_detail(row)})'


def _detail(row: Row) -> str:
  found = row.get('killed') or row.get('outcome', '')
  text = found if isinstance(found, str) else '; '.join(found)
  if row['survived']:
    return text[:120]
  why = [*row.get('differences', []), *row.get('traces', [])]
  return f'{text}: {"; ".join(why)[:200] or row.get("output", "")[-200:]}'


def write(output: pathlib.Path) -> None:
  """Writes README.md."""
