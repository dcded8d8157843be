"""Reads a file of rows, whatever it is: JSON, compressed, parquet, arrow.

Rows are read one after the other in bounded memory. A file that changes while
it is read is refused, because a part of it would be learned as the whole.
"""

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from sleep_jax import errors
from sleep_jax.datasets import json_lines, table_files, zstd_file

_START = 4096
# First bytes of files that other programs write under the name of JSON lines.
_OTHER_FORMATS = (
  (b'\xff\xfe', 'is UTF-16: save the file as UTF-8'),
  (b'\xfe\xff', 'is UTF-16: save the file as UTF-8'),
  (b'version https://git-lfs', 'is a Git LFS pointer, not the file itself: '
   'fetch it with `git lfs pull`'),
  (b'\x1f\x8b', 'is compressed with gzip: rename it so that it ends in .gz'),
  (b'\x28\xb5\x2f\xfd', 'is compressed with zstd: rename it so that it ends in '
   '.zst'),
  (b'PAR1', 'is a parquet file: rename it so that it ends in .parquet'),
  (b'ARROW1', 'is an arrow file: rename it so that it ends in .arrow'),
  (b'PK\x03\x04', 'is a zip archive: unpack it'),
  (b'<', 'is HTML or XML: expected JSON. If it was downloaded, fetch the raw '
   'file'),
)  # fmt: skip


def read(
  path: str, on_error: json_lines.OnError | None = None
) -> Iterator[json_lines.Row]:
  """Yields the rows of a file as ('file:line', row).

  Args:
    path: JSON text, plain or compressed; a parquet or arrow file; or a folder
      that `datasets.Dataset.save_to_disk` wrote.
    on_error: called with the error of a single line, which is then skipped;
      None raises it.

  Raises:
    MissingFileError: the file does not exist.
    MissingPackageError: a package that reads the format is not installed.
    DataError: the file or one of its rows cannot be used; names it. Or the file
      was written to while it was read.
    StorageError: the file cannot be read.
  """
  try:
    before = _states(path)
    try:
      yield from _rows(path, on_error)
    except errors.DataError as error:
      if _states(path) != before:
        raise _changed(path) from error
      raise
    if _states(path) != before:
      raise _changed(path)
  except FileNotFoundError as error:
    if isinstance(error, errors.SleepJaxError):
      raise
    raise errors.MissingFileError(
      f'{path} does not exist: expected a file of rows. Correct the path.'
    ) from error
  except OSError as error:
    if isinstance(error, errors.SleepJaxError):
      raise
    raise errors.StorageError(
      f'{path} cannot be read ({error.strerror or error}): check its '
      'permissions and the disk.'
    ) from error


def _rows(
  path: str, on_error: json_lines.OnError | None
) -> Iterator[json_lines.Row]:
  if os.path.isdir(path):
    if not table_files.is_folder(path):
      raise errors.DataError(
        f'{path} is a folder: expected a file of rows, or a folder that '
        '`save_to_disk` of Hugging Face datasets wrote.'
      )
    yield from table_files.read_folder(path)
  elif path.lower().endswith(table_files.SUFFIXES):
    yield from table_files.read(path)
  else:
    with open(path, 'rb') as plain, _decompressed(plain, path) as file:
      start = file.peek(_START)[:_START]
      for magic, text in _OTHER_FORMATS:
        if start.startswith(magic):
          raise errors.DataError(f'{path} {text}.')
      if b'\0' in start:
        raise errors.DataError(
          f'{path} is not a text file (it contains bytes of value 0): if it is '
          'UTF-16, save it as UTF-8.'
        )
      yield from json_lines.parse(cast(BinaryIO, file), path, start, on_error)


@contextlib.contextmanager
def _decompressed(file: io.BufferedReader, path: str):
  """Yields the text of a file by its name's ending."""
  if path.lower().endswith('.zst'):
    with io.BufferedReader(zstd_file.Reader(file, path), _START * 16) as text:
      yield text
  elif path.lower().endswith('.gz'):
    try:
      with io.BufferedReader(gzip.GzipFile(fileobj=file), _START * 16) as text:  # type: ignore[type-var]
        yield text
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
      raise errors.DataError(
        f'{path}: broken gzip ({error}): fetch or compress the file again. If '
        'it is still being written, write it elsewhere, then rename it.'
      ) from error
  else:
    yield file


def _states(path: str) -> list[tuple[int, int, int]]:
  """Returns what changes when a file or a file of a folder is written to."""
  files = [path]
  if os.path.isdir(path):
    files += sorted(os.path.join(path, name) for name in os.listdir(path))
  stats = [os.stat(file) for file in files]
  return [
    (s.st_ino, s.st_size, s.st_mtime_ns)
    for s in stats
    if not stat.S_ISFIFO(s.st_mode)  # Another program writes to a pipe.
  ]


def _changed(path: str) -> errors.DataError:
  return errors.DataError(
    f'{path} was written to while it was read, so it is not complete: wait '
    'until it is, and write it elsewhere, then rename it.'
  )
