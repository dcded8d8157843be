"""Finds what the files of a work directory hold of a text.

Files are searched as text, with JSON and HTML unescaped. Arrays of tokens, in
caches and in checkpoints, are decoded first. Weights cannot be searched.

A text is also found in part, because a stored prompt is only the beginning of a
row: three consecutive words of it are enough, or all of a shorter text.
"""

import dataclasses
import gzip
import html
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.storage import checkpoint_reading, workdir

_MIN_WORDS = 3
# Scripts without spaces between words: each character counts as a word.
_UNSPACED = '\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af'
_WORD = re.compile(rf'[{_UNSPACED}]|[^\W{_UNSPACED}]+')
_CHUNK_ROWS = 1024
_MARKUP = re.compile(r'<[^>]*>')
_CODES = re.compile(r'(?:\\u[0-9a-fA-F]{4})+')  # Characters, in JSON.


@dataclasses.dataclass(frozen=True)
class Found:
  """A place that holds a text or a part of it.

  Attributes:
    path: file or folder, relative to the searched one.
    what: what it is there, such as 'a line' or the name of an array.
    num: number of lines or rows that hold it.
    words: largest number of consecutive words that one of them holds.
    excerpt: those words.
  """

  path: str
  what: str
  num: int
  words: int
  excerpt: str


def has_words(text: str) -> bool:
  """Returns whether a text can be searched for."""
  return bool(_words(text))


class Needle:
  """A text to search for.

  Attributes:
    words: its words, in lower case.

  Raises:
    UsageError: the text has no words.
  """

  def __init__(self, text: str):
    self.words = _words(text)
    if not self.words:
      raise errors.UsageError(
        f'The text is {text!r}: expected one word or more to search for.'
      )
    size = min(_MIN_WORDS, len(self.words))
    self._parts = [
      _join(self.words[n : n + size]) for n in range(len(self.words) - size + 1)
    ]
    self._size = size

  def longest(self, text: str) -> list[str]:
    """Returns the longest run of consecutive words that a text holds."""
    where = _join(_words(text))
    best: list[str] = []
    for start, part in enumerate(self._parts):
      if part not in where:
        continue
      stop = start + self._size
      while stop < len(self.words) and _join(self.words[start : stop + 1]) in (
        where
      ):
        stop += 1
      if stop - start > len(best):
        best = self.words[start:stop]
    return best


def find(folder: str | os.PathLike[str], *texts: str) -> list[Found]:
  """Returns all places of a work directory that hold a text, by path.

  Args:
    folder: work directory of a study, or folder of a chat or `Learner`.
    *texts: what to search for, each on its own; case and punctuation do not
      matter.

  Raises:
    MissingFileError: the folder does not exist.
    UsageError: the text has no words.
    WorkdirError: a checkpoint cannot be read.
  """
  root, needles = pathlib.Path(workdir.path(folder)), [*map(Needle, texts)]
  if not root.is_dir():
    raise errors.MissingFileError(
      f'{root} is not a folder: name a work directory.'
    )
  tokenizers = [
    tokenizer_lib.load(str(path)) for path in sorted(root.rglob('tokenizer'))
    if path.is_dir()
  ]  # fmt: skip
  found = [*_find_in_files(root, needles)]
  for name, what, rows in _token_arrays(root):
    decoded = (
      _decode(row, tokenizer) for row in rows for tokenizer in tokenizers
    )
    found += _count(name, what, decoded, needles)
  return sorted(found, key=lambda one: (one.path, one.what))


def _find_in_files(
  root: pathlib.Path, needles: list[Needle]
) -> Iterator[Found]:
  for path in sorted(root.rglob('*')):
    if path.is_file():
      name = str(path.relative_to(root))
      yield from _count(name, 'lines', lines(path), needles)


def _count(
  name: str, what: str, texts: Iterable[str], needles: list[Needle]
) -> list[Found]:
  """Returns one entry for all texts of a place, or none."""
  num = 0
  best: list[str] = []
  for text in texts:
    run = max((needle.longest(text) for needle in needles), key=len)
    num += bool(run)
    best = max(best, run, key=len)
  return [Found(name, what, num, len(best), ' '.join(best))] if num else []


def lines(path: pathlib.Path) -> Iterator[str]:
  """Yields the lines of a file as a reader sees them."""
  open_file = gzip.open if path.suffix == '.gz' else open
  with open_file(path, 'rt', encoding='utf-8', errors='replace') as file:
    try:
      for line in file:
        yield from _unescaped(line, path.suffix)
    except (OSError, EOFError):  # Not gzip, in spite of its name.
      return


def _unescaped(line: str, suffix: str) -> Iterator[str]:
  """Yields a line, and what its JSON or HTML stands for."""
  if suffix == '.html':
    yield html.unescape(_MARKUP.sub(' ', line))
  elif '\\' in line:
    try:
      yield plain(json.loads(line))
    except ValueError:  # A part of a value that has several lines.
      line = _CODES.sub(lambda match: json.loads(f'"{match.group()}"'), line)
      yield re.sub(r'\\[nrt]', ' ', line)
  else:
    yield line


def plain(value: Any) -> str:
  """Returns the texts of a JSON value, names of fields included."""
  if isinstance(value, str):
    return value
  if isinstance(value, Mapping):
    return '\n'.join(plain(part) for pair in value.items() for part in pair)
  if isinstance(value, (list, tuple)):
    return '\n'.join(map(plain, value))
  return str(value)


# Files that describe an array: of older token caches, and of present ones.
_DRIVERS = {'.zarray': 'zarr', 'zarr.json': 'zarr3'}


def _token_arrays(
  root: pathlib.Path,
) -> Iterator[tuple[str, str, Iterable[np.ndarray]]]:
  """Yields (path, name, rows) of every array of integers with rows."""
  for marker, driver in _DRIVERS.items():
    for file in sorted(root.rglob(marker)):
      name = str(file.parent.relative_to(root))
      yield name, 'rows of tokens', _cached_rows(file.parent, driver)
  for folder in sorted(root.rglob('checkpoints')):
    for _, _, path in sorted(
      checkpoint_reading.find_complete(epath.Path(folder)), key=lambda c: c[2]
    ):
      where = str(pathlib.Path(path).relative_to(root))
      for name, array in checkpoint_reading.integers(path).items():
        yield where, name, array.reshape(-1, array.shape[-1])


def _cached_rows(folder: pathlib.Path, driver: str) -> Iterator[np.ndarray]:
  """Yields the rows of an array on disk, read in chunks."""
  spec = {
    'driver': driver, 'kvstore': {'driver': 'file', 'path': str(folder)},
  }  # fmt: skip
  store = tensorstore.open(spec).result()
  for start in range(0, store.shape[0], _CHUNK_ROWS):
    stop = min(start + _CHUNK_ROWS, store.shape[0])
    yield from store[start:stop].read().result()


def _decode(row: np.ndarray, tokenizer: types.Tokenizer) -> str:
  """Decodes a row; numbers that are no tokens are left out."""
  known = row[(row >= 0) & (row < tokenizer.vocab_size)]
  return tokenizer.decode(known.tolist())


def _words(text: str) -> list[str]:
  return _WORD.findall(text.casefold())


def _join(words: list[str]) -> str:
  return f' {" ".join(words)} '
