"""Decompresses zstd as a stream and notices when its end is missing.

The reader of the `zstandard` package returns what there is of a file that was
cut off, without an error. A part of a day would be learned as the whole.
"""

import io
from typing import Any, BinaryIO

from sleep_jax import errors

# A block of 128 kB may be compressed to 4 bytes, so this limits the memory of
# one step to 32 MB.
_READ_BYTES = 1024


class Reader(io.RawIOBase):
  """Decompressed bytes of a file, which may have several frames."""

  def __init__(self, file: BinaryIO, path: str):
    """Opens a file.

    Args:
      file: compressed, at its beginning.
      path: its name, for messages.

    Raises:
      MissingPackageError: zstandard is not installed.
    """
    super().__init__()
    try:
      import zstandard
    except ImportError as error:
      raise errors.MissingPackageError(
        f'{path} is compressed with zstd, which the package zstandard reads: '
        f'`pip install zstandard`, or decompress it: `zstd -d {path}`.'
      ) from error
    self._zstd = zstandard
    self._file, self._path = file, path
    self._frame: Any = None
    self._data = memoryview(b'')

  def readable(self) -> bool:
    """Returns True."""
    return True

  def readinto(self, buffer) -> int:
    """Fills a part of a buffer; returns 0 at the end of the file.

    Raises:
      DataError: the file is not zstd, or cut off.
    """
    while not self._data:
      compressed = self._file.read(_READ_BYTES)
      if not compressed:
        if self._frame is not None:
          raise self._broken('its end is missing')
        return 0
      self._data = memoryview(self._decompress(compressed))
    num = min(len(buffer), len(self._data))
    buffer[:num] = self._data[:num]
    self._data = self._data[num:]
    return num

  def _decompress(self, compressed: bytes) -> bytes:
    found = []
    while compressed:
      if self._frame is None:
        self._frame = self._zstd.ZstdDecompressor().decompressobj()
      try:
        found.append(self._frame.decompress(compressed))
      except self._zstd.ZstdError as error:
        raise self._broken(str(error)) from error
      if not self._frame.eof:
        break
      compressed, self._frame = self._frame.unused_data, None
    return b''.join(found)

  def _broken(self, what: str) -> errors.DataError:
    return errors.DataError(
      f'{self._path}: broken zstd ({what}): fetch or compress the file again. '
      'If it is still being written, write it elsewhere, then rename it.'
    )
