"""Reads tables: parquet, arrow, and folders of Hugging Face `datasets`.

`Dataset.save_to_disk` writes a folder with `state.json`, which names arrow
files in their order, and `dataset_info.json`. `DatasetDict.save_to_disk` writes
such a folder per split, and `dataset_dict.json`. Rows are read in small batches
by the optional package pyarrow.
"""

import collections
import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import json_lines

SUFFIXES = ('.parquet', '.arrow')
_BATCH_ROWS = 256
_STATE, _INFO, _SPLITS = 'state.json', 'dataset_info.json', 'dataset_dict.json'
# Lists of row numbers that old versions of `datasets` write beside the data.
_INDICES = ('_indices_files', '_indices_data_files')


def is_folder(path: str) -> bool:
  """Returns whether a folder was written by `Dataset.save_to_disk`."""
  return all(os.path.isfile(os.path.join(path, f)) for f in (_STATE, _INFO))


def check_no_splits(path: str) -> None:
  """Refuses a folder of several splits, because only one can be meant.

  Raises:
    DataError: the folder was written by `DatasetDict.save_to_disk`.
  """
  if not os.path.isfile(os.path.join(path, _SPLITS)):
    return
  splits = [os.path.join(path, str(s)) for s in _read_list(path, _SPLITS)]
  raise errors.DataError(
    f'{path} is a dataset of several splits: name the folder of the one that '
    f'is to be learned: {", ".join(splits)}.'
  )


def read(path: str) -> Iterator[json_lines.Row]:
  """Yields the rows of a parquet or arrow file as ('file:row N', row).

  Raises:
    MissingPackageError: pyarrow is not installed.
    DataError: the file is not what its name says, or damaged.
  """
  with _arrow_errors(path):
    batches = _parquet if path.lower().endswith('.parquet') else _arrow
    yield from _number(path, batches(path))


def read_folder(path: str) -> Iterator[json_lines.Row]:
  """Yields the rows of a folder of `datasets` as ('folder:row N', row).

  Raises:
    MissingPackageError: pyarrow is not installed.
    DataError: the folder is damaged, or its rows are an index into others.
  """
  names = _read_list(path, _STATE)

  def batches() -> Iterator[Any]:
    for name in names:
      file = os.path.join(path, name)
      if not os.path.isfile(file):
        raise errors.DataError(
          f'{path}: the data file {name}, which {_STATE} names, is missing: '
          'copy the folder again, or save it with `save_to_disk`.'
        )
      yield from _arrow(file)

  with _arrow_errors(path):
    yield from _number(path, batches())


def _number(path: str, batches: Iterable[Any]) -> Iterator[json_lines.Row]:
  """Yields the rows of record batches, numbered from 1."""
  number = 0
  for batch in batches:
    if number == 0:
      _check_columns(path, batch.schema.names)
    for row in batch.to_pylist():
      number += 1
      yield f'{path}:row {number}', row


def _check_columns(path: str, names: Iterable[str]) -> None:
  twice = [name for name, n in collections.Counter(names).items() if n > 1]
  if twice:
    raise errors.DataError(
      f'{path}: the column {twice[0]!r} stands twice, and one of them would be '
      'dropped: remove one.'
    )


def _parquet(path: str) -> Iterator[Any]:
  _import_pyarrow(path)
  from pyarrow import parquet

  with parquet.ParquetFile(path) as file:
    yield from file.iter_batches(batch_size=_BATCH_ROWS)


def _arrow(path: str) -> Iterator[Any]:
  """Yields the record batches of an arrow file: a stream, or a random-access
  file, which begins with 'ARROW1'."""
  pyarrow = _import_pyarrow(path)
  with pyarrow.OSFile(path) as file:
    is_stream = file.read(6) != b'ARROW1'
    file.seek(0)
    if is_stream:
      with pyarrow.ipc.open_stream(file) as stream:
        batches = iter(stream)
        for batch in batches:
          yield from _split(batch)
    else:
      with pyarrow.ipc.open_file(file) as table:
        for index in range(table.num_record_batches):
          yield from _split(table.get_batch(index))


def _split(batch: Any) -> Iterator[Any]:
  for start in range(0, batch.num_rows, _BATCH_ROWS):
    yield batch.slice(start, _BATCH_ROWS)


def _read_list(folder: str, name: str) -> list[str]:
  """Returns the file names of state.json, or the splits of a DatasetDict."""
  path = os.path.join(folder, name)
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
    if name == _SPLITS:
      names = list(content['splits'])
    else:
      if any(content.get(field) for field in _INDICES):
        raise errors.DataError(
          f'{folder} is an index into the rows of another dataset: save it '
          'with `dataset.flatten_indices().save_to_disk(...)`.'
        )
      names = [entry['filename'] for entry in content['_data_files']]
    wrong = [n for n in names if os.path.basename(n) != n or n in ('', '..')]
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    if isinstance(error, errors.DataError):
      raise
    raise errors.DataError(
      f'{path} is damaged ({type(error).__name__}: {error}): expected what '
      '`save_to_disk` of Hugging Face datasets writes. Save the dataset again.'
    ) from error
  if wrong:
    raise errors.DataError(
      f'{path} names {wrong[0]!r}, which is outside of the folder: save the '
      'dataset again.'
    )
  return names


def _import_pyarrow(path: str):
  try:
    import pyarrow
    from pyarrow import ipc  # noqa: F401  An attribute once it is imported.
  except ImportError as error:
    raise errors.MissingPackageError(
      f'{path} is read by the package pyarrow, which is not installed: `pip '
      'install pyarrow`, or save the rows as JSON lines.'
    ) from error
  return pyarrow


@contextlib.contextmanager
def _arrow_errors(path: str):
  """Names the file in errors of pyarrow, which are of several classes."""
  try:
    yield
  except (ValueError, TypeError, NotImplementedError, OSError) as error:
    if isinstance(error, errors.SleepJaxError) or getattr(error, 'errno', 0):
      raise
    raise errors.DataError(
      f'{path} cannot be read as a table ({error}): it is damaged, cut off or '
      'of another format. Fetch or save it again.'
    ) from error
