"""Watches a folder: each new file becomes a day, followed by its nights.

Files are taken one at a time, in natural order of their names, so each has its
own night. A file counts once nothing was written to it for a while, by its time
or as seen here, so that a file that is being copied is not read. One process at
a time watches for a work directory. The work directory keeps the folder, and
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
from sleep_jax.runs import day_records
from sleep_jax.storage import lock, workdir

FILE = 'watched.json'
_SAY = functools.partial(print, flush=True)
_SETTLED = 5.0  # Seconds without a change after which a file is whole.
_PATIENCE = 60.0  # Most seconds to wait for that where one look is asked for.
_LOCK = '.watch.lock'


class Watch:
  """A folder of days, and how far it was learned.

  Args:
    folder: with files of rows. Hidden files, empty ones and those of other
      kinds are left alone.
    record: file that keeps the names of the days.
    learn: (files of all days) learns those that were not learned yet.
    other: files that the config names for another purpose; they are no days.
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
    *,
    other: Sequence[str] = (),
  ):
    if not os.path.isdir(folder):
      raise errors.MissingFileError(
        f'--watch={folder} is no folder: create it, and put one file of rows '
        'into it for each day.'
      )
    self._folder, self._record = folder, record
    self._learn, self._say, self._other = learn, say, other
    # File -> its size and time when it was last seen, and since when.
    self._seen: dict[str, tuple[tuple[int, float] | None, float]] = {}

  def run(self, every: float, stop: Callable[[], bool]) -> int:
    """Learns each new file, and what an interrupted process left.

    Args:
      every: seconds between two looks; 0 learns what is there, and ends. Files
        that are still being written are waited for, but at most a minute.
      stop: whether to end.

    Returns:
      How many files were learned.

    Raises:
      InUseError: another process watches for the work directory.
      SleepJaxError: a file cannot be learned; those before it are.
    """
    with lock.hold(self._record.parent, _LOCK):
      return self._run(every, stop)

  def _run(self, every: float, stop: Callable[[], bool]) -> int:
    learned, waited = 0, 0.0
    if names := self._names():
      self._learn(self._files(names))
    while not stop():
      waiting, unsettled = self.look()
      if waiting:
        self._take(waiting[0])
        learned, waited = learned + 1, 0.0
        self._say(f'{waiting[0]}: learned; {len(waiting) - 1} files wait')
      elif every:
        _wait(every, stop)
      elif unsettled and waited < _PATIENCE:
        if not waited:
          self._say(f'{", ".join(unsettled)}: changed a moment ago, waiting')
        _wait(1.0, stop)
        waited += 1.0
      else:
        for file in unsettled:
          self._say(f'{file}: is still being written, and is not learned now')
        break
    return learned

  def look(self) -> tuple[list[str], list[str]]:
    """Returns the files that are days to come, in order.

    Returns:
      Those that are whole, and those that may still be written.
    """
    try:
      found = day_files.only_days(
        data_files.find(self._folder), [], other=self._other
      )
    except errors.MissingFileError:
      return [], []  # There is none yet.
    known = {*self._names()}
    waiting: list[str] = []
    unsettled: list[str] = []
    for file in found:
      if os.path.basename(file) in known:
        continue
      is_settled = self._is_settled(file)
      if is_settled is not None:
        (waiting if is_settled else unsettled).append(file)
    return waiting, unsettled

  def _is_settled(self, file: str) -> bool | None:
    """Returns whether a file is whole; None if it is empty or gone.

    Its time may be of another clock, and be ahead of the present.
    """
    try:
      stat = os.stat(file)
    except FileNotFoundError:
      return None
    if not stat.st_size:
      return None
    state, now = (stat.st_size, stat.st_mtime), time.monotonic()
    last, since = self._seen.get(file, (None, now))
    if last != state:
      since = now
    self._seen[file] = state, since
    return max(time.time() - stat.st_mtime, now - since) >= _SETTLED

  def _take(self, file: str) -> None:
    """Learns a file as the next day; if it cannot be read, drops that day."""
    names = self._names()
    self._say(f'{file}: day {len(names) + 1}')
    self._write([*names, os.path.basename(file)])
    try:
      self._learn([*self._files(names), file])
    except errors.SleepJaxError:
      if os.path.basename(file) not in self._begun():
        self._write(names)
      raise

  def _begun(self) -> set[str]:
    """Returns the names of files of which something was learned."""
    return {
      record['file']
      for seed in self._record.parent.glob('seed_*')
      for record in day_records.read(seed)
      if 'file' in record
    }

  def _names(self) -> list[str]:
    """Returns the names of the files that were taken, in order."""
    return read(self._record)[1]

  def _write(self, names: Sequence[str]) -> None:
    folder = os.path.abspath(self._folder)
    workdir.write_json(self._record, {'folder': folder, 'files': names})

  def _files(self, names: Sequence[str]) -> list[str]:
    """Returns the files that are still there; others are missing days."""
    return _existing(self._folder, names)


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


def days(home: workdir.Folder) -> list[str] | None:
  """Returns the files that were taken and are still there.

  Args:
    home: a work directory.

  Returns:
    Their paths, in order; None if no folder is watched for it.
  """
  folder, names = read(home / FILE)
  return None if folder is None else _existing(folder, names)


def _existing(folder: str, names: Sequence[str]) -> list[str]:
  files = [os.path.join(folder, name) for name in names]
  return [file for file in files if os.path.exists(file)]


def _wait(seconds: float, stop: Callable[[], bool]) -> None:
  """Waits, but not longer than until it is stopped."""
  end = time.monotonic() + seconds
  while not stop() and (left := end - time.monotonic()) > 0:
    time.sleep(min(left, 0.2))
