"""Reads the binary files of CIFAR-10: one label byte and one image per record.

A record is a label (0 to 9) and 3,072 bytes: 32 rows of 32 pixels, first all
red values, then all green, then all blue ones. `data_batch_*.bin` are for
training, `test_batch.bin` is for scoring.

Reference: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny
Images", and the description beside the data ("binary version").
"""

import dataclasses
import pathlib

import numpy as np

from sleep_jax import errors

SIDE, NUM_CLASSES = 32, 10
_PIXELS = 3 * SIDE * SIDE
_RECORD = 1 + _PIXELS  # Bytes.
_USAGE = (
  'The images dataset reads a folder with data_batch_*.bin and test_batch.bin, '
  'the binary version of CIFAR-10 (Krizhevsky 2009). Pass '
  '--config.data.path=FOLDER, or leave it empty for generated images.'
)


@dataclasses.dataclass(frozen=True)
class Images:
  """Images with their labels.

  Attributes:
    grey_NHW: f32 in [0, 255], mean of the three colours.
    label_N: class, 0 to 9.
    where_N: 'file, record N' of each, counted from 1.
  """

  grey_NHW: np.ndarray
  label_N: np.ndarray
  where_N: list[str]


def read(folder: str) -> tuple[Images, Images]:
  """Returns the images of a folder, for training and for scoring.

  Raises:
    MissingFileError: the folder lacks the files.
    DataError: a file has another size than a number of records, or a record has
      another label; names the file, what was found and what was expected.
  """
  home = pathlib.Path(folder)
  batches = sorted(home.glob('data_batch_*.bin'))
  tests = sorted(home.glob('test_batch.bin'))
  for name, found in (
    ('data_batch_*.bin', batches), ('test_batch.bin', tests)
  ):  # fmt: skip
    if not found:
      raise errors.MissingFileError(f'images: {folder} has no {name}. {_USAGE}')
  return _read(batches), _read(tests)


def _read(files: list[pathlib.Path]) -> Images:
  parts = [(file, _records(file)) for file in files]
  records_NB = np.concatenate([records for _, records in parts])
  colours = records_NB[:, 1:].reshape(-1, 3, SIDE, SIDE)
  return Images(
    colours.mean(1, dtype=np.float32),
    records_NB[:, 0].astype(np.int32),
    [
      f'{file}, record {number}'
      for file, records in parts
      for number in range(1, len(records) + 1)
    ],
  )


def _records(file: pathlib.Path) -> np.ndarray:
  """Returns the records of a file, u8 [N, bytes]."""
  size = file.stat().st_size
  if not size or size % _RECORD:
    raise errors.DataError(
      f'{file}: the file has {size:,} bytes: expected a multiple of '
      f'{_RECORD:,}, which are 1 label byte and {_PIXELS:,} bytes of an image '
      'per record (the files of CIFAR-10 have 10,000 records, 30,730,000 '
      'bytes). Fetch the file again, or take the binary version.'
    )
  records_NB = np.fromfile(file, np.uint8).reshape(-1, _RECORD)
  wrong = np.flatnonzero(records_NB[:, 0] >= NUM_CLASSES)
  if wrong.size:
    first = int(wrong[0])
    raise errors.DataError(
      f'{file}, record {first + 1}: the label is {records_NB[first, 0]}: '
      f'expected 0 to {NUM_CLASSES - 1}, as in the binary version of CIFAR-10.'
    )
  return records_NB
