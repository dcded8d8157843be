"""Reads files of JSON lines, plain or gzipped.

Every error names the file and the line. The module `jsonl` is the dataset of a
user's own files; this module is the reader that it and other datasets use.
"""

import gzip
import json
import zlib
from typing import Any


def read(path: str) -> list[tuple[str, dict[str, Any]]]:
  """Returns the rows of a file as ('file:line', row). Blank lines are skipped.

  Raises:
    FileNotFoundError: the file does not exist.
    ValueError: a line is not a JSON object, or the file is not UTF-8 or not
      valid gzip.
  """
  open_file = gzip.open if path.endswith('.gz') else open
  rows, number = [], 0
  try:
    with open_file(path, 'rt', encoding='utf-8') as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          rows.append((f'{path}:{number}', _parse(line, f'{path}:{number}')))
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path}, after line {number}: not UTF-8 ({error.reason}): save the file '
      'as UTF-8.'
    ) from error
  except (gzip.BadGzipFile, EOFError, zlib.error) as error:
    raise ValueError(
      f'{path}, after line {number}: broken gzip ({error}): fetch or compress '
      'the file again.'
    ) from error
  return rows


def text_field(row: dict[str, Any], field: str, where: str) -> str:
  """Returns a field that has to be a non-empty string.

  Args:
    row: the row.
    field: name of the field.
    where: 'file:line' of the row.

  Raises:
    ValueError: the field is missing or not a non-empty string.
  """
  if field not in row:
    raise ValueError(
      f'{where}: no field {field!r} among {sorted(row)}: add it or name '
      'another field.'
    )
  value = row[field]
  if not isinstance(value, str) or not value.strip():
    raise ValueError(
      f'{where}: field {field!r} is {value!r}: expected a non-empty string.'
    )
  return value


def _parse(line: str, where: str) -> dict[str, Any]:
  """Returns the JSON object of a line."""
  try:
    row = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{where}: not valid JSON ({error.msg} at column {error.colno}): each '
      f'line must be one object; it starts with {line[:40].strip()!r}.'
    ) from error
  if not isinstance(row, dict):
    raise ValueError(
      f'{where}: found {type(row).__name__}, expected an object such as '
      '{"text": "..."}: each line must be one object.'
    )
  return row
