"""Rows that lie in a temporary file, so that a dataset needs little memory.

Rows are appended once, when files are read and checked. Later passes read them
from the store, not from the files, so files that are compressed, in another
format or changed meanwhile make no difference. Small stores stay in memory; the
file of a large one has no name and is gone with its process.
"""

import array
import dataclasses
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset

_MAX_MEMORY = 32 * 2**20  # Bytes of a store until it moves to a file.
_BUFFER = 2**20
_FIELDS = [f.name for f in dataclasses.fields(dataset.Row) if f.name != 'where']
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(',', ':'))


class Store:
  """A file of rows that only grows."""

  def __init__(self, folder: str | None = None):
    """Makes an empty store.

    Args:
      folder: where its file lies; None for the system's temporary folder.
    """
    self._folder = folder
    self._file: Any = io.BytesIO()  # Or a temporary file.
    self._size = 0
    # The folder and name of the file that rows are of is stored once.
    self._sources: dict[str, int] = {}
    self._names: list[str] = []

  def append(self, row: dataset.Row) -> int:
    """Adds a row and returns its place.

    Raises:
      StorageError: there is no room for it.
    """
    source, colon, place = row.where.rpartition(':')
    number = self._sources.setdefault(source + colon, len(self._names))
    if number == len(self._names):
      self._names.append(source + colon)
    values = [number, place, *(getattr(row, field) for field in _FIELDS)]
    line = _ENCODER.encode(values).encode('utf-8', 'surrogatepass') + b'\n'
    before = self._size
    try:
      if isinstance(self._file, io.BytesIO) and before > _MAX_MEMORY:
        self._move_to_disk()
      self._file.seek(before)
      self._file.write(line)
    except OSError as error:
      raise errors.StorageError(
        f'The rows cannot be stored in {self._folder or tempfile.gettempdir()} '
        f'({error.strerror or error}): reading needs as much room as the rows '
        'have text. Free disk space.'
      ) from error
    self._size += len(line)
    return before

  def read(self, place: int) -> dataset.Row:
    """Returns the row of a place."""
    self._file.seek(place)
    line = self._file.readline()
    number, where, *values = json.loads(line.decode('utf-8', 'surrogatepass'))
    return dataset.Row(
      **dict(zip(_FIELDS, map(_tuples, values), strict=True)),
      where=self._names[number] + where,
    )

  def _move_to_disk(self) -> None:
    if self._folder is not None:
      os.makedirs(self._folder, exist_ok=True)
    file = tempfile.TemporaryFile(
      'w+b', buffering=_BUFFER, prefix='rows-', dir=self._folder
    )
    file.write(self._file.getbuffer())
    self._file = file


def _tuples(value: Any) -> Any:
  """Returns a value in which JSON made lists of tuples."""
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Rows(Sequence[dataset.Row]):
  """Rows of a store in some order."""

  def __init__(self, store: Store, places: np.ndarray):
    """Names the rows.

    Args:
      store: holds them.
      places: of the rows [N], as `Store.append` returned them.
    """
    self._store, self._places = store, places

  def __len__(self) -> int:
    """Returns the number of rows."""
    return len(self._places)

  def __iter__(self) -> Iterator[dataset.Row]:
    """Yields the rows in their order."""
    for place in self._places:
      yield self._store.read(int(place))

  @overload
  def __getitem__(self, index: int) -> dataset.Row: ...

  @overload
  def __getitem__(self, index: slice) -> 'Rows': ...

  def __getitem__(self, index):
    """Returns one row, or some of them."""
    if isinstance(index, slice):
      return Rows(self._store, self._places[index])
    return self._store.read(int(self._places[index]))

  def select(self, chosen: np.ndarray) -> 'Rows':
    """Returns the rows of a mask [N] of booleans, or of indices."""
    return Rows(self._store, self._places[chosen])


class Group:
  """Collects the rows of an experience."""

  def __init__(self, store: Store):
    """Makes an empty group; several may share a store."""
    self._store = store
    self._places = array.array('q')

  def append(self, row: dataset.Row) -> None:
    """Adds a row."""
    self._places.append(self._store.append(row))

  def rows(self) -> Rows:
    """Returns the rows so far."""
    return Rows(self._store, np.array(self._places, np.int64))


def concat(parts: Sequence[Rows]) -> Rows:
  """Returns the rows of one or more parts of one store."""
  store = parts[0]._store
  assert all(part._store is store for part in parts)
  return Rows(store, np.concatenate([part._places for part in parts]))
