"""The page of the fault campaign: one table for each part, as markdown."""

import json
import pathlib
from typing import Any

Row = dict[str, Any]

_HEAD = """# Faults

    python -m benchmarks.faults

Written by this command; the rows are in the JSON files beside this page. A case
survives if the end is that of the same run without the fault, bit by bit, or if
the fault is refused with a message that names it. A traceback or a silent
difference is a failure.
"""
_TITLES = {
  'kills': 'Processes that are killed (SIGKILL) and continued',
  'disks': 'Full disks, signals, two processes, read-only folders, clocks',
  'days': 'Days that change between two starts',
  'rows': 'Files of rows',
}


def line(part: str, row: Row) -> str:
  """Returns one line about a finished case."""
  verdict = 'survived' if row['survived'] else 'FAILED'
  found = row.get('killed') or row.get('outcome', '')
  text = found if isinstance(found, str) else '; '.join(found)
  if not row['survived']:
    why = [*row.get('differences', []), *row.get('traces', [])]
    text += f': {"; ".join(why)[:300] or row.get("output", "")[-300:]}'
  return f'{part} {row["name"]}: {verdict} ({text[:420]})'


def write(output: pathlib.Path) -> None:
  """Writes README.md from the rows of all parts that exist."""
  pages = [_HEAD]
  for part, title in _TITLES.items():
    file = output / f'{part}.json'
    if not file.exists():
      continue
    rows = json.loads(file.read_text(encoding='utf-8'))
    survived = sum(row['survived'] for row in rows)
    revisions = ', '.join(sorted({row['revision'] for row in rows}))
    pages.append(
      f'## {title}\n\n**{survived} of {len(rows)} survived** (revision '
      f'{revisions}).\n\n{_TABLES[part](rows)}'
    )
  (output / 'README.md').write_text('\n'.join(pages), encoding='utf-8')


def _table(titles: list[str], rows: list[list[Any]]) -> str:
  lines = [titles, ['---'] * len(titles), *rows]
  cells = [[_cell(value) for value in line] for line in lines]
  return ''.join(f'| {" | ".join(line)} |\n' for line in cells)


def _cell(value: Any) -> str:
  text = ' '.join(str(value).split())
  text = ''.join(c if c.isprintable() else '?' for c in text)
  return text.replace('\\', '\\\\').replace('|', '\\|').replace('<', '&lt;')


def _groups(rows: list[Row], *names: str) -> dict[tuple[str, ...], list[Row]]:
  found: dict[tuple[str, ...], list[Row]] = {}
  for row in rows:
    found.setdefault(tuple(row[name] for name in names), []).append(row)
  return found


def _counts(rows: list[Row], *names: str) -> str:
  groups = sorted(_groups(rows, *names).items())
  return _table(
    [*names, 'tried', 'survived'],
    [
      [*key, len(group), sum(row['survived'] for row in group)]
      for key, group in groups
    ],
  )


def _kills(rows: list[Row]) -> str:
  num = sum(len(row['killed']) for row in rows)
  return f'{num} kills.\n\n{_counts(rows, "scenario", "phase")}'


def _disks(rows: list[Row]) -> str:
  cases = _table(
    ['case', 'run', 'what happened', 'survived'],
    [
      [row['name'], row['scenario'], row['outcome'], _mark(row)]
      for row in sorted(rows, key=lambda row: (row['kind'], row['name']))
    ],
  )
  return f'{_counts(rows, "kind")}\n{cases}'


def _days(rows: list[Row]) -> str:
  return _table(
    ['change', 'right', 'what happened', 'survived'],
    [[row['name'], row['right'], row['outcome'], _mark(row)] for row in rows],
  )


def _rows(rows: list[Row]) -> str:
  cases = _table(
    ['kind', 'case', 'right', 'what happened', 'survived'],
    [
      [row['scenario'], row['name'], row['right'],
       f'{row["outcome"]}: {row["message"][:100]}' if row['message']
       else row['outcome'], _mark(row)]
      for row in rows
    ],
  )  # fmt: skip
  return f'{_counts(rows, "scenario", "right")}\n{cases}'


def _mark(row: Row) -> str:
  return 'yes' if row['survived'] else '**no**'


_TABLES = {'kills': _kills, 'disks': _disks, 'days': _days, 'rows': _rows}
