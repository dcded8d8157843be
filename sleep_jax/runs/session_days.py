"""The files of a session's days, which are found by record and never counted.

`days.json` in the folder of the session lists the names of its days, in order.
Other files in `days/` are the user's own: they are neither learned nor
overwritten.
"""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.runs import day_records
from sleep_jax.storage import private_files

Row = str | Mapping[str, Any]
FOLDER, FILE = 'days', 'days.json'
_NAME = r'day_(\d+)'
_WRITTEN = r'day_\d{4,}'  # As `next_name` writes them.


class SessionDays:
  """The days of one session.

  Args:
    folder: of the session.
    seed_folder: of its run, whose records name the days that were learned.

  Attributes:
    folder: of the files.
  """

  def __init__(self, folder: pathlib.Path, seed_folder: pathlib.Path):
    self._folder, self._seed_folder = folder, seed_folder
    self.folder = folder / FOLDER

  def names(self) -> list[str]:
    """Returns the names of all days, in order, also of those that are deleted.

    Raises:
      WorkdirError: the record is damaged.
    """
    file = self._folder / FILE
    if not file.exists():
      return self._names_without_record()
    try:
      names = json.loads(file.read_text())
    except ValueError:
      names = None
    if not isinstance(names, list) or not all(
      isinstance(name, str) and re.fullmatch(_NAME, name) for name in names
    ):
      raise errors.WorkdirError(
        f'{file} is damaged: it lists the names of the days in {FOLDER}/, such '
        'as ["day_0001"]. Write it again, in the order of learning, or restore '
        'it.'
      )
    return names

  def paths(self) -> list[pathlib.Path]:
    """Returns the files of the days, in order, without those that are gone."""
    paths = [self.folder / f'{name}.jsonl' for name in self.names()]
    return [path for path in paths if path.is_file()]

  def others(self) -> list[str]:
    """Returns the names of the user's own files among the days."""
    if not self.folder.is_dir():
      return []
    own = {f'{name}.jsonl' for name in self.names()}
    own |= {f'{name}.part' for name in own}
    names = [path.name for path in self.folder.iterdir()]
    return sorted(n for n in names if n not in own and not n.startswith('.'))

  def next_name(self) -> str:
    """Returns the name of a new day; no file and no learned day has it."""
    taken = [*self.names(), *(name.partition('.')[0] for name in self.others())]
    taken += [r['name'] for r in day_records.read(self._seed_folder)]
    numbers = [re.fullmatch(_NAME, name) for name in taken]
    last = max((int(match[1]) for match in numbers if match), default=0)
    return f'day_{last + 1:04d}'

  def add(self, name: str, lines: Iterable[str]) -> pathlib.Path:
    """Writes the file of a new day.

    Args:
      name: see `next_name`.
      lines: its rows as JSON.

    Raises:
      ExistsError: a file has the name; it is left as it is.
    """
    path = self.folder / f'{name}.jsonl'
    # Recorded first: if only that happens, the day is one that is gone.
    names = self.names()
    self._record([*names, name])
    try:
      private_files.write_new(path, '\n'.join(lines) + '\n')
    except errors.ExistsError:
      self._record(names)
      raise
    return path

  def remove(self, name: str) -> None:
    """Deletes a day of which nothing was learned."""
    (self.folder / f'{name}.jsonl').unlink()
    self._record([other for other in self.names() if other != name])

  def _record(self, names: Sequence[str]) -> None:
    private_files.write(self._folder / FILE, json.dumps(names) + '\n')

  def _names_without_record(self) -> list[str]:
    """Returns the names of a session that an earlier version wrote."""
    if not self._seed_folder.is_dir():
      return []
    records = day_records.read(self._seed_folder)
    if records:
      names = [record['name'] for record in records]
    else:
      files = sorted((self.folder).glob('day_*.jsonl'))
      names = [file.stem for file in files]
    return [name for name in names if re.fullmatch(_WRITTEN, name)]


def as_line(number: int, row: Row) -> str:
  """Returns a row as a line of JSON.

  Args:
    number: of the row, for messages.
    row: a text, or a dict as in a file of rows.

  Raises:
    DataError: it is neither, or cannot be written as JSON.
  """
  if isinstance(row, str):
    row = {'text': row}
  if not isinstance(row, Mapping):
    raise errors.DataError(
      f'rows[{number}] is {row!r}: expected a text, or a dict such as '
      "{'text': ...}, {'prompt': ..., 'response': ...} or {'messages': [...]}."
    )
  try:
    return json.dumps(dict(row))
  except (TypeError, ValueError, RecursionError) as error:
    raise errors.DataError(
      f'rows[{number}] cannot be written as JSON ({error}): expected texts, '
      'numbers, lists and dicts.'
    ) from error
