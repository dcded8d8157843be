"""One process per work directory.

The operating system releases the lock when its process ends, however it ends,
so a dead process never holds it.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator

from sleep_jax.runtime import processes
from sleep_jax.storage import workdir

_FILE = '.lock'


class InUse(ValueError):
  """Another process uses the work directory."""


@contextlib.contextmanager
def hold(folder: workdir.Folder) -> Iterator[None]:
  """Holds the lock of a work directory.

  Does nothing in a bucket, and in all but the first of several processes.

  Args:
    folder: the work directory; created if it is missing.

  Raises:
    InUse: another process holds it; says which.
  """
  if workdir.in_bucket(folder) or not processes.is_first():
    yield
    return
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / _FILE, 'a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise InUse(
        f'{folder} is in use by {_describe(file.read())}: wait until it has '
        'ended, stop it, or choose another folder.'
      ) from error
    file.seek(0)
    file.truncate()
    json.dump({'pid': os.getpid(), 'command': sys.argv[:4]}, file)
    file.flush()
    yield


def _describe(text: str) -> str:
  """Returns a description of the process that wrote the lock file."""
  try:
    holder = json.loads(text)
    return f'process {holder["pid"]} ({" ".join(holder["command"])})'
  except (ValueError, KeyError):
    return 'another process'
