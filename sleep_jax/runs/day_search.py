"""Finds the days of a run whose rows hold a text, and where they are now.

The weights that learned a day cannot be searched, so its night is named.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import jsonl, row_files, row_formats
from sleep_jax.runs import (
  day_records,
  expert_history,
  session,
  text_search,
  watching,
)
from sleep_jax.storage import checkpoint_reading, workdir


def learned(folder: str, text: str) -> Iterator[str]:
  """Yields a sentence for each day whose rows hold a text and were learned.

  Args:
    folder: work directory of a study, or folder of a chat.
    text: what to search for.
  """
  home, needle = workdir.path(folder), text_search.Needle(text)
  run = home / session.RUN if (home / session.RUN).is_dir() else home
  data = (workdir.read_config(run) or {}).get('data', {})
  watched, _ = watching.read(run / watching.FILE)
  places = [
    str(home / session.DAYS), data.get('path'), data.get('extra_days'), watched
  ]  # fmt: skip
  field = data.get('settings', {}).get('field')
  rows: dict[str, list[int]] = {}
  for place in places:
    for file, found in _rows_with(needle, place, field).items():
      rows.setdefault(file, []).extend(found)
  for seed in sorted(run.glob('seed_*')):
    begun = list(_days_with(rows, day_records.read(seed)))
    for checkpoints in sorted(seed.glob('*/checkpoints')):
      progress = checkpoint_reading.latest_progress(str(checkpoints))
      for number, name in begun if progress is not None else ():
        where = expert_history.where_is_day(progress, number)
        yield f'{checkpoints.parent.relative_to(home)}: {name}: {where}'


def _days_with(
  rows: dict[str, list[int]], records: Sequence[day_records.Record]
) -> Iterator[tuple[int, str]]:
  """Yields number and name of each day that learned one of some rows.

  Args:
    rows: name of a file, or of a day -> places of the rows in it, from 0.
    records: of all days, in order.
  """
  growing = {r['part_of'] for r in records if r.get('part_of')}
  begins = dict.fromkeys(growing, 0)
  for number, record in enumerate(records):
    name = record.get('part_of', record['name'])
    now = record.get('renamed', name)
    places = [
      place
      for file, own in rows.items()
      if file in (name, now) or file.startswith((f'{name}.', f'{now}.'))
      for place in own
    ]
    if name in growing:  # The day has only some of the file's rows.
      begin = begins[name]
      begins[name] = end = begin + record['rows']
      places = [place for place in places if begin <= place < end]
    if places:
      yield number, record['name']


def _rows_with(
  needle: text_search.Needle, place: str | list[str] | None, field: str | None
) -> dict[str, list[int]]:
  """Returns which rows hold the text: name of a file -> places in it, from 0.

  Args:
    needle: what to search for.
    place: data path.
    field: whose values name the days of the rows, in place of their files.
  """
  try:
    files = jsonl.find_files(place) if place else []
  except errors.SleepJaxError:  # The files were moved or deleted.
    return {}
  found: dict[str, list[int]] = {}
  for file in files:
    begin = 0
    for text, num, value in _texts(file, field):
      if needle.longest(text):
        name = pathlib.Path(file).name if value is None else str(value)
        found.setdefault(name, []).extend(range(begin, begin + num))
      begin += num
  return found


def _texts(file: str, field: str | None) -> Iterator[tuple[str, int, Any]]:
  """Yields the objects of a file of any kind, as far as they can be read.

  With each comes the number of its rows, as a conversation has several, and its
  value of the field that names its day.
  """
  try:
    for where, row in row_files.read(file, on_error=lambda error: None):
      value = None if field is None else row.get(field)
      yield text_search.plain(row), _num_rows(where, row), value
  except errors.SleepJaxError:
    if pathlib.Path(file).is_file():
      for line in text_search.lines(pathlib.Path(file)):
        yield line, 1, None


def _num_rows(where, row) -> int:
  try:
    return len(row_formats.to_rows(where, row))
  except errors.SleepJaxError:  # It was not learned either.
    return 1
