"""Reads files of JSON lines, plain or gzipped.

Every error names the file and the line. The module `jsonl` is the dataset of a
user's own files; this module is the reader that it and other datasets use.
"""

import gzip
import json
import os
import re
import zlib
from typing import Any

from sleep_jax import errors


def read(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Returns the rows of a file as ('file:line', row).

  Blank lines and a byte order mark are skipped.

  Raises:
    MissingFileError: the file does not exist.
    DataError: a line is not a JSON object, or the file is not UTF-8, not valid
      gzip, a folder, or a Git LFS pointer.
  """
  open_file = gzip.open if path.lower().endswith('.gz') else open
  rows, number = [], 0
  if os.path.isdir(path):
    raise errors.DataError(
      f'{path} is a folder: expected a file of JSON lines.'
    )
  try:
    with open_file(path, 'rb') as file:
      _check_start(file.read(64), path)
    with open_file(path, 'rt', encoding='utf-8-sig') as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          rows.append((f'{path}:{number}', _parse(line, f'{path}:{number}')))
  except UnicodeDecodeError as error:
    raise errors.DataError(
      f'{path}, after line {number}: not UTF-8 ({error.reason}): save the file '
      'as UTF-8.'
    ) from error
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise errors.DataError(
      f'{path}, after line {number}: broken gzip ({error}): fetch or compress '
      'the file again.'
    ) from error
  return rows


def _check_start(start: bytes, path: str) -> None:
  """Refuses files that other programs write under the same name."""
  if start.startswith((b'\xff\xfe', b'\xfe\xff')):
    raise errors.DataError(f'{path} is UTF-16: save the file as UTF-8.')
  if start.startswith(b'version https://git-lfs'):
    raise errors.DataError(
      f'{path} is a Git LFS pointer, not the file itself: fetch it with '
      '`git lfs pull`.'
    )
  if re.match(rb'(\xef\xbb\xbf)?\s*\[\s*(\{|$)', start):
    raise errors.DataError(
      f'{path} is a JSON array: expected one object per line. Convert it: '
      f"jq -c '.[]' {os.path.basename(path)} > days.jsonl"
    )


def text_field(row: dict[str, Any], field: str, where: str) -> str:
  """Returns a field that has to be a non-empty string.

  Args:
    row: the row.
    field: name of the field.
    where: 'file:line' of the row.

  Raises:
    DataError: the field is missing or not a non-empty string.
  """
  if field not in row:
    raise errors.DataError(
      f'{where}: no field {field!r} among {sorted(row)}: add it or name '
      'another field.'
    )
  return text_value(row[field], field, where)


def text_value(value: Any, field: str, where: str) -> str:
  """Returns a value that has to be a non-empty string.

  Args:
    value: of a field.
    field: its name or path, such as 'messages[2].content'.
    where: 'file:line' of the row.

  Raises:
    DataError: it is not a non-empty string.
  """
  if not isinstance(value, str) or not value.strip():
    raise errors.DataError(
      f'{where}: field {field!r} is {value!r}: expected a non-empty string.'
    )
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise errors.DataError(
      f'{where}: field {field!r} has half of a character pair at character '
      f'{error.start}: write the text as valid Unicode.'
    ) from error
  return value


def _parse(line: str, where: str) -> dict[str, Any]:
  """Returns the JSON object of a line."""
  try:
    row = json.loads(line)
  except json.JSONDecodeError as error:
    raise errors.DataError(
      f'{where}: not valid JSON ({error.msg} at column {error.colno}): each '
      f'line must be one object; it starts with {line[:40].strip()!r}.'
    ) from error
  except (RecursionError, ValueError) as error:
    raise errors.DataError(
      f'{where}: cannot be read as JSON ({type(error).__name__}): it nests too '
      'deeply or holds too long a number.'
    ) from error
  if not isinstance(row, dict):
    raise errors.DataError(
      f'{where}: found {type(row).__name__}, expected an object such as '
      '{"text": "..."}: each line must be one object.'
    )
  return row
