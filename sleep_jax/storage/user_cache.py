"""Folder for files that can be made again, in the user's cache folder.

It is `sleep_jax` within XDG_CACHE_HOME, by default ~/.cache. Each entry is a
folder that appears whole or not at all.

Reference: the XDG Base Directory Specification.
"""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable

from sleep_jax import errors


def folder(*parts: str) -> pathlib.Path:
  """Returns a path in the cache, which may not exist yet."""
  home = os.environ.get('XDG_CACHE_HOME', '')
  # The specification says that a relative path is to be ignored.
  base = pathlib.Path(home) if os.path.isabs(home) else _default()
  return base.joinpath('sleep_jax', *parts)


def _default() -> pathlib.Path:
  return pathlib.Path('~/.cache').expanduser()


def add(entry: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
  """Makes an entry, atomically. It stays as it is if it exists.

  Args:
    entry: the folder to make.
    write: writes its files into an empty folder. If it raises, nothing is left.

  Raises:
    StorageError: the cache cannot be written to.
  """
  if entry.is_dir():
    return
  try:
    entry.parent.mkdir(parents=True, exist_ok=True)
    part = pathlib.Path(
      tempfile.mkdtemp(prefix=f'{entry.name}.', dir=entry.parent)
    )
  except OSError as error:
    raise errors.StorageError(_message(entry, error)) from error
  try:
    write(part)
    _move(part, entry)
  except errors.SleepJaxError:
    raise
  except OSError as error:
    raise errors.StorageError(_message(entry, error)) from error
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _move(part: pathlib.Path, entry: pathlib.Path) -> None:
  """Renames a folder, unless another process made the entry meanwhile."""
  try:
    part.rename(entry)
  except OSError:
    if not entry.is_dir():
      raise


def _message(entry: pathlib.Path, error: OSError) -> str:
  return (
    f'{entry} cannot be written ({error}): free space, or set XDG_CACHE_HOME '
    'to a folder that can be written to.'
  )
