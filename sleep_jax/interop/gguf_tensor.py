"""A tensor of a GGUF file, dequantized while it is read.

Only the rows that are asked for are in memory as float32. Conversion to GGUF
changes two kinds of tensors, which is undone here: rows of queries and keys of
Llama are interleaved, because its program rotates neighbouring numbers, and the
norms of Gemma are stored with 1 added.
"""

import dataclasses
import functools
import types
from collections.abc import Callable

import numpy as np

from sleep_jax import errors
from sleep_jax.interop import stored_tensor


@functools.cache
def library() -> types.ModuleType:
  """Returns the package `gguf`.

  Raises:
    MissingPackageError: it is not installed.
  """
  try:
    import gguf
    import gguf.quants
  except ImportError as error:
    raise errors.MissingPackageError(
      f'GGUF files need the package gguf ({error}): pip install gguf.'
    ) from error
  return gguf


@dataclasses.dataclass(frozen=True)
class GgufTensor(stored_tensor.Tensor):
  """Where a tensor of a GGUF file is; it is read as float32.

  Attributes:
    kind: type in the file, as `gguf` names it: 'F16', 'Q4_K'.
    head_size: rows of a head if the rows of each head are interleaved, else 0.
    added: number that was added to all numbers of the file.
  """

  kind: str = 'F32'
  head_size: int = 0
  added: float = 0.0

  def rows(
    self,
    read: Callable[[int, memoryview], None],
    first: int,
    last: int,
    columns: tuple[slice, ...],
  ) -> np.ndarray:
    """Returns rows as float32; see `stored_tensor.Tensor.rows`."""
    row_bytes = (self.end - self.begin) // self.shape[0]
    begin, end, chosen = first, last, slice(None)
    if self.head_size:
      rows = source_rows(np.arange(first, last), self.head_size)
      begin, end = rows.min(), rows.max() + 1
      chosen = rows - begin
    raw = np.empty((end - begin, row_bytes), np.uint8)
    read(int(begin) * row_bytes, stored_tensor.as_bytes(raw))
    found = dequantize(raw[chosen], self.kind)
    found = found.reshape(-1, *self.shape[1:])
    found = found[:, *columns]
    return found - np.float32(self.added) if self.added else found


def dequantize(raw: np.ndarray, kind: str) -> np.ndarray:
  """Returns the numbers of whole blocks as float32, in order.

  Args:
    raw: bytes of the blocks, `[..., N]`.
    kind: see `GgufTensor`. The kinds of `_DEQUANTIZE` take a fifth of the time
      that the package `gguf` takes, and give the same bits.
  """
  if kind in _DEQUANTIZE:
    return _DEQUANTIZE[kind](raw)
  return library().quants.dequantize(raw, library().GGMLQuantizationType[kind])


def _scales(blocks, number):
  """Returns the f16 at a place of each block, `[blocks, 1]`."""
  found = blocks[:, 2 * number : 2 * number + 2].copy()
  return found.view('<f2').astype(np.float32)


def _nibbles(blocks):
  """Returns 32 numbers of 4 bits of each block: all low ones come first."""
  found = np.empty((len(blocks), 32), np.float32)
  found[:, :16], found[:, 16:] = blocks & 15, blocks >> 4
  return found


def _q4_0(raw):
  blocks = raw.reshape(-1, 18)
  found = _nibbles(blocks[:, 2:])
  found -= 8
  found *= _scales(blocks, 0)
  return found


def _q4_1(raw):
  blocks = raw.reshape(-1, 20)
  found = _nibbles(blocks[:, 4:])
  found *= _scales(blocks, 0)
  found += _scales(blocks, 1)
  return found


def _q8_0(raw):
  blocks = raw.reshape(-1, 34)
  return blocks[:, 2:].view(np.int8) * _scales(blocks, 0)


_DEQUANTIZE = {'Q4_0': _q4_0, 'Q4_1': _q4_1, 'Q8_0': _q8_0}


def source_rows(rows: np.ndarray, head_size: int) -> np.ndarray:
  """Returns where rows of queries or keys are in a GGUF file.

  Args:
    rows: numbers of rows in transformers, where the two halves of a head are
      rotated together.
    head_size: rows of a head.
  """
  head, row = np.divmod(rows, head_size)
  half, pair = np.divmod(row, head_size // 2)
  return head * head_size + 2 * pair + half
