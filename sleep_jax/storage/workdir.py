"""Work directories: each belongs to one config, and files appear atomically.

`config.json` holds the config that a work directory belongs to. It is written
only after all checks of a run have passed, so a rejected config does not occupy
the directory.

A work directory is on a disk or in a bucket (`gs://...`). A bucket has no
folders, no appending and no atomic renaming, but each write of an object is
atomic.
"""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import shutil
import tempfile
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from sleep_jax import errors

# In a bucket it is an `epath.Path`, which has the methods used here.
Folder = pathlib.Path
# Fields that configs of earlier versions have. Only the router 'centroid' and
# the teacher 'average' read them, which are refused by name; without these, a
# config means the same.
_REMOVED = ('model.router_spread', 'consolidate.average_decay')


def path(name: str | os.PathLike[str]) -> Folder:
  """Returns an absolute path on disk, or a path in a bucket.

  `pathlib` would silently turn the URL of a bucket into a local folder `gs:`.

  Raises:
    ConfigError: the name is empty, or a URL without the scheme gs or a bucket.
    MissingPackageError: it is in a bucket, and gcsfs is not installed.
  """
  name = os.fspath(name)
  if not name.strip():
    raise errors.ConfigError(
      'The path is empty: name a folder, such as runs/mine.'
    )
  scheme, separator, rest = name.partition('://')
  if not separator:
    return pathlib.Path(name).expanduser().resolve()
  if scheme != 'gs' or not rest.strip('/'):
    raise errors.ConfigError(
      f'{name} is no valid folder: expected a path or gs://BUCKET/FOLDER.'
    )
  if importlib.util.find_spec('gcsfs') is None:
    raise errors.MissingPackageError(
      f'{name} is in a bucket, which needs the package gcsfs, and gcsfs is not '
      "installed: pip install 'etils[epath-gcs]', or name a path on disk."
    )
  return typing.cast(Folder, epath.Path(name))


def in_bucket(path: Folder) -> bool:
  """Returns whether a path is in a bucket."""
  return not isinstance(path, pathlib.Path)


def read_config(folder: Folder) -> dict[str, Any] | None:
  """Returns the config of a work directory, or None if it has none yet.

  Raises:
    WorkdirError: its config.json is damaged, or see `of_this_version`.
  """
  file = folder / 'config.json'
  if not file.exists():
    return None
  try:
    config = json.loads(file.read_text())
  except ValueError as error:
    raise errors.WorkdirError(
      f'{file} is damaged ({error}): restore it, or choose another --workdir.'
    ) from error
  return of_this_version(folder, config)


