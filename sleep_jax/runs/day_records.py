"""Records which days a run has learned, so that a changed day is noticed.

A run resumes by the position of its days. The folder of each seed therefore has
`days.json`: name, file, number of rows and digest of the pretraining text and
of each day, in order. `day_changes` compares these records with the present
files.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.storage import workdir

FILE = 'days.json'
PRETRAINING = 'pretraining text'

# Keys: 'name'; 'file', if the rows are of one; 'rows' and 'digest', as learned.
# 'part_of': name of the growing file of which the day is a part.
# What the user accepted: 'missing' (the file is gone), 'renamed' (its present
# name), 'accepted' (its present digest), 'placed' (not in the order of files).
Record = Mapping[str, Any]


def describe(dataset: dataset_lib.Dataset) -> list[Record]:
  """Returns a record of the pretraining text and of each day, in order.

  Held-out rows belong to their day, so that the record depends on the file
  only.
  """
  records = [_describe(PRETRAINING, dataset.pretrain)]
  for name, rows in dataset.experiences:
    record = _describe(name, dataset.whole.get(name, rows))
    if name in dataset.parts:
      record['part_of'] = dataset.parts[name]
    records.append(record)
  return list(records)


def _describe(name: str, rows: Sequence[dataset_lib.Row]) -> dict[str, Any]:
  file = file_name(rows)
  return {
    'name': name,
    **({'file': file} if file else {}),
    'rows': len(rows),
    'digest': digest(rows),
  }


def file_name(rows: Sequence[dataset_lib.Row]) -> str | None:
  """Returns the name of the file of the first row, if it is of a file."""
  where = rows[0].where if rows else ''
  return os.path.basename(where.rpartition(':')[0]) or None


def label(record: Record) -> str:
  """Returns the name of a day for messages: that of its file if it has one."""
  name, file = record['name'], record.get('file')
  if record.get('renamed'):
    return f'{name} (now {file})'
  if not file or record.get('part_of'):
    return name
  # With `data.settings.field`, a file has days of other names.
  return file if file.startswith(f'{name}.') else f'{name} (in {file})'


def digest(rows: Iterable[dataset_lib.Row], num: int | None = None) -> str:
  """Returns a hash of everything that is learned from rows.

  Args:
    rows: of a day.
    num: only the first so many; None for all.
  """
  found = hashlib.sha256()
  for row in itertools.islice(rows, num):
    # Only fields that are set: a new kind of field changes no old digest.
    learned = [
      (field.name, value)
      for field in _FIELDS
      if (value := getattr(row, field.name)) != field.default
    ]
    found.update(json.dumps(learned).encode() + b'\n')
  return found.hexdigest()[:32]


_FIELDS = [f for f in dataclasses.fields(dataset_lib.Row) if f.name != 'where']


def read(folder: workdir.Folder) -> list[Record]:
  """Returns the records of a seed's folder; none if it has none yet.

  Raises:
    WorkdirError: the file is damaged.
  """
  file = folder / FILE
  if not file.exists():
    return []
  try:
    records = json.loads(file.read_text())
    if isinstance(records, list) and all(
      isinstance(record['name'], str)
      and isinstance(record['rows'], int)
      and isinstance(record['digest'], str)
      for record in records
    ):
      return records
    found = 'name, rows or digest have another type'
  except (ValueError, TypeError, KeyError) as error:
    found = f'{type(error).__name__}: {error}'
  raise errors.WorkdirError(
    f'{file} is damaged ({found}): it records the days that were learned. '
    'Restore it from a backup, or choose another --workdir.'
  )


def write(folder: workdir.Folder, records: Sequence[Record]) -> None:
  """Replaces the records of a seed's folder."""
  workdir.write_json(folder / FILE, list(records))


def ends_of_parts(
  own: Sequence[Record], others: Iterable[Sequence[Record]]
) -> dict[str, tuple[int, ...]]:
  """Returns at which rows growing files are cut into days.

  Args:
    own: records of the days that the runs of a seed have begun.
    others: the same of the other seeds, which were cut at the same start, or
      will be.

  Returns:
    Name of the file's day -> numbers of rows, ascending.
  """
  ends = _ends(own)
  for records in others:
    for name, theirs in _ends(records).items():
      mine = ends.get(name, ())
      last = mine[-1] if mine else 0
      ends[name] = (*mine, *(end for end in theirs if end > last))
  return ends


def _ends(records: Sequence[Record]) -> dict[str, tuple[int, ...]]:
  """Returns the sums of rows of the parts of each file."""
  ends: dict[str, tuple[int, ...]] = {}
  for record in records:
    name = record.get('part_of', record['name'])
    before = ends.get(name, ())
    ends[name] = (*before, (before[-1] if before else 0) + record['rows'])
  # A file with other rows, which the user accepted, is learned no further.
  changed = {r.get('part_of', r['name']) for r in records if r.get('accepted')}
  return {name: end for name, end in ends.items() if name not in changed}
