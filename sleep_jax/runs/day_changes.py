"""Compares the days of a study with those that its runs have learned.

A day is known by its name and the digest of its rows. Days that were begun must
be what they were, in the same order; new days may follow them. Anything else is
a change, which is refused or, if the user accepts it, recorded.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.runs import day_records
from sleep_jax.storage import workdir

Record = day_records.Record
_MISSING = [dataset_lib.Row(text='.', where='a day that is missing')]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Days of a study, beside those that were learned.

  Attributes:
    dataset: the begun days in their recorded places and under their recorded
      names, then the new ones. A begun day whose file is gone has one row,
      which is read only if the day was half learned.
    records: of the pretraining text and of these days, to be written if the
      changes are accepted.
    changes: a sentence for each change that was not accepted before.
    grown: whether rows were appended to a file that was learned.
  """

  dataset: dataset_lib.Dataset
  records: list[Record]
  changes: list[str]
  grown: bool


def compare(
  dataset: dataset_lib.Dataset, old: Sequence[Record], num_begun: int
) -> Comparison:
  """Compares the present files with the records of a seed.

  Args:
    dataset: of the present files.
    old: records of the pretraining text and the days; empty at first.
    num_begun: entries of `old` that a checkpoint depends on.

  Raises:
    ChangedDaysError: a new file has the name of a learned day that was renamed.
  """
  pretraining, *now = day_records.describe(dataset)
  present = {record['name']: record for record in now}
  rows = dict(dataset.experiences)
  begun = old[1:num_begun]
  claimed = _claim(begun, present)
  changes, grown = [], False
  if num_begun and _is_changed(old[0], pretraining):
    changes.append(
      f'the pretraining text has other rows ({pretraining["rows"]}) than were '
      f'learned ({old[0]["rows"]})'
    )
  records = [_keep(old[0], pretraining) if num_begun else pretraining]
  days = []
  for record in begun:
    found = present.get(claimed.get(record['name'], ''))
    days.append((record['name'], rows[found['name']] if found else _MISSING))
    records.append(_keep(record, found))
    if found is None:
      if not record.get('missing'):
        changes.append(
          f'{day_records.label(record)} ({record["rows"]} rows) was learned '
          'and is missing'
        )
    elif found['name'] not in (record['name'], record.get('renamed')):
      changes.append(
        f'{day_records.label(record)} is now named '
        f'{day_records.label(found)}: it has the rows that were learned'
      )
    elif _is_changed(record, found):
      whole = dataset.whole.get(found['name'], rows[found['name']])
      appended = len(whole) > record['rows'] and record[
        'digest'
      ] == day_records.digest(whole, record['rows'])
      grown |= appended
      changes.append(
        _appended(record, found) if appended else _other(record, found, begun)
      )
  new = [record for record in now if record['name'] not in claimed.values()]
  placed = {r['name'] for r in old if r.get('placed')}
  for record, sentence in _misplaced(now, begun, claimed, placed):
    changes.append(sentence)
    placed.add(record['name'])
  for record in new:
    if record['name'] in claimed:
      raise errors.ChangedDaysError(
        f'{day_records.label(record)} has the name of a day that was learned '
        f'and that is now named {claimed[record["name"]]}: give the new file '
        'another name.'
      )
    days.append((record['name'], rows[record['name']]))
    records.append(record)
  records = [
    {**record, 'placed': True}
    if claimed.get(record['name'], record['name']) in placed
    else record
    for record in records
  ]
  old_places = {name: place for place, name in enumerate(rows, 1)}
  numbers = {
    old_places[claimed.get(name, name)]: place
    for place, (name, _) in enumerate(days, 1)
    if claimed.get(name, name) in old_places
  }
  return Comparison(
    dataset=_reorder(dataset, days, numbers), records=records, changes=changes,
    grown=grown,
  )  # fmt: skip


def error(
  folder: workdir.Folder, comparison: Comparison
) -> errors.ChangedDaysError:
  """Returns the error for changed days, with the choices."""
  grow = (
    'To learn the rows that were appended to a file as a new day, pass '
    '--config.data.growing=True. '
  )
  return errors.ChangedDaysError(
    f'The days of {folder} are not those that were learned:\n  '
    + '\n  '.join(comparison.changes)
    + '\nDays that were learned must stay as they are, in the same order, and '
    'new days come after them. '
    + (grow if comparison.grown else '')
    + 'Restore the files; or go back with '
    '--restore_cycle=N to a cycle before the change; or keep what was learned '
    'and continue with the other days: --accept_changed_days; or choose a new '
    '--workdir.'
  )


