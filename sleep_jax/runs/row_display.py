"""Shows rows as a model reads them, with what is learned marked."""

import itertools
from typing import Any, NamedTuple

from sleep_jax.datasets import dataset

_MAX_SHOWN = 800  # Characters of a part.


class Marks(NamedTuple):
  """What stands around the text that is learned."""

  begin: str
  end: str


BRACKETS = Marks('[[', ']]')
COLOR = Marks('\x1b[1;32m', '\x1b[0m')  # Bold green, for a terminal.


def show_text(row: dataset.Row, loss_on: str, marks: Marks) -> str:
  """Returns a row for which no model is known.

  Args:
    row: to show; a conversation is in the plain format.
    loss_on: see `token_cache.make_source`.
    marks: around what is learned.
  """
  start = row.response_start or 0
  if loss_on == 'all' and not row.messages:
    start = 0
  parts = [(row.text[:start], False), (row.text[start:], True)]
  return _join(parts, marks)


def show_tokens(sequence: Any, tokenizer: Any, marks: Marks) -> str:
  """Returns a `tokenization.Sequence`, with special tokens by their names."""
  parts = []
  places = range(len(sequence.tokens))
  for is_learned, group in itertools.groupby(
    places, key=lambda place: place >= sequence.loss_start
  ):
    tokens = [sequence.tokens[place] for place in group]
    parts.append((_decode(tokens, tokenizer), is_learned))
  return _join(parts, marks)


def _decode(tokens: list[int], tokenizer: Any) -> str:
  """Returns the text of tokens, special ones included."""
  text = ''
  for name, group in itertools.groupby(tokens, key=tokenizer.special_token):
    same = list(group)
    text += tokenizer.decode(same) if name is None else name * len(same)
  return text


def _join(parts: list[tuple[str, bool]], marks: Marks) -> str:
  text = ''
  for part, is_learned in parts:
    shown = _printable(_shorten(part))
    if shown:
      text += f'{marks.begin}{shown}{marks.end}' if is_learned else shown
  return text


def _shorten(text: str) -> str:
  if len(text) <= _MAX_SHOWN:
    return text
  half = _MAX_SHOWN // 2
  left_out = len(text) - 2 * half
  return f'{text[:half]}\n... {left_out:,} characters ...\n{text[-half:]}'


def _printable(text: str) -> str:
  """Returns a text that cannot control a terminal."""
  return ''.join(
    c if c == '\n' or c.isprintable() else c.encode('unicode_escape').decode()
    for c in text
  )
