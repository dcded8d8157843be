"""Tokens of one turn of a conversation, as the model's chat template writes it.

The turns before the one that is learned are the prompt: the template writes
them with the header of an assistant turn, as it does when the model is asked.
The loss stands on what follows: the content, and the token that ends the turn.

Each turn's prompt is written separately. Some templates change earlier turns
(Qwen 3 removes their thoughts), so the text of a whole conversation need not
begin with what the model read when it was asked.

A sequence starts with one BOS, as every sequence does: the template's own, or
one in front if it writes none.
"""

from collections.abc import Sequence
from typing import Protocol

from sleep_jax import errors
from sleep_jax.datasets import dataset


class Template(Protocol):
  """What is needed of a `chat_template.ChatTemplate`.

  Attributes:
    fingerprint: equal for equal templates only.
    ends: tokens that end the model's turn.
  """

  fingerprint: str
  ends: frozenset[int]

  def encode(
    self, messages: Sequence, *, add_generation_prompt: bool = True
  ) -> list[int]: ...


def encode(
  row: dataset.Row, template: Template, *, bos: int
) -> tuple[list[int], int]:
  """Returns the tokens of a row with messages, and the length of its prompt.

  Args:
    row: its last message is learned.
    template: of the model.
    bos: token that begins a sequence.

  Raises:
    DataError: the template refuses the conversation, or does not write the last
      turn after the others. Names the row.
  """
  messages = [{'role': role, 'content': text} for role, text in row.messages]
  try:
    before = template.encode(messages[:-1], add_generation_prompt=False)
    prompt = template.encode(messages[:-1])
    tokens = template.encode(messages, add_generation_prompt=False)
  except errors.SleepJaxError as error:
    raise errors.DataError(f'{row.where}: {error}') from error
  # A template may open a thought in the header that this turn does not have.
  start = _common_prefix(prompt, tokens)
  ends = [n for n in range(start, len(tokens)) if tokens[n] in template.ends]
  if start < len(before) or not ends:
    raise errors.DataError(
      f'{row.where}: the chat template writes the turns before this one in '
      'another way once it is there, or does not end it: it cannot be learned '
      'as an answer to them. Remove the row, or write it as "prompt" and '
      '"response".'
    )
  tokens = tokens[: ends[-1] + 1]
  if tokens[0] == bos:
    return tokens, start
  return [bos, *tokens], 1 + start


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
  """Returns the number of tokens with which both sequences begin."""
  size = min(len(a), len(b))
  return next((n for n in range(size) if a[n] != b[n]), size)
