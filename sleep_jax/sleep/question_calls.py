"""Packs texts that a model is to write into calls of one size.

The sizes do not depend on the day, so that one program serves all evenings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import struct

from sleep_jax import types
from sleep_jax.runtime import processes

Array = types.Array
QUESTION, ANSWER = 10, 12  # Most tokens that are written of each.
_ROWS, _PROMPTS, _GIVEN, _BANNED = 64, 8, 48, 4
_STEP = 64  # Prompts are padded to a multiple of this.
# (prompts, rows, ends_V, number of the call, temperature, max_new=) -> texts
Write = Callable[..., types.Texts]


class Rows(struct.PyTreeNode):
  """Rows that continue prompts.

  Attributes:
    prompt_B: int32, number of the prompt that a row continues.
    given_BO: int32, its first tokens.
    given_length_B: int32, how many of them there are. -1 marks an absent row.
    banned_BK: int32, tokens that it must not write; -1 for none.
  """

  prompt_B: Array
  given_BO: Array
  given_length_B: Array
  banned_BK: Array


class Row(NamedTuple):
  """A text to be written.

  Attributes:
    prompt: number of the prompt that it continues.
    given: its first tokens.
    banned: tokens that it must not have.
  """

  prompt: int
  given: Sequence[int]
  banned: Sequence[int] = ()


class Calls:
  """Calls a model as often as some texts need.

  Attributes:
    num_tokens: number of tokens that were written.
  """

  def __init__(self, write: Write):
    """Starts to count calls.

    Args:
      write: samples texts of a model, see `Programs.write_texts`.
    """
    self._write, self._num_calls = write, 0
    self.num_tokens = 0

  def write(
    self,
    prompts: Mapping[int, Sequence[int]],
    rows: Sequence[Row],
    ends_V: np.ndarray,
    *,
    max_new: int,
    temperature: float = 0.0,
  ) -> list[list[int]]:
    """Returns the tokens of each text, without the given ones.

    Args:
      prompts: the tokens of each prompt.
      rows: in the order of their prompts. Of one with too many given tokens
        nothing is written.
      ends_V: bool, the tokens that end a text.
      max_new: most tokens of a text.
      temperature: of sampling.
    """
    found: list[list[int]] = []
    for part in _divide(rows):
      numbers = list(dict.fromkeys(row.prompt for row in part))
      texts = processes.fetch(
        self._write(
          _as_texts([prompts[n] for n in numbers]),
          _as_rows(part, numbers),
          ends_V,
          np.int32(self._num_calls),
          np.float32(temperature),
          max_new=max_new,
        )
      )
      self._num_calls += 1
      self.num_tokens += int(texts.length_B.sum())
      found += [
        texts.tokens_BT[n, : texts.length_B[n]].tolist()
        for n in range(len(part))
      ]
    return found


def padded(rows: Sequence[Sequence[int]], width: int) -> np.ndarray:
  """Returns rows of tokens as one array, int32 `[B, width]`."""
  found = np.zeros((len(rows), width), np.int32)
  for number, row in enumerate(rows):
    found[number, : len(row)] = row
  return found


def _divide(rows: Sequence[Row]) -> Iterator[list[Row]]:
  part: list[Row] = []
  for row in rows:
    prompts = {other.prompt for other in part} | {row.prompt}
    if len(part) == _ROWS or len(prompts) > _PROMPTS:
      yield part
      part = []
    part.append(row)
  if part:
    yield part


def _as_texts(prompts):
  rows = prompts + prompts[:1] * (_PROMPTS - len(prompts))
  longest = max(map(len, rows))
  return types.Texts(
    padded(rows, longest + -longest % _STEP),
    np.array([len(row) for row in rows], np.int32),
  )


def _as_rows(part, numbers):
  absent = _ROWS - len(part)
  fits = [len(row.given) <= _GIVEN for row in part]  # The others are absent.
  given = [list(row.given)[:_GIVEN] for row in part]
  banned = np.full((_ROWS, _BANNED), -1, np.int32)
  for number, row in enumerate(part):
    tokens = list(row.banned)[:_BANNED]
    banned[number, : len(tokens)] = tokens
  return Rows(
    np.array([numbers.index(row.prompt) for row in part] + [0] * absent,
             np.int32),
    padded(given + [[]] * absent, _GIVEN),
    np.array(
      [len(row) if fit else -1 for row, fit in zip(given, fits, strict=True)]
      + [-1] * absent, np.int32,
    ),
    banned,
  )  # fmt: skip
