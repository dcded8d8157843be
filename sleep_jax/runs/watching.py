"""Watches a folder: each new file becomes a day, followed by its nights.

Files are taken one at a time, in natural order of their names, so each has its
own night. A file counts once nothing was written to it for a while, so that a
file that is being copied is not read. The work directory keeps the folder, and
the names of the files in the order in which they were taken; a file that comes
later is a later day, whatever its name.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Sequence

from sleep_jax import errors
from sleep_jax.datasets import data_files, day_files
from sleep_jax.storage import workdir

FILE = 'watched.json'
_SAY = functools.partial(print, flush=True)
_SETTLED = 5.0  # Seconds without a change after which a file is whole.


class Watch:
  """A folder of days, and how far it was learned.

  Args:
    folder: with files of rows. Hidden files, empty ones and those of other
      kinds are left alone.
    record: file that keeps the names of the days.
    learn: (files of all days) learns those that were not learned yet.
    say: shows one line; by default on standard output, at once.

  Raises:
    MissingFileError: there is no such folder.
  """

  def __init__(
    self,
    folder: str,
    record: workdir.Folder,
    learn: Callable[[list[str]], None],
    say: Callable[[str], None] = _SAY,
  ):
    if not os.path.isdir(folder):
      raise errors.MissingFileError(
        f'--watch={folder} is no folder: create it, and put one file of rows '
        'into it for each day.'
      )
    self._folder, self._record = folder, record
    self._learn, self._say = learn, say

  def run(self, every: float, stop: Callable[[], bool]) -> int:
    """Learns each new file, and what an interrupted process left.

    Args:
      every: seconds between two looks; 0 learns what is there, and ends.
      stop: whether to end.

    Returns:
      How many files were learned.

    Raises:
      SleepJaxError: a file cannot be learned; those before it are.
    """
    learned = 0
    if names := self._names():
      self._learn(self._files(names))
    while not stop():
      waiting = self.waiting(time.time())
      if waiting:
        self._take(waiting[0])
        learned += 1
        self._say(f'{waiting[0]}: learned; {len(waiting) - 1} files wait')
      elif every:
        _wait(every, stop)
      else:
        break
    return learned

  def waiting(self, now: float) -> list[str]:
    """Returns the files that are days to come, in order.

    Args:
      now: present time, seconds since the epoch.
    """
    try:
      found = day_files.only_days(data_files.find(self._folder), [])
    except errors.MissingFileError:
      return []  # There is none yet.
    known = {*self._names()}
    return [
      file
      for file in found
      if os.path.basename(file) not in known
      and os.stat(file).st_size
      and now - os.stat(file).st_mtime >= _SETTLED
    ]

  def _take(self, file: str) -> None:
    """Learns a file as the next day; if it cannot be read, drops that day."""
    names = self._names()
    self._say(f'{file}: day {len(names) + 1}')
    self._write([*names, os.path.basename(file)])
    try:
      self._learn([*self._files(names), file])
    except (errors.DataError, errors.MissingFileError):
      self._write(names)
      raise

  def _names(self) -> list[str]:
    """Returns the names of the files that were taken, in order."""
    return read(self._record)[1]

  def _write(self, names: Sequence[str]) -> None:
    folder = os.path.abspath(self._folder)
    workdir.write_json(self._record, {'folder': folder, 'files': names})

  def _files(self, names: Sequence[str]) -> list[str]:
    """Returns the files that are still there; others are missing days."""
    files = [os.path.join(self._folder, name) for name in names]
    return [file for file in files if os.path.exists(file)]


def read(record: workdir.Folder) -> tuple[str | None, list[str]]:
  """Returns the folder that is watched, and the files that were taken.

  Earlier versions did not record the folder: it is None.

  Args:
    record: file `FILE` of a work directory; it need not exist.

  Raises:
    WorkdirError: it is damaged.
  """
  if not record.exists():
    return None, []
  try:
    found = json.loads(record.read_text())
    if isinstance(found, list):
      return None, [str(name) for name in found]
    return found['folder'], [str(name) for name in found['files']]
  except (ValueError, KeyError, TypeError) as error:
    raise errors.WorkdirError(
      f'{record} is damaged ({type(error).__name__}: {error}): it lists the '
      'files that were learned, in order, as {"folder": ..., "files": [...]}. '
      'Write it again, or restore it.'
    ) from error


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
  """Waits, but not longer than until it is stopped."""
  end = time.monotonic() + seconds
  while not stop() and (left := end - time.monotonic()) > 0:
    time.sleep(min(left, 0.2))