def check_complete(
  folder: workdir.Folder, strategy: str, found: Comparison, num_days: int
) -> None:
  """Refuses new days for a strategy that reads all days from its first step.

  Args:
    folder: of the seed.
    strategy: name of the strategy.
    found: the present days.
    num_days: number of days that the strategy has begun with.

  Raises:
    ChangedDaysError: there are new days.
  """
  new = [day_records.label(record) for record in found.records[1 + num_days :]]
  if new:
    raise errors.ChangedDaysError(
      f'{", ".join(new)}: new in {folder}, where {strategy} has begun, which '
      'reads all days from its first step and cannot add one. Leave '
      f'{strategy} out of --config.strategies, remove the new days, or choose '
      'a new --workdir.'
    )


def _claim(
  begun: Sequence[Record], present: Mapping[str, Record]
) -> dict[str, str]:
  """Returns recorded name -> present name, of the begun days that are there."""
  claimed = {}
  for record in begun:
    renamed = record.get('renamed')
    if renamed in present and not _is_changed(record, present[renamed]):
      claimed[record['name']] = renamed
    elif record['name'] in present:
      claimed[record['name']] = record['name']
  for record in begun:
    # Rows of a day that is known to be missing may come again as a new day.
    if record['name'] not in claimed and not record.get('missing'):
      same = [
        name
        for name, other in present.items()
        if other['digest'] == record['digest'] and name not in claimed.values()
      ]
      if same:
        claimed[record['name']] = same[0]
  return claimed


def _is_changed(record: Record, found: Record) -> bool:
  """Whether rows are neither those that were learned nor accepted since."""
  return found['digest'] not in (record['digest'], record.get('accepted'))


def _keep(record: Record, found: Record | None) -> Record:
  """Returns the record of a begun day, with what is different now.

  Name, rows and digest stay those that were learned.
  """
  kept = {
    key: value
    for key, value in record.items()
    if key not in ('missing', 'renamed', 'accepted')
  }
  if found is None:
    return {**kept, 'missing': True}
  if found['name'] != record['name']:
    kept['renamed'] = found['name']
  if found['digest'] != record['digest']:
    kept['accepted'] = found['digest']
  if 'file' in found:
    kept['file'] = found['file']
  return kept


def _appended(record: Record, found: Record) -> str:
  return (
    f'{day_records.label(record)} has {found["rows"]} rows: '
    f'{found["rows"] - record["rows"]} were appended to the {record["rows"]} '
    'that were learned'
  )


def _other(record: Record, found: Record, begun: Sequence[Record]) -> str:
  """Returns the sentence for a day with other rows."""
  sentence = (
    f'{day_records.label(record)} has other rows ({found["rows"]}) than were '
    f'learned ({record["rows"]})'
  )
  for other in begun:
    if other['digest'] == found['digest']:
      sentence += f'; they were learned as {day_records.label(other)}'
  return sentence


def _misplaced(
  now: Sequence[Record],
  begun: Sequence[Record],
  claimed: Mapping[str, str],
  placed: set[str],
) -> list[tuple[Record, str]]:
  """Returns the days that are not in the order of learning, with sentences.

  Args:
    now: records of the present days, in the order of their files.
    begun: records of the begun days, in the order of learning.
    claimed: see `_claim`.
    placed: present names of days whose place was accepted before.
  """
  places = {
    claimed[record['name']]: place
    for place, record in enumerate(begun)
    if claimed.get(record['name']) == record['name']
  }
  renamed = {name for name in claimed.values() if name not in places}
  # Days of a growing file are in the order in which the file grew.
  free = placed | renamed | {r['name'] for r in now if r.get('part_of')}
  fixed = [record for record in now if record['name'] not in free]
  found = []
  for place, record in enumerate(fixed):
    own = places.get(record['name'], len(begun))
    later = [
      other
      for other in fixed[place + 1 :]
      if places.get(other['name'], len(begun)) < own
    ]
    if later and record['name'] in places:
      found.append(
        (
          record,
          f'{day_records.label(record)} comes before '
          f'{day_records.label(later[0])}, which was learned first',
        )
      )
    elif later:
      found.append(
        (
          record,
          f'{day_records.label(record)} is new and comes before '
          f'{day_records.label(later[-1])}, which was learned',
        )
      )
  return found


def _reorder(
  dataset: dataset_lib.Dataset,
  days: list[tuple[str, Sequence[dataset_lib.Row]]],
  numbers: Mapping[int, int],
) -> dataset_lib.Dataset:
  """Returns a dataset with other days, and its probes with their new numbers.

  Args:
    dataset: of the present files.
    days: names and rows.
    numbers: of each day that stays: its number, from 1, then and now.
  """
  keys = {'pretrain': 'pretrain'}
  keys |= {str(then): str(now) for then, now in numbers.items()}
  renumber = lambda groups: {keys[key]: group for key, group in groups.items()}
  return dataclasses.replace(
    dataset,
    experiences=days,
    probes=renumber(dataset.probes),
    template_probes=renumber(dataset.template_probes),
    open_probes=renumber(dataset.open_probes),
    tasks=renumber(dataset.tasks),
    candidates={
      key: [(text, numbers.get(since, since)) for text, since in texts]
      for key, texts in dataset.candidates.items()
    },
  )
