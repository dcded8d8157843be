"""Reads JSON lines, plain or gzipped; every complaint names file and line."""

import gzip
import json
import zlib
from typing import Any


def read(path: str) -> list[tuple[str, dict[str, Any]]]:
  """The rows of a file, each with its 'file:line'. Blank lines are skipped.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is no JSON object, or the file is broken or not UTF-8.
  """
  opened = gzip.open if path.endswith('.gz') else open
  rows, number = [], 0
  try:
    with opened(path, 'rt', encoding='utf-8') as file:
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


def text(row: dict[str, Any], field: str, where: str) -> str:
  """A field that must hold text."""
  if field not in row:
    raise ValueError(
      f'{where}: no field {field!r} among {sorted(row)}: add it or name '
      'another field.'
    )
  value = row[field]
  if not isinstance(value, str) or not value.strip():
    raise ValueError(
      f'{where}: field {field!r} is {value!r}: write text that is not empty.'
    )
  return value


def _parse(line: str, where: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(
      f'{where}: no JSON ({error.msg} at column {error.colno}): each line must '
      f'be one object; it begins {line[:40].strip()!r}.'
    ) from error
  if not isinstance(row, dict):
    raise ValueError(
      f'{where}: found {type(row).__name__}, expected an object such as '
      '{"text": "..."}: each line must be one object.'
    )
  return row
