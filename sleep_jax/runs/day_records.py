"""Records which days a run has learned, so that a changed day is noticed.

A run resumes by the position of its days. The folder of each seed therefore has
`days.json`: name, number of rows and digest of the pretraining text and of each
day, in order. Days that were begun must be the same at every start; new days
may follow them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.storage import workdir

FILE = 'days.json'
_PRETRAINING = 'pretraining text'

Record = Mapping[str, Any]


def describe(dataset: dataset_lib.Dataset) -> list[Record]:
  """Returns name, number of rows and digest of each day, in order.

  The first entry is the pretraining text.
  """
  parts = [(_PRETRAINING, dataset.pretrain), *dataset.experiences]
  return [
    {'name': name, 'rows': len(rows), 'digest': _digest(rows)}
    for name, rows in parts
  ]


def read(folder: workdir.Folder) -> list[Record]:
  """Returns the records of a seed's folder; none if it has none yet."""
  file = folder / FILE
  return json.loads(file.read_text()) if file.exists() else []


def write(folder: workdir.Folder, records: Sequence[Record]) -> None:
  """Replaces the records of a seed's folder."""
  workdir.write_json(folder / FILE, list(records))


def changes(
  old: Sequence[Record], new: Sequence[Record], num_begun: int
) -> list[str]:
  """Returns a sentence for each begun entry that is not what it was.

  Args:
    old: as recorded.
    new: of the present files.
    num_begun: entries of `old` that a checkpoint depends on.
  """
  names = {record['name'] for record in new}
  found = []
  for place, record in enumerate(old[:num_begun]):
    now = new[place] if place < len(new) else None
    name = record['name']
    if now == record or record.get('missing'):
      continue
    if name not in names:
      found.append(f'{name} ({record["rows"]} rows) was learned and is missing')
    elif now is None or now['name'] != name:
      other = 'nothing' if now is None else now['name']
      found.append(f'{other} is in the place of {name}, which was learned')
    else:
      found.append(
        f'{name} has other rows ({now["rows"]}) than were learned '
        f'({record["rows"]})'
      )
  return found


def error(
  folder: workdir.Folder, found: Sequence[str]
) -> errors.ChangedDaysError:
  """Returns the error for changed days, with the choices."""
  return errors.ChangedDaysError(
    f'The days of {folder} are not those that were learned:\n  '
    + '\n  '.join(found)
    + '\nDays that were learned must stay as they are, in the same order, and '
    'new days come after them. Restore the files; or go back with '
    '--restore_cycle=N to a cycle before the change; or keep what was learned '
    'and continue with the other days: --accept_changed_days; or choose a new '
    '--workdir.'
  )


def with_learned_days(
  dataset: dataset_lib.Dataset, learned: Sequence[Record]
) -> dataset_lib.Dataset:
  """Returns a dataset whose learned days are in their recorded places.

  A learned day that is missing gets a placeholder: its rows are not read any
  more. All other days follow in their order.

  Args:
    dataset: of the present files.
    learned: records of the days, without the pretraining text.
  """
  present = dict(dataset.experiences)
  names = [record['name'] for record in learned]
  placeholder = [dataset_lib.Row(text='.', where='a day that is missing')]
  days = [(name, present.get(name, placeholder)) for name in names]
  days += [(n, rows) for n, rows in dataset.experiences if n not in names]
  return dataclasses.replace(dataset, experiences=days)


def keep_missing(
  old: Sequence[Record], new: Sequence[Record], missing: Collection[str]
) -> list[Record]:
  """Returns the new records, with the old ones of days that are missing."""
  kept = {record['name']: record for record in old}
  return [
    {**kept[record['name']], 'missing': True}
    if record['name'] in missing
    else record
    for record in new
  ]


def _digest(rows: Sequence[dataset_lib.Row]) -> str:
  """Returns a hash of everything that is learned from rows."""
  digest = hashlib.sha256()
  for row in rows:
    learned = row.text, row.response_start, row.target_start, row.subject
    digest.update(json.dumps(learned).encode())
  return digest.hexdigest()[:32]
