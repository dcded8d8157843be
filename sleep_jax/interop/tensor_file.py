"""Reads safetensors files in parts, without mapping them into memory.

A mapped file counts as memory of the process until the system takes its pages
back, and a file that is truncated while it is mapped kills the process. Here
each part is read into an array of its own. Nothing in the header is believed:
sizes and offsets are compared with the size of the file before anything is
allocated.

`write` writes one.

Reference: the format section of the safetensors README.
"""

import functools
import io
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from sleep_jax import errors
from sleep_jax.interop import json_file, stored_tensor

# Bytes read at a time, counted in float32. Some blocks stay in the heap of the
# process, so they are small beside a model.
BLOCK_BYTES = 2**20
_MAX_HEADER = 3 * 10**7  # 100,000 tensors have a header of about 10 MB.


def read_header(
  path: pathlib.Path,
) -> tuple[dict[str, stored_tensor.Tensor], dict[str, str]]:
  """Returns the tensors and the metadata of a file.

  Raises:
    StorageError: the file is damaged or truncated. The message names it, and
      the tensor if there is one.
  """
  try:
    with path.open('rb') as file:
      size = os.fstat(file.fileno()).st_size
      start = file.read(len(json_file.GIT_LFS))
      if start == json_file.GIT_LFS:
        raise errors.StorageError(json_file.pointer(path))
      length = int.from_bytes(start[:8], 'little')
      file.seek(8)
      if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise _damaged(
          path,
          f'it has {size:,} bytes, and its header claims {length:,}, at most '
          f'{_MAX_HEADER:,} are possible',
        )
      text = file.read(length)
  except errors.SleepJaxError:
    raise
  except OSError as error:
    raise errors.StorageError(f'{path} cannot be read ({error}).') from error
  try:
    header = json_file.parse(text.decode(), 'the header')
  except UnicodeDecodeError as error:
    raise _damaged(path, f'its header is no text: {error}') from error
  except errors.ModelFileError as error:
    raise errors.StorageError(
      f'{path} is damaged or truncated: {error}'
    ) from error
  metadata = header.pop('__metadata__', {})
  if not isinstance(metadata, dict):
    raise _damaged(path, 'its metadata is no JSON object')
  data = 8 + length
  found = {
    name: _tensor(path, name, fields, data) for name, fields in header.items()
  }
  at = data
  for tensor in sorted(found.values(), key=lambda t: (t.begin, t.end)):
    if tensor.begin != at:
      raise _damaged(
        path, f'tensor {tensor.name!r} begins at byte {tensor.begin}, not {at}'
      )
    at = tensor.end
  if at != size:
    raise _damaged(
      path, f'it has {size:,} bytes, and its tensors end at byte {at:,}'
    )
  return found, {str(k): str(v) for k, v in metadata.items()}


def _tensor(
  path: pathlib.Path, name: str, fields: Any, data: int
) -> stored_tensor.Tensor:
  """Returns a tensor of a header, whose size agrees with its shape."""
  try:
    dtype, shape = fields['dtype'], fields['shape']
    begin, end = fields['data_offsets']
  except (TypeError, KeyError, ValueError) as error:
    raise _damaged(path, f'the header of tensor {name!r}: {error}') from error
  sizes = [*shape, begin, end] if isinstance(shape, list) else ['no list']
  if not all(type(size) is int and size >= 0 for size in sizes):
    raise _damaged(
      path, f'tensor {name!r} has shape {shape} and offsets {begin}, {end}'
    )
  bits = re.search(r'\d+', dtype) if isinstance(dtype, str) else None
  # Types with other sizes are refused later, when they are to be read.
  if dtype in stored_tensor.DTYPES and bits:
    expected = math.prod(shape) * int(bits[0]) // 8
    if end - begin != expected:
      raise _damaged(
        path,
        f'tensor {name!r} of type {dtype} and shape {tuple(shape)} needs '
        f'{expected:,} bytes and has {end - begin:,}',
      )
  return stored_tensor.Tensor(
    path, name, str(dtype), tuple(shape), data + begin, data + end
  )


