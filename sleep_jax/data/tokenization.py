"""Tokenizes rows of text into sequences with a prompt that may be stored.

A sequence is BOS, the text's tokens, EOS. Its prompt is the beginning that may
be stored for rehearsal; it never contains a token of an answer.
"""

import dataclasses
from typing import Any

from sleep_jax import types
from sleep_jax.data import long_rows
from sleep_jax.datasets import dataset

_SUBJECT_TOKENS = 4  # Subject of a window that has none: its first tokens.


@dataclasses.dataclass(frozen=True)
class Sequence:
  """A tokenized row or a window of one.

  Attributes:
    tokens: BOS ... EOS.
    loss_start: index of the first target.
    prompt_length: number of tokens that may be stored, BOS included.
    subject: indices [start, stop) within the prompt; (0, 0) if there is none.
  """

  tokens: list[int]
  loss_start: int
  prompt_length: int
  subject: tuple[int, int]


def tokenize(
  row: dataset.Row, tokenizer: types.Tokenizer, **settings: Any
) -> list[Sequence]:
  """As `encode`, but refuses a row that is too long.

  Raises:
    TooLongError: the text exceeds `context`, or its prompt `max_prompt`.
  """
  found = encode(row, tokenizer, **settings)
  if isinstance(found, long_rows.TooLong):
    raise long_rows.error(long_rows.summarize([found]))
  return found


def encode(
  row: dataset.Row,
  tokenizer: types.Tokenizer,
  *,
  context: int,
  max_prompt: int,
  loss_on: str,
  prefix: int,
  overlap: int = -1,
  load_writer: types.LoadWriter = lambda: None,
) -> list[Sequence] | long_rows.TooLong:
  """Returns a row as one sequence, or as several windows if it is longer.

  Only plain text is split into windows, and only if `overlap` is not negative.
  The loss of a conversation is on the turn that is learned, whatever `loss_on`
  is. `token_cache.make_source` describes the settings.

  Raises:
    DataError: the chat template refuses the row.
  """
  writer = load_writer() if row.messages else None
  if writer is not None:
    made = writer.encode(row, bos=tokenizer.bos)
    too_long = _too_long(
      row, made.tokens, made.prompt_length, context, max_prompt
    )
    return too_long or [made]
  text = row.text[: row.response_start]
  spans: list[tuple[int, int]] = []  # They take as long as the tokens.
  if row.subject or row.answer_start is not None or row.target_start:
    ids, spans = tokenizer.encode_offsets(text)
  else:
    ids = tokenizer.encode(text)
  if row.response_start is None:
    response = []
    prompt_length = 1 + min(prefix, len(ids))
    if row.answer_start == 0:
      prompt_length = 0  # Nothing to be stored, not even BOS.
    elif row.answer_start is not None:
      num_before = sum(end <= row.answer_start for _, end in spans)
      prompt_length = min(prompt_length, 1 + num_before)
  else:
    response = tokenizer.encode_continuation(row.text[row.response_start :])
    prompt_length = 1 + len(ids)
  tokens = [tokenizer.bos, *ids, *response, *[tokenizer.eos] * row.ends]
  subject = _token_span(row.subject, spans, prompt_length)
  loss_on_all = (
    loss_on == 'all' and not row.messages
  ) or row.response_start is None
  target_start = 1
  if row.target_start:
    target_start += sum(start < row.target_start for start, _ in spans)
  if len(tokens) > context and overlap >= 0 and row.response_start is None:
    size = context - 2
    starts = range(0, len(ids) - overlap, size - overlap)
    return [
      _window(
        ids[start : start + size],
        tokenizer,
        loss_start=max(1, target_start - start),
        prompt_length=(
          prompt_length
          if start == 0
          else _later_prompt_length(row, ids[start : start + size], prefix)
        ),
        subject=subject if start == 0 else None,
      )
      for start in starts
    ]
  return _too_long(row, tokens, prompt_length, context, max_prompt) or [
    Sequence(
      tokens=tokens,
      loss_start=target_start if loss_on_all else prompt_length,
      prompt_length=prompt_length,
      subject=subject,
    )
  ]


def _too_long(row, tokens, prompt_length, context, max_prompt):
  """Returns why a row is too long, or None."""
  return long_rows.find(
    row.where,
    prompt_length=None if row.response_start is None else prompt_length,
    length=len(tokens),
    max_prompt=max_prompt,
    context=context,
  )


def _later_prompt_length(row, ids, prefix) -> int:
  """Returns the prompt length of a window after the first.

  If the row marks its first answer, later ones can be anywhere in the window,
  so only BOS is stored, or nothing if no prompt of the row is.
  """
  if row.answer_start is not None:
    return min(1, row.answer_start)
  return 1 + min(prefix, len(ids))


def _window(ids, tokenizer, *, loss_start, prompt_length, subject) -> Sequence:
  """Returns a window of a text; its subject is by default its first tokens."""
  return Sequence(
    tokens=[tokenizer.bos, *ids, tokenizer.eos],
    loss_start=min(loss_start, len(ids) + 1),
    prompt_length=prompt_length,
    subject=subject or (1, min(1 + _SUBJECT_TOKENS, prompt_length)),
  )


def _token_span(
  span: tuple[int, int] | None,
  spans: list[tuple[int, int]],
  prompt_length: int,
) -> tuple[int, int]:
  """Returns the token indices under a character span, BOS counted.

  Returns (0, 0) if there is no span or it is not entirely in the prompt.
  """
  if span is None:
    return 0, 0
  inside = [
    index
    for index, (start, end) in enumerate(spans, 1)
    if end > span[0] and start < span[1]
  ]
  if not inside or inside[-1] >= prompt_length:
    return 0, 0
  return inside[0], inside[-1] + 1
