"""Where a tensor is in a file, and how its bytes become rows."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

# NumPy types of the tensors that can be read.
DTYPES: Mapping[str, np.dtype] = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """Where a tensor is.

  Attributes:
    path: its file.
    name: its name in the file.
    dtype: its type, as the format names it; see `DTYPES`.
    shape: its shape.
    begin: first byte in the file.
    end: byte after the last one.
  """

  path: pathlib.Path
  name: str
  dtype: str
  shape: tuple[int, ...]
  begin: int
  end: int

  def __str__(self) -> str:
    return f'{self.path}: tensor {self.name!r}'

  def rows(
    self,
    read: Callable[[int, memoryview], None],
    first: int,
    last: int,
    columns: tuple[slice, ...],
  ) -> np.ndarray:
    """Returns the rows [first, last), and of each the given columns.

    Args:
      read: fills a buffer from an offset within the tensor on, in bytes.
      first, last: the rows.
      columns: start and stop for each further axis.
    """
    dtype = DTYPES[self.dtype]
    row_bytes = math.prod(self.shape[1:]) * dtype.itemsize
    sizes = [s.stop - s.start for s in columns]
    found = np.empty((last - first, *sizes), dtype)
    if sizes == list(self.shape[1:]):
      read(first * row_bytes, as_bytes(found))
      return found
    start = columns[0].start * dtype.itemsize
    for row in range(first, last):
      read(row * row_bytes + start, as_bytes(found[row - first]))
    return found


def as_bytes(array: np.ndarray) -> memoryview:
  """Returns the bytes of a contiguous array, to write to."""
  # Not all types of arrays have a buffer of their own.
  return memoryview(array.reshape(-1).view(np.uint8))
