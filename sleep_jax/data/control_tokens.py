"""Encodes text in which some control tokens are plain text.

A chat template writes control tokens, such as the one that ends a turn. Where a
message contains the name of one, it is text: a message cannot forge a turn of
another role. `mark` puts characters around such a name before the template is
rendered; `encode` encodes the marked names as text, and everything else as
usual. A conversation without them is encoded in one piece.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tokenizers

from sleep_jax import errors

_PRIVATE_USE = range(0xF0000, 0xF0100)


class Marks(NamedTuple):
  """The two characters around a marked name; both together are a mere cut."""

  open: str
  close: str


class Encoded(NamedTuple):
  """Tokens and the characters [start, end) of each."""

  ids: list[int]
  offsets: list[tuple[int, int]]


def choose_marks(texts: Iterable[str]) -> Marks:
  """Returns two characters that no text contains.

  Raises:
    DataError: there are none.
  """
  used = set().union(*map(set, texts))
  free = [chr(code) for code in _PRIVATE_USE if chr(code) not in used]
  if len(free) < 2:
    raise errors.DataError(
      'The conversation contains every character from U+F0000 to U+F00FF: '
      'remove these private characters.'
    )
  return Marks(free[0], free[1])


def strings(value: Any) -> list[str]:
  """Returns all strings in plain data, without the keys of dicts."""
  if isinstance(value, str):
    return [value]
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, list | tuple):
    return [text for item in value for text in strings(item)]
  return []


def mark(value: Any, names: Sequence[str], marks: Marks) -> Any:
  """Marks the names of control tokens in all strings of plain data.

  Where a string begins with the end of a name, or ends with the beginning of
  one, it is cut off from what the template writes next to it.
  """
  if isinstance(value, str):
    return _mark_text(value, names, marks)
  if isinstance(value, Mapping):
    return {key: mark(item, names, marks) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [mark(item, names, marks) for item in value]
  return value


def _mark_text(text, names, marks):
  if not names or not text:
    return text
  pattern = '|'.join(map(re.escape, sorted(names, key=len, reverse=True)))
  cut = marks.open + marks.close
  marked = re.sub(pattern, rf'{marks.open}\g<0>{marks.close}', text)
  starts = {n[:k] for n in names for k in range(1, len(n))}
  ends = {n[k:] for n in names for k in range(1, len(n))}
  longest = max(map(len, names))
  before = any(text[:k] in ends for k in range(1, longest))
  after = any(text[-k:] in starts for k in range(1, longest))
  return (cut if before else '') + marked + (cut if after else '')


def remove_marks(
  text: str, marks: Marks, spans: Sequence[tuple[int, int]]
) -> tuple[str, list[tuple[int, int]]]:
  """Returns a text without marks, and spans of it in the new text."""
  places = [i for i, character in enumerate(text) if character in marks]
  if not places:
    return text, list(spans)
  moved = [
    tuple(end - sum(place < end for place in places) for end in span)
    for span in spans
  ]
  plain = text.replace(marks.open, '').replace(marks.close, '')
  return plain, moved  # type: ignore[return-value]


def encode(tokenizer: tokenizers.Tokenizer, text: str, marks: Marks) -> Encoded:
  """Encodes a marked text; offsets are those of the text without marks.

  Raises:
    DataError: the tokenizer reads a marked name as a token in any case.
  """
  ids: list[int] = []
  offsets: list[tuple[int, int]] = []
  at = 0
  for piece, is_marked in _pieces(text, marks):
    found = _encode_piece(tokenizer, piece, is_marked, bool(at))
    forged = tokenizer.token_to_id(piece)
    if is_marked and forged is not None and forged in found.ids:
      raise errors.DataError(
        f'A message contains {piece!r}, which the tokenizer always reads as '
        'the control token: remove it from the message.'
      )
    ids += found.ids
    offsets += [(at + start, at + end) for start, end in found.offsets]
    at += len(piece)
  return Encoded(ids, offsets)


def _pieces(text: str, marks: Marks) -> list[tuple[str, bool]]:
  """Returns the non-empty pieces as (text, whether it is marked)."""
  pattern = f'{marks.open}([^{marks.open}{marks.close}]+){marks.close}'
  pieces = []
  for place, part in enumerate(re.split(pattern, text)):
    # A method of the template may have separated two marks; what is between
    # one mark and the next is encoded alone.
    inner = [part] if place % 2 else re.split('|'.join(marks), part)
    pieces += [(piece, place % 2 == 1) for piece in inner if piece]
  return pieces


def _encode_piece(tokenizer, piece, is_marked, inside) -> Encoded:
  """Encodes a piece; one inside the text gets no space before it."""
  special = set(_special_names(tokenizer)) if is_marked else set()
  if is_marked and piece not in special:
    # The tokenizer has no setting that reads these as text, but halves are.
    half = len(piece) // 2
    first = _encode_half(tokenizer, piece[:half], inside)
    second = encode_inside(tokenizer, piece[half:])
    shifted = [(a + half, b + half) for a, b in second.offsets]
    return Encoded(first.ids + second.ids, first.offsets + shifted)
  # This is a property of the tokenizer, so it is set for each piece.
  tokenizer.encode_special_tokens = is_marked
  try:
    return _encode_half(tokenizer, piece, inside)
  finally:
    tokenizer.encode_special_tokens = False


def _encode_half(tokenizer, piece, inside) -> Encoded:
  if inside:
    return encode_inside(tokenizer, piece)
  alone = tokenizer.encode(piece, add_special_tokens=False)
  return Encoded(alone.ids, alone.offsets)


def encode_inside(tokenizer: tokenizers.Tokenizer, piece: str) -> Encoded:
  """Encodes a piece as after a line break, where no tokenizer adds a space."""
  alone = tokenizer.encode(piece, add_special_tokens=False)
  line = tokenizer.encode('\n', add_special_tokens=False).ids
  found = tokenizer.encode('\n' + piece, add_special_tokens=False)
  if found.ids[: len(line)] != line:
    return Encoded(alone.ids, alone.offsets)
  offsets = [(a - 1, b - 1) for a, b in found.offsets[len(line) :]]
  return Encoded(found.ids[len(line) :], offsets)


def _special_names(tokenizer: tokenizers.Tokenizer) -> list[str]:
  added = tokenizer.get_added_tokens_decoder().values()
  return [token.content for token in added if token.special]


def names(
  tokenizer: tokenizers.Tokenizer, ids: Iterable[int], written: str
) -> list[str]:
  """Returns the names of the control tokens of a chat model.

  Args:
    tokenizer: the tokenizer.
    ids: of tokens that end a turn.
    written: what the template wrote around messages. Some models do not call
      the tokens of their turns special.
  """
  ends = set(ids)
  return sorted(
    token.content
    for number, token in tokenizer.get_added_tokens_decoder().items()
    if token.content.strip()
    and (
      token.special
      or number in ends
      or (token.content in written and token.content not in _REASONING)
    )
  )


# Written by a model around its reasoning, so they are part of its answers.
_REASONING = ('<think>', '</think>')
