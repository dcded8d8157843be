"""The work directory: it belongs to one config, and its files are whole.

`config.json` says whose it is. It is written only once a run has been found
sound, so that a config that is refused claims nothing.
"""

import contextlib
import errno
import json
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any


def read_config(folder: pathlib.Path) -> dict[str, Any] | None:
  """The config that a work directory belongs to; None: to nobody yet.

  Raises:
    ValueError: its config.json is damaged.
  """
  path = folder / 'config.json'
  if not path.exists():
    return None
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged ({error}): restore it, or choose another --workdir.'
    ) from error


def check(
  folder: pathlib.Path, config: dict[str, Any], *, free: Iterable[str]
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
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(b'.')
  except OSError as error:
    raise OSError(
      f'The work directory {folder} cannot be written to ({error.strerror}): '
      'choose another --workdir, or make room.'
    ) from error
  old = read_config(folder)
  if old is None:
    return
  bound = lambda c: {k: v for k, v in c.items() if k not in free}
  found = list(differences(bound(old), bound(config)))
  if found:
    more = f'\n  and {len(found) - 5} more' if len(found) > 5 else ''
    raise ValueError(
      f'The work directory {folder} belongs to another config:\n  '
      + '\n  '.join(found[:5])
      + more
      + '\nChoose another --workdir, or run with the config of its config.json.'
    )


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


def write_whole(path: pathlib.Path, value: Any) -> None:
  """Writes JSON in one move: whatever happens, no file is half there."""
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + '.new')
  new.write_text(json.dumps(value, indent=1) + '\n')
  new.replace(path)


@contextlib.contextmanager
def full_disk_in_words(folder: pathlib.Path) -> Iterator[None]:
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
