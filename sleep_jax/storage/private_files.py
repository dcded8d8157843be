"""Files that only their owner can read: conversations and days.

Each is written whole beside its place, reaches the disk, and is then moved
there, so that a reader, also after a power cut, finds the old file or the new
one.
"""

import contextlib
import os
import pathlib
import typing
from collections.abc import Iterator

from sleep_jax import errors

_FILE, _FOLDER = 0o600, 0o700


def make_folder(folder: pathlib.Path) -> None:
  """Creates a folder that only its owner can enter; leaves an existing one.

  Raises:
    StorageError: it cannot be created.
  """
  with _explained(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_FOLDER, exist_ok=True)


@contextlib.contextmanager
def create(file: pathlib.Path) -> Iterator[typing.BinaryIO]:
  """Opens a new file for writing; what is left of an earlier try is removed.

  The bytes are on the disk when the context ends.

  Raises:
    StorageError: it cannot be written.
  """
  make_folder(file.parent)
  with _explained(file):
    file.unlink(missing_ok=True)
    # O_EXCL: a link that someone puts there is not followed.
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE)
    with open(number, 'wb') as opened:
      yield opened
      opened.flush()
      os.fsync(opened.fileno())


def write(file: pathlib.Path, text: str) -> None:
  """Writes or replaces a file."""
  part = file.with_name(f'{file.name}.part')
  _write_part(part, text)
  with _explained(file):
    part.replace(file)
  _sync_folder(file.parent)


def write_new(file: pathlib.Path, text: str) -> None:
  """Writes a file that must not exist.

  Raises:
    ExistsError: it exists; it is left as it is.
  """
  part = file.with_name(f'{file.name}.part')
  _write_part(part, text)
  publish(part, file)


def publish(part: pathlib.Path, file: pathlib.Path) -> None:
  """Gives a finished file its name, which must be free.

  Raises:
    ExistsError: the name is taken; both files are left as they are.
  """
  try:
    os.link(part, file)  # Unlike renaming, it never replaces a file.
  except FileExistsError as error:
    raise errors.ExistsError(
      f'{file} exists and is not overwritten: move it elsewhere.'
    ) from error
  except OSError:  # A file system without hard links.
    if file.exists():
      raise errors.ExistsError(
        f'{file} exists and is not overwritten: move it elsewhere.'
      ) from None
    part.rename(file)
  part.unlink(missing_ok=True)
  _sync_folder(file.parent)


@contextlib.contextmanager
def _explained(path: pathlib.Path) -> Iterator[None]:
  """Says of which file an operation failed, and what to do."""
  try:
    yield
  except OSError as error:
    if isinstance(error, errors.SleepJaxError):
      raise
    raise errors.StorageError(
      f'{path} cannot be written ({error.strerror or error}). What was there '
      'is complete: free some space, or check the rights of the folder, and '
      'try again.'
    ) from error


def _write_part(part: pathlib.Path, text: str) -> None:
  with create(part) as opened:
    opened.write(text.encode())


def _sync_folder(folder: pathlib.Path) -> None:
  """Makes a new name reach the disk, where the file system can do so."""
  with contextlib.suppress(OSError):
    number = os.open(folder, os.O_RDONLY)
    try:
      os.fsync(number)
    finally:
      os.close(number)
