"""Days that come on standard input: `--config.data.extra_days=-`.

A stream can be read once only. It is therefore written to a file of the work
directory before anything else, and that file is a day like others. A start
without a stream continues with the days that came before.
"""

import hashlib
import os
import pathlib
import re
import select
import sys
import typing
from collections.abc import Callable, Sequence

from sleep_jax import errors
from sleep_jax.datasets import jsonl
from sleep_jax.runs import context
from sleep_jax.storage import private_files, workdir

NAME = '-'  # In place of a path.
_FOLDER = 'days'
_PATTERN = 'stdin_[0-9]*.jsonl'
_CHUNK = 2**20  # Bytes.
_LOOK = 0.2  # Seconds between two looks whether to stop.

Path = str | Sequence[str]


def is_named(path: Path) -> bool:
  """Returns whether a path of the config names standard input."""
  return NAME in ([path] if isinstance(path, str) else path)


def resolve(path: Path, folder: workdir.Folder) -> Path:
  """Returns a path in which the files of earlier streams replace `-`.

  Raises:
    DataError: no stream has come so far.
  """
  if not is_named(path):
    return path
  files = _files(folder)
  if not files:
    raise errors.DataError(
      'No day came on standard input, and none came before: pass one, as in '
      'sleep-jax run ... --config.data.extra_days=- < day_1.jsonl'
    )
  parts = [path] if isinstance(path, str) else path
  return [
    found
    for part in parts
    for found in (map(str, files) if part == NAME else [part])
  ]


def receive(
  folder: workdir.Folder, stop: Callable[[], bool] = lambda: False
) -> pathlib.Path | None:
  """Writes standard input to the file of a new day.

  Args:
    folder: work directory of the study.
    stop: whether to end; a stream that ended meanwhile may have been cut.

  Returns:
    The new file. None if there is no stream, or an empty one, or one that was
    received before: the command of an interrupted run can be repeated.

  Raises:
    UsageError: the work directory is in a bucket.
    Interrupted: `stop` returned True; the stream is no day.
    DataError: the stream is no day; it is kept in a file, which is named.
  """
  if workdir.in_bucket(folder):
    raise errors.UsageError(
      f'{folder} is in a bucket: a day from standard input is kept on disk. '
      'Write it to a file, or name a --workdir on disk.'
    )
  stream = getattr(sys.stdin, 'buffer', None)
  if stream is None or stream.closed or sys.stdin.isatty():
    return None
  part = folder / _FOLDER / 'stdin.part'
  digest = _spool(stream, part, stop)
  known = {_digest(file): file for file in _files(folder)}
  if part.stat().st_size == 0 or digest in known:
    part.unlink()
    return None
  numbers = [
    int(found[1])
    for name in os.listdir(part.parent)
    if (found := re.match(r'stdin_(\d+)\.', name))
  ]
  day = part.with_name(f'stdin_{max(numbers, default=0) + 1:04d}.jsonl')
  try:
    jsonl.read_experiences(str(part))
  except errors.SleepJaxError as error:
    raise refuse(part, day.with_suffix('.refused'), error) from error
  private_files.publish(part, day)
  return day


def refuse(
  file: pathlib.Path, kept: pathlib.Path, error: Exception
) -> errors.DataError:
  """Moves a stream that cannot be learned aside; returns the error."""
  file.rename(kept)
  return errors.DataError(
    f'Standard input cannot be learned as a day: {error} It is kept in {kept} '
    'and is no day: correct it and pass it again.'
  )


def _files(folder: workdir.Folder) -> list[pathlib.Path]:
  """Returns the files of the streams so far, in the order they came."""
  if workdir.in_bucket(folder):
    return []
  files = (folder / _FOLDER).glob(_PATTERN)
  return sorted(files, key=lambda file: int(file.stem.partition('_')[2]))


def _spool(
  stream: typing.BinaryIO, file: pathlib.Path, stop: Callable[[], bool]
) -> str:
  """Writes a stream to a file; returns the digest of its bytes."""
  digest = hashlib.sha256()
  with private_files.create(file) as target:
    while True:
      chunk = _read(stream, stop)
      if stop():  # Also at its end: Ctrl-C ends the other program of a pipe.
        raise context.Interrupted(
          'stopped while a day came on standard input: it is not learned; pass '
          'it again'
        )
      if not chunk:
        return digest.hexdigest()
      digest.update(chunk)
      target.write(chunk)


def _read(stream: typing.BinaryIO, stop: Callable[[], bool]) -> bytes:
  """Returns what comes next; b'' at the end, or if it is asked to stop."""
  try:
    number = stream.fileno()
  except (OSError, AttributeError):
    return stream.read(_CHUNK)  # It is in memory.
  while not select.select([number], [], [], _LOOK)[0]:
    if stop():
      return b''
  return os.read(number, _CHUNK)


def _digest(file: pathlib.Path) -> str:
  with open(file, 'rb') as opened:
    return hashlib.file_digest(opened, 'sha256').hexdigest()