def _damaged(path: pathlib.Path, why: str) -> errors.StorageError:
  return errors.StorageError(
    f'{path} is damaged or truncated ({why}): download it again.'
  )


class Reader:
  """Reads parts of tensors; opens each file once.

  Use it as a context manager, which closes the files.

  Attributes:
    block_bytes: size of the blocks of `blocks`, in float32; by default
      `BLOCK_BYTES`.
  """

  def __init__(self, block_bytes: int = 0) -> None:
    self.block_bytes = block_bytes or BLOCK_BYTES
    self._files: dict[pathlib.Path, io.FileIO] = {}

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self,
    error_type: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    for file in self._files.values():
      file.close()
    self._files.clear()

  def blocks(
    self, tensor: stored_tensor.Tensor, index: tuple[slice, ...] | None = None
  ) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, rows) of a part of a tensor.

    Rows are counted from the start of the part. Each block has about
    `block_bytes` in float32, or less.

    Args:
      tensor: a tensor whose type is in `stored_tensor.DTYPES`, with at least
        one axis.
      index: the part, with start and stop for each axis; None: all.

    Raises:
      StorageError: the file cannot be read, or has become shorter.
    """
    index = index or tuple(slice(0, size) for size in tensor.shape)
    row_size = math.prod(s.stop - s.start for s in index[1:])
    num_rows = index[0].stop - index[0].start
    step = self.block_bytes // max(4 * row_size, 1)
    step = max(min(step, num_rows), 1)
    # Blocks of equal size if possible: each size costs a compilation of 2 MB.
    step = next(
      (n for n in range(step, step // 2, -1) if num_rows % n == 0), step
    )
    for first in range(index[0].start, index[0].stop, step):
      last = min(first + step, index[0].stop)
      yield first - index[0].start, self._rows(tensor, first, last, index[1:])

  def read(self, tensor: stored_tensor.Tensor) -> np.ndarray:
    """Returns a whole tensor, whose type is in `stored_tensor.DTYPES`."""
    found = np.empty(tensor.shape, stored_tensor.DTYPES[tensor.dtype])
    self._read(tensor, 0, stored_tensor.as_bytes(found))
    return found

  def same(self, one: stored_tensor.Tensor, two: stored_tensor.Tensor) -> bool:
    """Returns whether two tensors have equal type, shape and bytes."""
    if (one.dtype, one.shape) != (two.dtype, two.shape):
      return False
    size = one.end - one.begin
    parts = [
      memoryview(bytearray(min(size, self.block_bytes))) for _ in range(2)
    ]
    for at in range(0, size, self.block_bytes):
      rest = min(size - at, self.block_bytes)
      for tensor, part in zip((one, two), parts, strict=True):
        self._read(tensor, at, part[:rest])
      if parts[0][:rest] != parts[1][:rest]:
        return False
    return True

  def _rows(self, tensor, first, last, columns) -> np.ndarray:
    """Returns the rows [first, last), and of each the given columns."""
    read = functools.partial(self._read, tensor)
    return tensor.rows(read, first, last, columns)

  def _read(
    self, tensor: stored_tensor.Tensor, at: int, into: memoryview
  ) -> None:
    """Fills a buffer from an offset within the tensor on."""
    try:
      file = self._files.get(tensor.path)
      if file is None:
        file = self._files[tensor.path] = io.FileIO(tensor.path)
      file.seek(tensor.begin + at)
      while into:
        got = file.readinto(into)
        if not got:
          raise _damaged(tensor.path, f'it ends within {tensor.name!r}')
        into = into[got:]
    except errors.SleepJaxError:
      raise
    except OSError as error:
      raise errors.StorageError(
        f'{tensor} cannot be read ({error}).'
      ) from error


def write(
  tensors: Mapping[str, np.ndarray],
  file: pathlib.Path,
  metadata: Mapping[str, str],
) -> None:
  """Writes a safetensors file.

  Raises:
    StorageError: it cannot be written.
  """
  try:
    safetensors_numpy.save_file(dict(tensors), file, metadata=dict(metadata))
  except safetensors.SafetensorError as error:
    raise errors.StorageError(
      f'{file.parent} cannot be written to ({error}): free some space, or '
      'check the rights of the folder.'
    ) from error
