"""Finds the files of rows under the path that a user gives."""

import glob
import os
import re
from collections.abc import Sequence

from sleep_jax import errors
from sleep_jax.datasets import table_files

_ENDING = re.compile(
  r'\.((jsonl|ndjson|json)(\.(gz|zst))?|parquet|arrow)$', re.IGNORECASE
)
# Not read: a day in such a file would be left out silently, so it is an error.
_NOT_READ = re.compile(
  r'\.(jsonl|ndjson|json|parquet|arrow)\.(bz2|xz|lz4|br|zip|7z)$', re.IGNORECASE
)
_TABLE = re.compile(r'\.(csv|tsv|xlsx?|ods)(\.(gz|zst))?$', re.IGNORECASE)
_READ = (
  '.jsonl, .ndjson or .json (each also with .gz or .zst), .parquet, .arrow, or '
  'a folder of Hugging Face datasets'
)


def find(path: str | Sequence[str], usage: str = '') -> list[str]:
  """Returns the files of a path, in natural order within each of its parts.

  Of a folder, these are the files whose ending is one of those that are read,
  and folders that `save_to_disk` of Hugging Face datasets wrote. Other files,
  hidden files and other folders do not count.

  Args:
    path: file, folder, pattern, or a list of them.
    usage: what the data should be, for messages.

  Raises:
    MissingFileError: a part matches nothing.
    DataError: a part is a dataset of several splits, or holds rows that are
      compressed in a way that is not read.
  """
  files = []
  for part in [path] if isinstance(path, str) else path:
    if os.path.isdir(part):
      matches = _of_folder(part)
    elif os.path.exists(part):
      if _TABLE.search(part):
        raise errors.DataError(
          f'{part} is a table of another kind: expected {_READ}. Convert it, '
          'one JSON object for each row.'
        )
      matches = [part]
    else:
      matches = glob.glob(part)
    if not matches:
      raise errors.MissingFileError(
        f'no files match {part!r}{_found(part)}: expected {_READ}. {usage}'
      )
    files += sorted(matches, key=_natural_order)
  return files


def name(file: str) -> str:
  """Returns the name of a file without folder and ending."""
  return _ENDING.sub('', os.path.basename(file.rstrip('/')))


def _of_folder(folder: str) -> list[str]:
  """Returns the files of rows in a folder, or the folder if it is a dataset."""
  table_files.check_no_splits(folder)
  if table_files.is_folder(folder):
    return [folder]
  files = []
  for entry in os.listdir(folder):
    file = os.path.join(folder, entry)
    if entry.startswith('.'):
      continue
    if _NOT_READ.search(entry):
      raise errors.DataError(
        f'{file} is compressed in a way that is not read: expected {_READ}. '
        'Decompress it, or move it out of the folder.'
      )
    if os.path.isdir(file):
      table_files.check_no_splits(file)
    if _ENDING.search(entry) or table_files.is_folder(file):
      files.append(file)
  return files


def _found(part: str) -> str:
  """Returns what a folder, or the folder of a pattern, has instead."""
  folder = part if os.path.isdir(part) else os.path.dirname(part) or '.'
  if not os.path.isdir(folder):
    return f' (there is no folder {folder})'
  entries = sorted(os.listdir(folder), key=_natural_order)
  if not entries:
    return ' (the folder is empty)'
  more = f' and {len(entries) - 5} more' if len(entries) > 5 else ''
  return f' (the folder has {", ".join(entries[:5])}{more})'


def _natural_order(file: str) -> list[tuple[bool, int | str]]:
  """Returns a sort key in which `day_2` comes before `day_10`."""
  parts = re.split(r'(\d+)', file)
  return [(p.isdecimal(), int(p) if p.isdecimal() else p) for p in parts] + [
    (False, file)
  ]
