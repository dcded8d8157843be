"""Reads the header of a GGUF file: metadata and where its tensors are.

Nothing in the header is believed: each count and length is compared with the
size of the file before anything is allocated. Like safetensors files, GGUF
files are not mapped into memory, see `tensor_file`.

Reference: the GGUF specification, docs/gguf.md of the repository ggml.
"""

import dataclasses
import functools
import io
import math
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from sleep_jax import errors
from sleep_jax.interop import gguf_tensor, json_file

_MAGIC = b'GGUF'
_VERSIONS = (2, 3)
_MAX_HEADER = 10**8  # 260,000 tokens with merges have about 10 MB.
_MAX_NAME, _MAX_AXES, _ALIGNMENT = 1024, 4, 32
# Types of metadata that are numbers, as NumPy types.
_NUMBERS = ('<u1', '<i1', '<u2', '<i2', '<u4', '<i4', '<f4', '?')
_NUMBER_TYPES = dict(enumerate(_NUMBERS)) | {10: '<u8', 11: '<i8', 12: '<f8'}
_STRING, _ARRAY = 8, 9


@dataclasses.dataclass(frozen=True)
class Header:
  """Content of a header.

  Attributes:
    path: the file.
    metadata: numbers, strings, and lists of them, by key.
    tensors: by name in the file.
  """

  path: pathlib.Path
  metadata: Mapping[str, Any]
  tensors: Mapping[str, gguf_tensor.GgufTensor]


def read(path: pathlib.Path) -> Header:
  """Returns the header of a file.

  Raises:
    MissingFileError: there is no such file.
    ModelFileError: the file is no GGUF file, is of a version that is not
      supported, or has a tensor of a type that cannot be read.
    StorageError: the file is damaged or truncated.
    MissingPackageError: the package gguf is not installed.
  """
  gguf_tensor.library()
  if not path.exists():
    raise errors.MissingFileError(f'{path} does not exist.')
  try:
    with path.open('rb') as file:
      return _read(_Cursor(file, path))
  except errors.SleepJaxError:
    raise
  except OSError as error:
    raise errors.StorageError(f'{path} cannot be read ({error}).') from error


class _Cursor:
  """Reads a file from the start on, never beyond its end.

  Attributes:
    path: the file.
    size: bytes of the file.
    at: bytes that were read.
  """

  def __init__(self, file: io.BufferedReader, path: pathlib.Path):
    self._file, self.path, self.at = file, path, 0
    self.size = os.fstat(file.fileno()).st_size

  def take(self, size: int, what: str) -> bytes:
    """Returns the next bytes.

    Args:
      size: their number.
      what: what they are, for the message.
    """
    if size > self.size - self.at:
      raise damaged(
        self.path,
        f'{what} at byte {self.at:,} has {size:,} bytes, and the file ends at '
        f'{self.size:,}',
      )
    if self.at + size > _MAX_HEADER:
      raise damaged(
        self.path, f'its header has more than {_MAX_HEADER:,} bytes, at {what}'
      )
    found = self._file.read(size)
    if len(found) < size:
      raise damaged(self.path, f'it ends within {what}')
    self.at += size
    return found

  def number(self, code: str, what: str) -> int:
    """Returns the next integer, of a `struct` code."""
    size = struct.calcsize(code)
    return struct.unpack(f'<{code}', self.take(size, what))[0]

  def count(self, what: str, item_bytes: int) -> int:
    """Returns the next count of items of at least `item_bytes` each."""
    found = self.number('Q', f'the number of {what}')
    if found * item_bytes > self.size - self.at:
      raise damaged(
        self.path,
        f'it claims {found:,} {what}, and {self.size - self.at:,} bytes follow',
      )
    return found

  def text(self, what: str) -> str:
    """Returns the next string."""
    content = self.take(self.number('Q', what), what)
    try:
      return content.decode()
    except UnicodeDecodeError as error:
      raise damaged(self.path, f'{what} is not UTF-8: {error}') from error


def damaged(path: pathlib.Path, why: str) -> errors.StorageError:
  """Returns the error for a damaged or truncated file."""
  return errors.StorageError(
    f'{path} is damaged or truncated ({why}): download it again.'
  )


