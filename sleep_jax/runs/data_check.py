"""Finds what is wrong with rows, and shows some as a model reads them."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.data import long_rows
from sleep_jax.datasets import dataset, jsonl
from sleep_jax.runs import row_display

_NUM_SHOWN = 3
_USAGE = (
  'Name files, folders or quoted patterns: sleep-jax check-data DAYS. '
  f'{jsonl.ROWS}'
)


@dataclasses.dataclass
class Findings:
  """What was found in the data.

  Attributes:
    faults: a message for each, in the order of files and lines.
    too_long: each row that the model cannot read, a `long_rows.TooLong`.
    days: name -> the kinds of its rows, counted.
    longest: name -> most tokens of a sequence, if a model reads the rows.
    shown: rows to show.
  """

  faults: list[str] = dataclasses.field(default_factory=list)
  too_long: list[Any] = dataclasses.field(default_factory=list)
  days: dict[str, collections.Counter[str]] = dataclasses.field(
    default_factory=dict
  )
  longest: dict[str, int] = dataclasses.field(default_factory=dict)
  shown: list[dataset.Row] = dataclasses.field(default_factory=list)


def read(
  path: Sequence[str], field: str | None = None
) -> tuple[dict[str, Sequence[dataset.Row]], list[str]]:
  """Returns the rows of each day that can be read, and all faults.

  Args:
    path: files, folders or patterns.
    field: see `jsonl.make`.

  Raises:
    MissingFileError: a path matches nothing.
  """
  faults: list[str] = []
  days = jsonl.read_experiences(
    path, field, on_error=lambda error: faults.append(str(error)), usage=_USAGE
  )
  return dict(days), in_order(faults)


def examine(
  days: Mapping[str, Sequence[dataset.Row]], reader: Any = None
) -> Findings:
  """Examines rows that could be read.

  Args:
    days: name -> rows.
    reader: a `row_reader.Reader`, or None: lengths are not examined.
  """
  found = Findings()
  by_kind: dict[str, dataset.Row] = {}
  others: list[dataset.Row] = []
  for name, rows in days.items():
    kinds = found.days[name] = collections.Counter()
    for row in rows:
      kind = _kind(row)
      kinds[kind] += 1
      if reader is not None and not _fits(row, name, reader, found):
        continue
      if kind not in by_kind:
        by_kind[kind] = row
      elif len(others) < _NUM_SHOWN:
        others.append(row)
  found.faults = in_order(found.faults)
  found.shown = [*by_kind.values(), *others][:_NUM_SHOWN]
  return found


def _fits(row: dataset.Row, name: str, reader: Any, found: Findings) -> bool:
  """Whether a model can read a row; if not, it is added to the findings."""
  try:
    sequences = reader.encode(row)
  except errors.DataError as error:
    found.faults.append(str(error))
    return False
  if not isinstance(sequences, list):
    found.too_long.append(sequences)
    return False
  longest = max(len(sequence.tokens) for sequence in sequences)
  found.longest[name] = max(found.longest.get(name, 0), longest)
  return True


def _kind(row: dataset.Row) -> str:
  if row.messages:
    return 'turns of conversations'
  return 'plain texts' if row.response_start is None else 'prompts'


def in_order(faults: list[str]) -> list[str]:
  """Returns faults by line within each file; files stay in their order."""
  places = [re.match(r'(.*?):(\d+)\b', fault) for fault in faults]
  names = list(dict.fromkeys(place[1] if place else '' for place in places))
  order = [
    (names.index(place[1]), int(place[2])) if place else (names.index(''), 0)
    for place in places
  ]
  return [faults[n] for n in sorted(range(len(faults)), key=order.__getitem__)]


def describe(
  found: Findings, *, reader: Any = None, loss_on: str, marks: row_display.Marks
) -> str:
  """Returns the findings as text.

  Args:
    found: what was found.
    reader: what examined it, or None.
    loss_on: see `token_cache.make_source`.
    marks: around what is learned.
  """
  total = sum(kinds.total() for kinds in found.days.values())
  lines = [f'{_count(total, "row")} in {_count(len(found.days), "day")}']
  width = max(map(len, found.days), default=0)
  for name, kinds in found.days.items():
    parts = ', '.join(f'{kind}: {num:,}' for kind, num in kinds.items())
    longest = found.longest.get(name)
    which = 'longest that fits' if found.too_long else 'longest'
    tokens = f'; {which}: {longest:,} tokens' if longest else ''
    lines.append(
      f'  {name:<{width}}  {_count(kinds.total(), "row")} ({parts}{tokens})'
    )
  lines += _list_faults(found, reader)
  if found.shown:
    by = f'as {reader.name} reads them' if reader else 'as text'
    lines.append(
      f'\nRows {by}; what is learned stands between '
      f'{marks.begin}these marks{marks.end}:'
    )
    if reader is None and any(row.messages for row in found.shown):
      lines.append(
        'Conversations are in the plain format, which a model without a chat '
        'template reads; name one with --model.'
      )
    if reader is not None and not reader.learns_awake:
      lines.append(
        f'With the config {reader.config} no weight is trained on these rows: '
        'the model reads them, and the night learns what it can say about '
        'them. The marks show what would be learned by training.'
      )
    for row in found.shown:
      lines += _show(row, reader, loss_on, marks)
  return '\n'.join(lines)


def _count(num: int, what: str) -> str:
  return f'{num:,} {what}' if num == 1 else f'{num:,} {what}s'


def _list_faults(found: Findings, reader: Any) -> list[str]:
  if not found.faults and not found.too_long:
    return ['\nNo faults.']
  lines = []
  if found.faults:
    lines.append(f'\nFaults: {len(found.faults):,}')
    lines += [f'  {fault}' for fault in found.faults]
  if found.too_long:
    skip = reader.data.get('too_long') == 'skip'
    what = "are left out (data.too_long='skip')" if skip else 'are refused'
    lines.append(
      f'\nRows that are too long and {what}: {len(found.too_long):,}'
    )
    lines += [f'  {row}' for row in found.too_long]
    if not skip:
      lines.append(f'The lengths are those of the config {reader.config}.')
      lines.append(long_rows.choices(long_rows.summarize(found.too_long)))
  return lines


def _show(row: dataset.Row, reader: Any, loss_on: str, marks) -> list[str]:
  if reader is None:
    text, size = row_display.show_text(row, loss_on, marks), ''
  else:
    sequences = reader.encode(row)
    text = row_display.show_tokens(sequences[0], reader.tokenizer, marks)
    size = f' ({len(sequences[0].tokens):,} tokens'
    size += f', window 1 of {len(sequences)})' if len(sequences) > 1 else ')'
  return [f'\n{row.where}{size}', *(f'  {line}' for line in text.split('\n'))]
