"""What may happen to the days of a run, at which moments, and what is right."""

import gzip
import json
import os
import pathlib
from collections.abc import Iterable

from benchmarks.fault_cases import days
from benchmarks.fault_cases.days import ACCEPTED, REFUSED, SAME, Case, Change

_ROWS = {
  'day_8': ('Ann has a cat.', 'Ann is a cook.', 'Ann likes tea.'),
  'day_9': ('Bo has a dog.', 'Bo is a clerk.'),
}
_NEW = ('Cy has a hen.', 'Cy is a smith.')
FOLDER, FIELD, EXTRA = 'folder', 'field of a file', 'extra days'
GZ, GROWING = 'gz', 'growing file'
FORMS = (FOLDER, FIELD, EXTRA, GZ, GROWING)
_LOG = 'log.jsonl'
BEFORE, FIRST, BETWEEN = 'before', 'half the first day', 'between'
HALF, NIGHT, END = 'half a day', 'in a night', 'after the end'
_BEGUN = (HALF, NIGHT, END)  # Moments at which both days have begun.


def config(form: str):
  """Returns the config of a run on days of one form."""
  from benchmarks.fault_cases.configs import facts, lines

  c = facts.get_config() if form == EXTRA else lines.get_config()
  c.checkpoint.every_seconds = 1e9
  if form == EXTRA:
    c.data.settings.num_days = 1
    c.data.update(extra_days='days', context=64, max_prompt=60)
    c.wake.steps = c.consolidate.num_updates = 4
    c.tokenizer.update(kind='bytes')
    return c
  c.data.path = 'days' if form in (FOLDER, GZ) else f'days/{_LOG}'
  if form == FIELD:
    c.data.settings.field = 'week'
  if form == GROWING:
    c.data.growing = True
  return c


def write(form: str, folder: pathlib.Path) -> None:
  """Writes the days before the change."""
  folder.mkdir()
  if form in (FIELD, GROWING):
    week = [
      {'text': text, 'week': name}
      for name, texts in _ROWS.items()
      for text in texts
    ]
    (folder / _LOG).write_text(_lines(week))
    return
  for name, texts in _ROWS.items():
    data = _lines({'text': text} for text in texts).encode()
    if form == GZ:
      (folder / f'{name}.jsonl.gz').write_bytes(gzip.compress(data, mtime=0))
    else:
      (folder / f'{name}.jsonl').write_bytes(data)


def _lines(rows: Iterable[dict]) -> str:
  return ''.join(json.dumps(row) + '\n' for row in rows)


def _add(name: str, texts: Iterable[str] = _NEW, mode: str = 'w') -> Change:
  """Returns a change that writes or appends rows."""

  def change(folder):
    with open(folder / name, mode) as file:
      file.write(_lines({'text': text} for text in texts))

  return change


def _append(*rows: dict) -> Change:
  def change(folder):
    with open(folder / _LOG, 'a') as file:
      file.write(_lines(rows))

  return change


def _put(name: str, data: bytes) -> Change:
  return lambda folder: (folder / name).write_bytes(data) and None


def _delete(*names: str) -> Change:
  return lambda folder: [(folder / name).unlink() for name in names] and None


def _rename(old: str, new: str) -> Change:
  return lambda folder: (folder / old).rename(folder / new) and None


def _both(*changes: Change) -> Change:
  return lambda folder: [change(folder) for change in changes] and None


def _reverse(name: str) -> Change:
  def change(folder):
    lines = (folder / name).read_text().splitlines(keepends=True)
    (folder / name).write_text(''.join(lines[::-1]))

  return change


def _compress(folder: pathlib.Path) -> None:
  file = folder / 'day_8.jsonl'
  (folder / 'day_8.jsonl.gz').write_bytes(gzip.compress(file.read_bytes()))
  file.unlink()


def _format(folder: pathlib.Path) -> None:
  """Writes the same rows in another way."""
  for file in folder.glob('*.jsonl'):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    text = '\r\n\r\n'.join(json.dumps({'id': 1, **row}) for row in rows)
    file.write_bytes(b'\xef\xbb\xbf' + text.encode())


def _touch(folder: pathlib.Path) -> None:
  for file in folder.iterdir():
    os.utime(file, (0, 0))


def _keep(folder: pathlib.Path) -> None:
  """Changes nothing."""