def _read(cursor: _Cursor) -> Header:
  _check_start(cursor)
  num_tensors = cursor.count('tensors', 24)
  num_keys = cursor.count('metadata keys', 13)
  metadata: dict[str, Any] = {}
  for _ in range(num_keys):
    key = cursor.text('a metadata key')
    if key in metadata:
      raise damaged(cursor.path, f'metadata {key!r} is there twice')
    metadata[key] = _value(cursor, f'metadata {key!r}')
  infos = [_tensor_info(cursor) for _ in range(num_tensors)]
  alignment = metadata.get('general.alignment', _ALIGNMENT)
  if type(alignment) is not int or alignment < 8 or alignment % 8:
    raise damaged(
      cursor.path,
      f"metadata 'general.alignment' is {alignment!r}, not a multiple of 8",
    )
  begin = -(-cursor.at // alignment) * alignment
  tensors: dict[str, gguf_tensor.GgufTensor] = {}
  for name, kind, shape, offset in infos:
    if name in tensors:
      raise damaged(cursor.path, f'tensor {name!r} is there twice')
    tensors[name] = _tensor(cursor, name, kind, shape, begin + offset)
  _check_layout(cursor, tensors)
  return Header(cursor.path, metadata, tensors)


def _check_start(cursor: _Cursor) -> None:
  """Checks the first bytes and the version."""
  path = cursor.path
  start = cursor.take(min(4, cursor.size), 'the start')
  if json_file.GIT_LFS.startswith(start) and cursor.size >= 4:
    raise errors.ModelFileError(json_file.pointer(path))
  if start != _MAGIC:
    raise errors.ModelFileError(
      f'{path} is no GGUF file: it starts with {start!r}, expected {_MAGIC!r}. '
      'Download it again.'
    )
  version = cursor.number('I', 'the version')
  if version in _VERSIONS:
    return
  what = f'is GGUF version {version}'
  todo = 'convert the model again with a current llama.cpp'
  if version > max(_VERSIONS):
    todo = 'use a newer sleep-jax, or a file of one of these versions'
  if version & 0xFFFF == 0:
    what = 'is for machines with the other byte order'
    todo = 'download the little-endian file'
  raise errors.ModelFileError(
    f'{path} {what}: expected version {" or ".join(map(str, _VERSIONS))}, '
    f'little-endian; {todo}.'
  )


def _value(cursor: _Cursor, what: str) -> Any:
  """Returns the next value of metadata."""
  kind = cursor.number('I', what)
  if kind == _STRING:
    return cursor.text(what)
  if kind in _NUMBER_TYPES:
    return _numbers(cursor, kind, 1, what)[0]
  if kind != _ARRAY:
    raise damaged(cursor.path, f'{what} has the unknown type {kind}')
  kind = cursor.number('I', what)
  if kind == _STRING:
    count = cursor.count(f'items of {what}', 8)
    return [cursor.text(what) for _ in range(count)]
  if kind not in _NUMBER_TYPES:
    raise damaged(cursor.path, f'{what} is a list of the unknown type {kind}')
  item_bytes = np.dtype(_NUMBER_TYPES[kind]).itemsize
  return _numbers(
    cursor, kind, cursor.count(f'items of {what}', item_bytes), what
  )


def _numbers(cursor: _Cursor, kind: int, count: int, what: str) -> list[Any]:
  dtype = np.dtype(_NUMBER_TYPES[kind])
  content = cursor.take(count * dtype.itemsize, what)
  return np.frombuffer(content, dtype).tolist()


def _tensor_info(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
  """Returns name, type, shape and offset of the next tensor."""
  name = cursor.text('the name of a tensor')
  what = f'tensor {name[:_MAX_NAME]!r}'
  axes = cursor.number('I', what)
  if not 1 <= axes <= _MAX_AXES or len(name) > _MAX_NAME:
    raise damaged(cursor.path, f'{what} has {axes} axes')
  shape = tuple(cursor.number('Q', what) for _ in range(axes))[::-1]
  return name, cursor.number('I', what), shape, cursor.number('Q', what)


@functools.cache
def _kinds() -> dict[int, tuple[str, int, int]]:
  """Returns name, numbers and bytes of a block of each readable type."""
  gguf, found = gguf_tensor.library(), {}
  for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
    try:
      gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
      continue
    found[int(kind)] = kind.name, block, size
  return found


def _tensor(cursor, name, number, shape, begin) -> gguf_tensor.GgufTensor:
  """Returns a tensor whose type can be read and whose bytes are there."""
  if number not in _kinds():
    known = ', '.join(kind for kind, _, _ in _kinds().values())
    kinds = gguf_tensor.library().GGMLQuantizationType
    found = number
    if number in kinds._value2member_map_:
      found = kinds(number).name
    raise errors.ModelFileError(
      f'{cursor.path}: tensor {name!r} has type {found}, which the package '
      f'gguf cannot read: expected one of {known}. Use another file of this '
      'model, or a newer gguf.'
    )
  kind, block, size = _kinds()[number]
  total = math.prod(shape)
  if not total or shape[-1] % block or (block > 1 and len(shape) == 1):
    raise damaged(
      cursor.path,
      f'tensor {name!r} of type {kind} has shape {shape}: expected rows of a '
      f'multiple of {block} numbers, and of several axes in blocks',
    )
  end = begin + total // block * size
  if end > cursor.size:
    raise damaged(
      cursor.path,
      f'tensor {name!r} ends at byte {end:,}, and the file at {cursor.size:,}',
    )
  return gguf_tensor.GgufTensor(
    cursor.path, name, 'F32', shape, begin, end, kind
  )


def _check_layout(cursor, tensors) -> None:
  """Checks that tensors do not overlap."""
  at = cursor.at
  for tensor in sorted(tensors.values(), key=lambda t: (t.begin, t.end)):
    if tensor.begin < at:
      raise damaged(
        cursor.path,
        f'tensor {tensor.name!r} begins at byte {tensor.begin:,}, before the '
        f'end of what precedes it, {at:,}',
      )
    at = tensor.end
