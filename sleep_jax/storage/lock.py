"""One process per work directory.

The operating system releases the lock when its process ends, however it ends,
so a dead process never holds it.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO

from sleep_jax import errors
from sleep_jax.runtime import processes
from sleep_jax.storage import workdir

FILE = '.lock'


@contextlib.contextmanager
def hold(folder: workdir.Folder, name: str = FILE) -> Iterator[None]:
  """Holds the lock of a work directory.

  Does nothing in a bucket, and in all but the first of several processes.

  Args:
    folder: the work directory; created if it is missing.
    name: of the lock file; locks of different names do not exclude each other.

  Raises:
    InUseError: another process holds it; says which.
    StorageError: the folder cannot be locked.
  """
  if workdir.in_bucket(folder) or not processes.is_first():
    yield
    return
  try:
    folder.mkdir(parents=True, exist_ok=True)
    acquired = _acquire(folder / name, folder)
  except OSError as error:
    if isinstance(error, errors.SleepJaxError):
      raise
    raise errors.StorageError(
      f'{folder} cannot be locked ({error.strerror or error}): check its '
      'rights, or choose a folder on a disk of this machine.'
    ) from error
  with acquired as file:
    holder = json.dumps({'pid': os.getpid(), 'command': sys.argv[:4]})
    with contextlib.suppress(OSError):  # The lock holds on a full disk too.
      os.write(file.fileno(), holder.encode())
    try:
      yield
    finally:
      if _is_at(file, folder / name):
        os.unlink(folder / name)  # A refused config leaves nothing behind.


def _acquire(path: pathlib.Path, folder: workdir.Folder) -> TextIO:
  """Opens and locks the lock file, empty."""
  while True:
    file = open(path, 'a+', encoding='utf-8')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      holder = _describe(file.read())
      file.close()
      raise errors.InUseError(
        f'{folder} is in use by {holder}: wait until it has ended, stop it, or '
        'choose another folder.'
      ) from error
    # Another process may have deleted the file before it was locked here.
    if _is_at(file, path):
      file.truncate(0)
      return file
    file.close()


def _is_at(file: TextIO, path: pathlib.Path) -> bool:
  """Returns whether an open file is still the one at a path.

  It is not if the folder was deleted, also if another process began there.
  """
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def _describe(text: str) -> str:
  """Returns a description of the process that wrote the lock file."""
  try:
    holder = json.loads(text)
    return f'process {holder["pid"]} ({" ".join(holder["command"])})'
  except (ValueError, KeyError):
    return 'another process'
