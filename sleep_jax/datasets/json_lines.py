"""Parses JSON rows: one object per line, an array of objects, or objects.

Reads a stream of bytes and yields one row at a time, so a file of any size
needs the memory of its longest row. Every error names the file and the line.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from sleep_jax import errors

Row = tuple[str, dict[str, Any]]  # 'file:line' and the object.
OnError = Callable[[errors.DataError], None]

MAX_ROW_BYTES = 16 * 2**20  # Tokenizing takes about 30 times as much memory.
_READ_CHARS = 2**18
_BOM = b'\xef\xbb\xbf'
_SPACE = re.compile(r'[ \t\r\n]*')
# First bytes of an array of objects, and of an object over several lines.
_ARRAY = re.compile(rb'\s*\[\s*([{\]]|$)')
_MULTILINE = re.compile(rb'\s*\{[ \t\r]*\n')


def parse(
  file: BinaryIO, path: str, start: bytes, on_error: OnError | None = None
) -> Iterator[Row]:
  """Yields the rows of a file as ('file:line', row).

  Blank lines and byte order marks are skipped.

  Args:
    file: UTF-8 text, at its beginning.
    path: its name, for messages.
    start: its first bytes, which tell lines from an array. A file named .json
      may hold either.
    on_error: called with the error of a line, which is then skipped; None
      raises it. The other forms of JSON cannot be read after an error.

  Raises:
    DataError: a row is not a JSON object, or the file is not UTF-8.
  """
  start = start.removeprefix(_BOM)
  in_array = bool(_ARRAY.match(start))
  if (
    in_array
    or _MULTILINE.match(start)
    or re.search(r'\.json(\.\w+)?$', path, re.IGNORECASE)
  ):
    yield from _Values(file, path).rows(in_array)
  else:
    yield from _lines(file, path, on_error)


def _lines(
  file: BinaryIO, path: str, on_error: OnError | None
) -> Iterator[Row]:
  number = 0
  while line := file.readline(MAX_ROW_BYTES + 1):
    if len(line) > MAX_ROW_BYTES:
      raise errors.DataError(
        f'{path}:{number + 1}: the line is longer than {MAX_ROW_BYTES:,} '
        'bytes: each line must be one object. Split its text into rows.'
      )
    # Files of old Macs end their lines with CR alone.
    parts = line.splitlines(keepends=True) if b'\r' in line else [line]
    for part in parts:
      number += 1
      if part.isspace() or part == _BOM:
        continue
      try:
        row = _parse_line(part, f'{path}:{number}')
      except errors.DataError as error:
        if on_error is None:
          raise
        on_error(error)
        continue
      yield f'{path}:{number}', row


def _parse_line(line: bytes, where: str) -> dict[str, Any]:
  """Returns the JSON object of a line."""
  try:
    text = line.removeprefix(_BOM).decode()
  except UnicodeDecodeError as error:
    raise _not_utf8(where, error) from error
  try:
    return _object(where, _DECODER.decode(text))
  except json.JSONDecodeError as error:
    cut = '' if line.endswith((b'\n', b'\r')) else _cut_off(where)
    if text[error.pos : error.pos + 1] in ('“', '”', '„'):
      cut = ' A name or text of JSON stands between straight quotes (").'
    raise errors.DataError(
      f'{where}: not valid JSON ({error.msg} at column {error.pos + 1}): each '
      f'line must be one object; it starts with {text[:40].strip()!r}.{cut}'
    ) from error
  except errors.DataError as error:
    raise _at(where, error) from error
  except (RecursionError, ValueError) as error:
    raise _too_deep(where, error) from error


class _Values:
  """JSON values of a stream, one after the other, in bounded memory."""

  def __init__(self, file: BinaryIO, path: str):
    self._file, self._path = file, path
    self._decode = codecs.getincrementaldecoder('utf-8-sig')().decode
    self._text, self._place, self._line, self._ended = '', 0, 1, False

  def rows(self, in_array: bool) -> Iterator[Row]:
    """Yields the objects of an array, or objects without one."""
    if in_array:
      self._skip_space()
      self._advance(self._place + 1)  # The bracket.
    found = 0
    while self._skip_space():
      if in_array:
        if self._text[self._place] == ']':
          self._advance(self._place + 1)
          if self._skip_space():
            raise errors.DataError(
              f'{self._where()}: there is text after the end of the array: '
              'remove it, or write one object per line.'
            )
          return
        if found:
          self._take_comma()
      where = self._where()
      yield where, self._value(where)
      found += 1
    if in_array:
      raise errors.DataError(
        f'{self._where()}: the array has no end (]).{_cut_off(self._where())}'
      )

  def _take_comma(self) -> None:
    if self._text[self._place] != ',':
      raise errors.DataError(
        f'{self._where()}: found {self._text[self._place]!r}, expected a comma '
        'or the end of the array (]): correct the file.'
      )
    self._advance(self._place + 1)
    self._skip_space()

  def _value(self, where: str) -> dict[str, Any]:
    """Returns the object that begins here; reads on until it is complete."""
    while True:
      try:
        value, end = _DECODER.raw_decode(self._text, self._place)
      except json.JSONDecodeError as error:
        if self._is_incomplete(error) and self._read():
          continue
        line = self._line + self._text.count('\n', self._place, error.pos)
        cut = _cut_off(where) if self._is_incomplete(error) else ''
        raise errors.DataError(
          f'{self._path}:{line}: not valid JSON ({error.msg}), in the row that '
          f'starts at line {self._line}: correct the file.{cut}'
        ) from error
      except errors.DataError as error:
        raise _at(where, error) from error
      except (RecursionError, ValueError) as error:
        raise _too_deep(where, error) from error
      self._advance(end)
      return _object(where, value)

  def _is_incomplete(self, error: json.JSONDecodeError) -> bool:
    """Returns whether more text may complete the value."""
    near_end = error.pos > len(self._text) - 16  # Longer than \uD83D\uDE00.
    return near_end or error.msg.startswith('Unterminated string')

  def _skip_space(self) -> bool:
    """Moves to the next character that is no space; False at the end."""
    while True:
      match = _SPACE.match(self._text, self._place)
      assert match is not None  # It matches the empty string.
      self._advance(match.end())
      if self._place < len(self._text):
        return True
      if not self._read():
        return False

  def _advance(self, place: int) -> None:
    self._line += self._text.count('\n', self._place, place)
    self._place = place

  def _read(self) -> bool:
    """Reads on, twice as much each time; returns False at the end."""
    if self._ended:
      return False
    rest = self._text[self._place :]
    if len(rest) > MAX_ROW_BYTES:
      raise errors.DataError(
        f'{self._where()}: the row is longer than {MAX_ROW_BYTES:,} '
        'characters, or it has no end: split its text into rows.'
      )
    data = self._file.read(max(_READ_CHARS, len(rest)))
    self._ended = not data
    try:
      self._text = rest + self._decode(data, final=self._ended)
    except UnicodeDecodeError as error:
      line = self._line + rest.count('\n')
      line += error.object[: error.start].count(b'\n')
      raise _not_utf8(f'{self._path}:{line}', error) from error
    self._place = 0
    return bool(data)

  def _where(self) -> str:
    return f'{self._path}:{self._line}'


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """Returns an object; JSON would drop all but the last of equal fields."""
  row = dict(pairs)
  if len(row) < len(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    raise errors.DataError(
      f'the field {twice[0]!r} stands twice in one object, and one of them '
      'would be dropped: keep one.'
    )
  return row


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _object(where: str, value: Any) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise errors.DataError(
      f'{where}: found {type(value).__name__}, expected an object such as '
      '{"text": "..."}: each row must be one object.'
    )
  return value


def _at(where: str, error: errors.DataError) -> errors.DataError:
  text = str(error)
  return (
    error if text.startswith(where) else errors.DataError(f'{where}: {text}')
  )


def _too_deep(where: str, error: Exception) -> errors.DataError:
  return errors.DataError(
    f'{where}: cannot be read as JSON ({type(error).__name__}): it nests too '
    'deeply or holds too long a number.'
  )


def _not_utf8(where: str, error: UnicodeDecodeError) -> errors.DataError:
  byte = error.object[error.start]
  return errors.DataError(
    f'{where}: not UTF-8 (byte 0x{byte:02x}, {error.reason}): save the file as '
    'UTF-8.'
  )


def _cut_off(where: str) -> str:
  return (
    f' The file ends within {where}, so it is cut off or still being written: '
    'write it elsewhere, then rename it.'
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
