"""Tokens of one turn of a conversation, as the model's chat template writes it.

The turns before the one that is learned are the prompt: the template writes
them with the header of an assistant turn, as it does when the model is asked.
The loss stands on what follows, up to the token that ends the turn; or, if the
template has `{% generation %}` blocks, on the block of the turn.

Each turn's prompt is written separately. Some templates change earlier turns
(Qwen 3 removes their thoughts), so the text of a whole conversation need not
begin with what the model read when it was asked.

A sequence starts with one BOS, as every sequence does: the template's own, or
one in front if it writes none.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Protocol

from sleep_jax import errors
from sleep_jax.data import tokenization
from sleep_jax.datasets import dataset


class Template(Protocol):
  """What is needed of a `chat_template.ChatTemplate`.

  Attributes:
    fingerprint: equal for equal templates only.
    ends: tokens that end the model's turn.
    marks_answers: whether the template has `{% generation %}` blocks.
  """

  fingerprint: str
  ends: frozenset[int]

  @property
  def marks_answers(self) -> bool: ...

  def render(
    self, messages: Sequence, *, add_generation_prompt: bool = False
  ) -> Any: ...

  def encode_chat(self, messages: Sequence) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Writer:
  """Writes conversations in a chat template.

  Attributes:
    template: of the model.
  """

  template: Template

  @property
  def fingerprint(self) -> str:
    """Equal for equal templates only."""
    return self.template.fingerprint

  def encode(self, row: dataset.Row, *, bos: int) -> tokenization.Sequence:
    """As the function `encode`."""
    return encode(row, self.template, bos=bos)


def encode(
  row: dataset.Row, template: Template, *, bos: int
) -> tokenization.Sequence:
  """Returns the tokens of a row with messages, and which of them are learned.

  Args:
    row: its last message is learned, with the token that ends it if the row
      ends there.
    template: of the model.
    bos: token that begins a sequence.

  Raises:
    DataError: the template refuses the conversation, or does not write the last
      turn after the others. Names the row.
  """
  messages = [{'role': role, 'content': text} for role, text in row.messages]
  try:
    chat = template.encode_chat(messages)
    start = _start_of_turn(messages, chat.text, template)
  except errors.SleepJaxError as error:
    raise errors.DataError(f'{row.where}: {error}') from error
  # A token that begins before the turn and ends in it is a part of it.
  inside = [n for n, (_, end) in enumerate(chat.offsets) if end > start]
  if start < 0 or not inside:
    raise errors.DataError(
      f'{row.where}: the chat template writes the turns before this one in '
      'another way when it follows, so it cannot be learned as an answer to '
      'them. Remove the row, or write it as "prompt" and "response".'
    )
  if template.marks_answers:
    learned = [n for n in inside if chat.assistant_mask[n]]
    is_found = bool(learned) and learned == list(
      range(learned[0], learned[-1] + 1)
    )
    what = 'does not mark this turn in one {% generation %} block'
  else:
    ends = [n for n in inside if chat.ids[n] in template.ends]
    learned = list(range(inside[0], ends[-1] + 1)) if ends else []
    is_found = bool(learned)
    what = 'writes no token that ends this turn'
  if not is_found:
    raise errors.DataError(
      f'{row.where}: the chat template {what}: correct the template, or write '
      'the row as "prompt" and "response".'
    )
  while not row.ends and chat.ids[learned[-1]] in template.ends:
    learned.pop()
  tokens = chat.ids[: learned[-1] + 1]
  more = int(tokens[0] != bos)
  return tokenization.Sequence(
    tokens=[bos] * more + tokens,
    prompt_length=more + inside[0],
    loss_start=more + learned[0],
    subject=_subject(row, chat, template, start, more),
  )


def _subject(
  row: dataset.Row, chat: Any, template: Template, stop: int, more: int
) -> tuple[int, int]:
  """Returns the tokens of a row's subject, where it stands last, or (0, 0).

  Args:
    row: may have a subject.
    chat: the row in the chat template.
    template: one whose own words name the subject would name it in all rows.
    stop: its first character that is not of the prompt.
    more: number of tokens in front of it.
  """
  name = row.text[slice(*row.subject)] if row.subject else ''
  start = chat.text.rfind(name, 0, stop) if name else -1
  alone = [{'role': 'user', 'content': '-'}]
  if start >= 0 and name in template.render(alone).text:
    return 0, 0
  inside = [
    number for number, (first, end) in enumerate(chat.offsets)
    if end > start and first < start + len(name)
  ]  # fmt: skip
  if start < 0 or not inside:
    return 0, 0
  return more + inside[0], more + inside[-1] + 1


def _start_of_turn(messages, text: str, template: Template) -> int:
  """Returns the character of `text` at which the last turn begins, or -1.

  Args:
    messages: all turns.
    text: as the template writes them.
    template: of the model.
  """
  asked = template.render(messages[:-1], add_generation_prompt=True).text
  if text.startswith(asked):
    return len(asked)
  # The header opens something, such as a thought, that this turn does not have:
  # the turn begins where another one would differ from it.
  last = messages[-1]['content']
  other = 'x' if not last.lstrip().startswith('x') else 'y'
  changed = template.render(
    [*messages[:-1], {'role': messages[-1]['role'], 'content': other}]
  ).text
  start = len(os.path.commonprefix([text, asked, changed]))
  before = template.render(messages[:-1]).text
  return start if start >= len(before) else -1