_8, _9, _10, _0 = (f'day_{n}.jsonl' for n in (8, 9, 10, 0))
_EDIT_8 = days.rewrite(_8, 'cat', 'cow')
_EDIT_9 = days.rewrite(_9, 'dog', 'cow')
_MORE_9 = _add(_9, ('Bo likes tea.',), 'a')
_MISSING_8 = r'day_8\.jsonl \(3 rows\) was learned and is missing'
_MISSING_9 = r'day_9\.jsonl \(2 rows\) was learned and is missing'
# Kind of change -> the change, and for each moment what is right: SAME, or the
# pattern of the refusal.
_CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
  'nothing': (_keep, dict.fromkeys((FIRST, BETWEEN, *_BEGUN), SAME)),
  'a later day is added': (
    _add(_10), dict.fromkeys((BEFORE, BETWEEN, *_BEGUN), SAME)
  ),
  'an earlier day is added': (
    _add(_0),
    {BEFORE: SAME} | dict.fromkeys(
      (FIRST, BETWEEN, *_BEGUN), r'day_0\.jsonl is new and comes before day_\d'
    ),
  ),
  'a day between is added': (
    _add('day_8b.jsonl'),
    {BETWEEN: SAME} | dict.fromkeys(
      _BEGUN, r'day_8b\.jsonl is new and comes before day_9\.jsonl'
    ),
  ),
  'a learned day is deleted': (
    _delete(_8), {BEFORE: SAME} | dict.fromkeys((BETWEEN, *_BEGUN), _MISSING_8)
  ),
  'the last day is deleted': (
    _delete(_9), {BETWEEN: SAME} | dict.fromkeys(_BEGUN, _MISSING_9)
  ),
  'a learned day is deleted, another added': (
    _both(_delete(_8), _add(_10)), {BETWEEN: _MISSING_8, END: _MISSING_8}
  ),
  'a learned day is edited': (
    _EDIT_8,
    {BEFORE: SAME} | dict.fromkeys(
      (FIRST, BETWEEN, *_BEGUN), r'day_8\.jsonl has other rows \(3\)'
    ),
  ),
  'the last day is edited': (
    _EDIT_9,
    {BETWEEN: SAME} | dict.fromkeys(_BEGUN, r'day_9\.jsonl has other rows'),
  ),
  'a learned day is renamed': (
    _rename(_8, 'day_7.jsonl'),
    {BEFORE: SAME} | dict.fromkeys(
      (BETWEEN, END), r'day_8\.jsonl is now named day_7\.jsonl'
    ),
  ),
  'a learned day is renamed behind the others': (
    _rename(_8, _10), {END: r'day_8\.jsonl is now named day_10\.jsonl'}
  ),
  'rows are appended to the last day': (
    _MORE_9,
    {BETWEEN: SAME} | dict.fromkeys(
      _BEGUN, r'day_9\.jsonl has 3 rows: 1 were appended'
    ),
  ),
  'rows are put in another order': (
    _reverse(_8), {END: r'day_8\.jsonl has other rows', BEFORE: SAME}
  ),
  'two days are exchanged': (
    _both(_rename(_8, 'x'), _rename(_9, _8), _rename('x', _9)),
    {END: r'day_8\.jsonl has other rows.*learned as day_9'},
  ),
  'files are written in another way': (
    _format, {FIRST: SAME, NIGHT: SAME, END: SAME}
  ),
  'a file is compressed': (_compress, {BETWEEN: SAME, HALF: SAME, END: SAME}),
  'files get another time': (_touch, {HALF: SAME}),
  'a day is copied as a new one': (
    _add(_10, _ROWS['day_9']), {END: SAME, BETWEEN: SAME}
  ),
  'other files are put beside': (
    _both(_put('notes.txt', b'x'), _put('.day_10.jsonl.swp', b'\0')),
    {NIGHT: SAME},
  ),
}  # fmt: skip
# Files that are no days: refused without the choices of changed days.
_NO_DAYS: dict[str, tuple[Change, str]] = {
  'probes are put beside': (
    _add('probes.jsonl'), r'probes\.jsonl is in the folder of the days'
  ),
  'pretraining text is put beside': (
    _add('birth.jsonl'), r'birth\.jsonl is in the folder of the days'
  ),
  'a new day is cut off': (
    _put(_10, b'{"text": "Cy has'), r'day_10\.jsonl:1: .*still being written'
  ),
  'a new day is empty': (_put(_10, b''), r'day_10\.jsonl holds no rows'),
  'a learned day is cut off': (
    _put(_8, b'{"text": "Ann has'), r'day_8\.jsonl:1: .*still being written'
  ),
}  # fmt: skip
_WEEK_10 = {'text': _NEW[0], 'week': 'day_10'}
_FIELD_CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
  'rows of a new value are appended': (
    _append(_WEEK_10), {BETWEEN: SAME, NIGHT: SAME, END: SAME}
  ),
  'a row is appended to a learned value': (
    _append({'text': _NEW[0], 'week': 'day_8'}),
    {BETWEEN: r'day_8.*has 4 rows: 1 were appended'},
  ),
  'a learned row is edited': (
    days.rewrite(_LOG, 'cat', 'cow'), {HALF: 'day_8.*has other rows'}
  ),
  'values are in another order': (
    _reverse(_LOG), {END: 'day_(8|9).*(other rows|before)'}
  ),
  'a value is renamed': (
    days.rewrite(_LOG, 'day_8', 'day_1'), {END: 'day_8.*is now named day_1'}
  ),
}  # fmt: skip
_GROWN: dict[str, tuple[Change, dict[str, str]]] = {
  'a learned row is edited': (
    days.rewrite(_LOG, 'cat', 'cow'), {END: r'log\.jsonl has other rows'}
  ),
  'the last row is deleted': (
    days.rewrite(_LOG, '{"text": "Bo is a clerk.", "week": "day_9"}\n', ''),
    {END: r'log\.jsonl has other rows'},
  ),
}  # fmt: skip
_EXTRA_CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
  'a later day is added': (_add(_10), {BETWEEN: SAME, END: SAME}),
  'an earlier day is added': (
    _add(_0), {BETWEEN: SAME, END: r'day_0\.jsonl is new and comes before'}
  ),
  'a learned day is deleted': (_delete(_8), {END: _MISSING_8}),
  'a learned day is edited': (_EDIT_8, {HALF: 'day_8.*has other rows'}),
}  # fmt: skip
_GZ_CHANGES: dict[str, tuple[Change, dict[str, str]]] = {
  'a later day is added': (_add(_10), {END: SAME}),
  'a learned day is deleted': (
    _delete('day_8.jsonl.gz'),
    {END: r'day_8\.jsonl\.gz \(3 rows\) was learned and is missing'},
  ),
}  # fmt: skip
# Accepted changes, and the change to the days of an unbroken run that learned
# the same; None: there is none, as the name of a day is a part of its seed.
_ACCEPTED: dict[str, tuple[Change, str, str, Change | None]] = {
  'a learned day is deleted': (_delete(_8), BETWEEN, _MISSING_8, _keep),
  'a learned day is deleted, another added': (
    _both(_delete(_8), _add(_10)), END, _MISSING_8, _add(_10)
  ),
  'a learned day is edited': (_EDIT_8, END, 'day_8.*other rows', _keep),
  'a learned day is renamed behind the others': (
    _rename(_8, _10), END, 'day_8.*is now named', _keep
  ),
  'an earlier day is added': (
    _add(_0), END, 'day_0.*is new and comes before', None
  ),
}  # fmt: skip


def cases() -> list[Case]:
  """Returns the cases of all forms of days."""
  found = []
  for form, changes in (
    (FOLDER, _CHANGES),
    (FIELD, _FIELD_CHANGES),
    (EXTRA, _EXTRA_CHANGES),
    (GZ, _GZ_CHANGES),
    (GROWING, _GROWN),
  ):
    for kind, (change, moments) in changes.items():
      for moment, right in moments.items():
        name = f'{form}, {moment}: {kind}'
        if right == SAME:
          found.append(Case(name, form, moment, change, SAME))
        else:
          found.append(Case(name, form, moment, change, REFUSED, right))
  for kind, (change, message) in _NO_DAYS.items():
    name = f'{FOLDER}, {END}: {kind}'
    found.append(
      Case(name, FOLDER, END, change, REFUSED, message, choices=False)
    )
  for kind, (change, moment, message, unbroken) in _ACCEPTED.items():
    name = f'{FOLDER}, {moment}: {kind}, and accepted'
    found.append(
      Case(name, FOLDER, moment, change, ACCEPTED, message, unbroken)
    )
  return found
