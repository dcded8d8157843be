"""The work directory: it belongs to one config, and its files are whole.

`config.json` says whose it is. It is written only once a run has been found
sound, so that a config that is refused claims nothing.

It lies on a disk, or in a bucket (`gs://...`), which has no folders, no
appending and no renaming in one move; but what is written there appears whole
or not at all.
"""

import contextlib
import errno
import importlib.util
import json
import os
import pathlib
import tempfile
import typing
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from etils import epath

# Or, in a bucket, an `epath.Path`, which has the methods that we use.
Folder = pathlib.Path


def path(name: str | os.PathLike[str]) -> Folder:
  """A place on disk, absolute, or in a bucket.

  `pathlib` would silently make a folder `gs:` of a bucket's name.

  Raises:
    ValueError: it names a bucket of another kind, or none.
    ImportError: it is in a bucket, and what reads buckets is not installed.
  """
  name = os.fspath(name)
  scheme, separator, rest = name.partition('://')
  if not separator:
    return pathlib.Path(name).expanduser().resolve()
  if scheme != 'gs' or not rest.strip('/'):
    raise ValueError(
      f'{name} is no place to work in: expected a path or gs://BUCKET/FOLDER.'
    )
  if importlib.util.find_spec('gcsfs') is None:
    raise ImportError(
      f'{name} is in a bucket, and the package gcsfs, which reads buckets, is '
      "not installed: pip install 'sleep-jax[gcs]', or name a path on disk."
    )
  return typing.cast(Folder, epath.Path(name))


def in_bucket(place: Folder) -> bool:
  return not isinstance(place, pathlib.Path)


def display_path(place: Folder) -> str:
  """As one would write it here: on disk, from the current directory."""
  return str(place) if in_bucket(place) else os.path.relpath(place)


def read_config(folder: Folder) -> dict[str, Any] | None:
  """The config that a work directory belongs to; None: to nobody yet.

  Raises:
    ValueError: its config.json is damaged.
  """
  file = folder / 'config.json'
  if not file.exists():
    return None
  try:
    return json.loads(file.read_text())
  except ValueError as error:
    raise ValueError(
      f'{file} is damaged ({error}): restore it, or choose another --workdir.'
    ) from error


def check_config(
  folder: Folder, config: dict[str, Any], *, ignored: Iterable[str]
) -> None:
  """Finds whether a config may use a work directory, made where missing.

  Args:
    folder: the work directory.
    config: resolved, as JSON gives it back.
    free: keys that may differ between two parts of one run.

  Raises:
    ValueError: it belongs to another config; names what differs.
    OSError: it cannot be written to.
  """
  check_writable(folder)
  old = read_config(folder)
  if old is None:
    return
  bound = lambda c: {k: v for k, v in c.items() if k not in ignored}
  found = list(differences(bound(old), bound(config)))
  if found:
    more = f'\n  and {len(found) - 5} more' if len(found) > 5 else ''
    raise ValueError(
      f'The work directory {folder} belongs to another config:\n  '
      + '\n  '.join(found[:5])
      + more
      + '\nChoose another --workdir, or run with the config of its config.json.'
    )


def check_writable(folder: Folder) -> None:
  """Finds whether files can be made in a folder, made where missing.

  Raises:
    OSError: they cannot.
  """
  if in_bucket(folder):
    return _check_bucket(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b'.')
  except OSError as error:
    raise OSError(
      f'The work directory {folder} cannot be written to ({error.strerror}): '
      'choose another --workdir, or make room.'
    ) from error


def _check_bucket(folder):
  probe = folder / f'.writable_{uuid.uuid4().hex}'
  try:
    probe.write_text('.')
    probe.unlink()
  except Exception as error:  # gcsfs and google.auth raise a dozen kinds.
    raise OSError(
      f'The work directory {folder} cannot be written to '
      f'({type(error).__name__}: {str(error)[:200]}): the bucket must exist, '
      'and the account of this machine must have the role Storage Object Admin '
      'on it. Grant it, or choose another --workdir.'
    ) from error


def differences(old: Any, new: Any, place: str = 'config') -> Iterator[str]:
  """A line for each key at which two configs differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    for key in sorted(old.keys() | new.keys()):
      yield from differences(old.get(key), new.get(key), f'{place}.{key}')
  elif (
    isinstance(old, list) and isinstance(new, list) and (len(old) == len(new))
  ):
    for number, pair in enumerate(zip(old, new, strict=True)):
      yield from differences(*pair, f'{place}[{number}]')
  elif old != new:
    yield f'{place}: {old!r} there, {new!r} now'


def write_json(file: Folder, value: Any) -> None:
  """Writes JSON in one move: whatever happens, no file is half there."""
  write_text(file, json.dumps(value, indent=1) + '\n')


def write_text(file: Folder, text: str) -> None:
  """Writes a text in one move, its folder made where missing."""
  if in_bucket(file):
    file.write_text(text)
    return
  file.parent.mkdir(parents=True, exist_ok=True)
  new = file.with_name(file.name + '.new')
  new.write_text(text, encoding='utf-8')
  new.replace(file)


@contextlib.contextmanager
def explain_full_disk(folder: Folder) -> Iterator[None]:
  """Says where a disk is full, for writers that do not say it themselves."""
  try:
    yield
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise OSError(
      f'The disk is full: nothing more can be written under {folder}. What '
      'was saved is untouched. Free some space, then run the same command: it '
      'goes on from there.'
    ) from error
