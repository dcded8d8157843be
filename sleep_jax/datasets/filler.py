"""Filler text in which a document's facts are hidden.

Either sentences of books, in their order, or sentences that are made from short
word lists. Those of the lists say nothing about numbers, people or rooms.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import data_files, json_lines, row_files

_TEMPLATES = (
  'The {} {} is near the {}.',
  'A {} {} fell on the {}.',
  'The {} {} and the {} are old.',
  'There is a {} {} under the {}.',
  'Nobody saw the {} {} or the {}.',
)
_ADJECTIVES = (
  'blue broad clean cold dusty dry grey heavy loose narrow pale plain rough '
  'round rusty sharp shiny smooth soft wet'
).split()
_NOUNS = (
  'anchor barrel basket bench bottle brick bucket candle carpet chimney cloud '
  'fence field gate hammer hill ladder leaf lantern mill mirror path pebble '
  'pillar plank pond rope rock stone wagon'
).split()
_SENTENCE_END = re.compile(r'(?:(?<=[.!?])|(?<=[.!?]["\'”’)]))\s+')
_LONGEST = 60  # Words of a sentence; longer ones, such as tables, are left out.
_USAGE = (
  'Filler is read from .jsonl or .jsonl.gz rows {"text"}, such as books in the '
  'public domain (Project Gutenberg). Without a file, sentences are generated.'
)


class Filler:
  """Draws runs of sentences."""

  def __init__(self, path: str | Sequence[str] | None = None):
    """Reads the sentences of books, if a path is given.

    Args:
      path: file, folder, pattern or list of rows {"text"}.

    Raises:
      MissingFileError: the path matches nothing.
      DataError: a row has no text (names file and line), or there is no
        sentence.
    """
    self._sentences = [*_read(path)] if path else []
    if path and not self._sentences:
      raise errors.DataError(f'{path} holds no sentences. {_USAGE}')
    self._num_words = [len(x.split()) for x in self._sentences]

  def draw(self, rng: np.random.Generator, num_words: int) -> list[str]:
    """Returns sentences of at most `num_words` words in all.

    Sentences of books follow each other in the book, from a random one on; one
    that is too long for what is left ends the text.
    """
    found: list[str] = []
    place = rng.integers(len(self._sentences)) if self._sentences else 0
    while True:
      if self._sentences:
        index = (place + len(found)) % len(self._sentences)
        sentence, size = self._sentences[index], self._num_words[index]
      else:
        sentence = _make_sentence(rng)
        size = len(sentence.split())
      num_words -= size
      if num_words < 0:
        return found
      found.append(sentence)


def insert(
  rng: np.random.Generator, filler: Sequence[str], facts: Sequence[str]
) -> list[str]:
  """Returns the sentences of a filler with facts at random places, in order."""
  places = np.sort(rng.integers(len(filler) + 1, size=len(facts)))
  found = list(filler)
  for place, fact in zip(places[::-1], facts[::-1], strict=True):
    found.insert(place, fact)
  return found


def _make_sentence(rng: np.random.Generator) -> str:
  draw = lambda items: items[rng.integers(len(items))]
  return draw(_TEMPLATES).format(draw(_ADJECTIVES), draw(_NOUNS), draw(_NOUNS))


def _read(path: str | Sequence[str]) -> Iterator[str]:
  """Yields the sentences of all rows, white space collapsed."""
  for file in data_files.find(path, _USAGE):
    for where, row in row_files.read(file):
      text = json_lines.text_field(row, 'text', where)
      for sentence in _SENTENCE_END.split(' '.join(text.split())):
        if len(sentence.split()) <= _LONGEST:
          yield sentence