def check_config(
  folder: Folder,
  config: dict[str, Any],
  *,
  bound: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> None:
  """Checks that a config may use a work directory; creates it if missing.

  Args:
    folder: the work directory.
    config: the resolved config, as JSON returns it.
    bound: returns the part of a config that must not differ when a run is
      continued.

  Raises:
    WorkdirError: the folder belongs to another config; lists the differences.
    StorageError: the folder cannot be written to.
  """
  check_writable(folder)
  old = read_config(folder)
  if old is None:
    return
  found = list(differences(bound(old), bound(config)))
  if found:
    more = f'\n  and {len(found) - 5} more' if len(found) > 5 else ''
    raise errors.WorkdirError(
      f'The work directory {folder} belongs to another config:\n  '
      + '\n  '.join(found[:5])
      + more
      + '\nChoose another --workdir, or run with the config in its config.json.'
    )


def of_this_version(
  folder: Folder, config: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the config of a work directory without fields that were removed.

  Args:
    folder: for messages.
    config: content of its config.json.

  Raises:
    WorkdirError: version 0.1 wrote it, which used other names, or its model
      has a router that was removed.
  """
  if 'birth' in config and 'strategies' in config:
    raise errors.WorkdirError(
      f'{folder} was written by version 0.1 of sleep_jax, whose config '
      'and checkpoints use other names, and cannot be read by this version: '
      'choose another work directory, or use version 0.1.'
    )
  if config.get('model', {}).get('router') == 'centroid':
    raise errors.WorkdirError(
      f"{folder} has config.model.router 'centroid', which was removed after "
      'revision a95966f: use that revision, or choose another work directory.'
    )
  return without_removed(config)


def without_removed(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config of any version without fields that were removed.

  Args:
    config: as JSON returns it, or a part of it.
  """
  return without(config, _REMOVED)


def without(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
  """Returns a config without some keys.

  Args:
    config: as JSON returns it.
    names: 'key' or 'section.key'.
  """
  kept = {k: v for k, v in config.items() if k not in names}
  for name in names:
    section, _, key = name.partition('.')
    if key and section in kept:
      kept[section] = {k: v for k, v in kept[section].items() if k != key}
  return kept


def check_writable(folder: Folder) -> None:
  """Checks that files can be created in a folder; creates it if missing.

  Raises:
    StorageError: the folder cannot be written to.
  """
  if in_bucket(folder):
    return _check_bucket(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b'.')
  except (FileExistsError, NotADirectoryError) as error:
    raise errors.StorageError(
      f'The work directory {folder} is a file, or is in one: name a folder.'
    ) from error
  except OSError as error:
    raise errors.StorageError(
      f'The work directory {folder} cannot be written to ({error.strerror}): '
      'choose another --workdir, or free some space.'
    ) from error


def _check_bucket(folder):
  probe = folder / f'.writable_{uuid.uuid4().hex}'
  try:
    probe.write_text('.')
    probe.unlink()
  except Exception as error:  # gcsfs and google.auth raise many types.
    raise errors.StorageError(
      f'The work directory {folder} cannot be written to '
      f'({type(error).__name__}: {str(error)[:200]}): check that the bucket '
      'exists and grant the account of this machine the role Storage Object '
      'Admin on it, or choose another --workdir.'
    ) from error


def differences(old: Any, new: Any, name: str = 'config') -> Iterator[str]:
  """Yields a line for each key at which two configs differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    for key in sorted(old.keys() | new.keys()):
      yield from differences(old.get(key), new.get(key), f'{name}.{key}')
  elif (
    isinstance(old, list) and isinstance(new, list) and (len(old) == len(new))
  ):
    for number, pair in enumerate(zip(old, new, strict=True)):
      yield from differences(*pair, f'{name}[{number}]')
  elif old != new:
    yield f'{name}: {old!r} there, {new!r} now'


def write_json(file: Folder, value: Any) -> None:
  """Writes a value as JSON, atomically."""
  write_text(file, json.dumps(value, indent=1) + '\n')


def write_text(file: Folder, text: str) -> None:
  """Writes a text atomically; creates the folder if it is missing."""
  write_bytes(file, text.encode())


def write_bytes(file: Folder, data: bytes) -> None:
  """Writes a file atomically; creates the folder if it is missing."""
  if in_bucket(file):
    file.write_bytes(data)
    return
  file.parent.mkdir(parents=True, exist_ok=True)
  # Of this process: two that write the same file do not write into each other.
  temporary = file.with_name(f'{file.name}.{os.getpid()}.new')
  try:
    temporary.write_bytes(data)
    temporary.replace(file)
  except BaseException:
    temporary.unlink(missing_ok=True)  # Also on a full disk.
    raise


@contextlib.contextmanager
def make_whole(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder whole or not at all.

  Args:
    target: must not exist, or be empty.

  Yields:
    A new folder beside it, which becomes the target at the end, or is deleted
    if there is an error.
  """
  part = _new_name_beside(target)
  part.mkdir()
  try:
    yield part
    part.rename(target)
  except BaseException:
    shutil.rmtree(part, ignore_errors=True)
    raise


@contextlib.contextmanager
def make_whole_file(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """As `make_whole`, for a file; yields a name that no file has."""
  part = _new_name_beside(target)
  try:
    yield part
    part.rename(target)
  finally:
    part.unlink(missing_ok=True)


def _new_name_beside(target: pathlib.Path) -> pathlib.Path:
  """Returns a name that nothing of the user has; creates the parent."""
  target.parent.mkdir(parents=True, exist_ok=True)
  return target.with_name(f'.{target.name}.{uuid.uuid4().hex[:8]}.part')


@contextlib.contextmanager
def explain_full_disk(folder: Folder) -> Iterator[None]:
  """Adds the folder and what to do to the error of a full disk."""
  try:
    yield
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise errors.StorageError(
      f'The disk is full: nothing more can be written under {folder}. Saved '
      'files are complete. Free some space and run the same command again: it '
      'continues from the last checkpoint.'
    ) from error
