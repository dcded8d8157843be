"""Rows of text as fixed-width token arrays: padded, or packed by first fit.

Every sequence is BOS, tokens, EOS. Beside it lies its prompt, the beginning
that may be rehearsed later: never a token of an answer.

References:
  First-fit packing: `grain.experimental.FirstFitPackIterDataset`.
"""

import dataclasses

from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset

_SUBJECT = 4  # Tokens that stand for a window whose text names no subject.


@dataclasses.dataclass(frozen=True)
class Sequence:
  """A tokenised row.

  Attributes:
    tokens: BOS ... EOS.
    loss_start: place of the first target.
    prompt_length: tokens that may be stored, BOS included.
    subject: places [start, stop) within the prompt; (0, 0): none.
  """

  tokens: list[int]
  loss_start: int
  prompt_length: int
  subject: tuple[int, int]


def tokenise(
  row: dataset.Row,
  tokenizer: tokenizer_lib.Tokenizer,
  *,
  context: int,
  max_prompt: int,
  loss_on: str,
  prefix: int,
  overlap: int = -1,
) -> list[Sequence]:
  """One row in tokens; `sources.make` explains the settings.

  Plain text that is too long becomes several windows, if `overlap` allows.

  Raises:
    ValueError: the text does not fit the context, or the prompt its width.
  """
  ids, spans = tokenizer.encode_offsets(row.text[: row.response_start])
  if row.response_start is None:
    response = []
    prompt_length = 1 + min(prefix, len(ids))
    if row.answer_start is not None:
      known = sum(end <= row.answer_start for _, end in spans)
      prompt_length = min(prompt_length, 1 + known)
  else:
    response = tokenizer.encode(row.text[row.response_start :])
    prompt_length = 1 + len(ids)
    if prompt_length > max_prompt:
      raise ValueError(
        f'{row.where}: the prompt has {prompt_length} tokens with BOS, but '
        f'max_prompt is {max_prompt}: shorten the prompt or raise max_prompt.'
      )
  tokens = [tokenizer.bos, *ids, *response, tokenizer.eos]
  subject = _subject(row.subject, spans, prompt_length)
  whole = loss_on == 'all' or row.response_start is None
  told = 1 + sum(start < row.target_start for start, _ in spans)
  if len(tokens) > context and overlap >= 0 and row.response_start is None:
    size = context - 2
    starts = range(0, len(ids) - overlap, size - overlap)
    return [
      _window(
        ids[s : s + size], tokenizer, loss_start=max(1, told - s),
        prompt_length=prompt_length if s == 0
        else _known_of(row, ids[s : s + size], prefix),
        subject=subject if s == 0 else None,
      )
      for s in starts
    ]  # fmt: skip
  if len(tokens) > context:
    raise ValueError(
      f'{row.where}: the text has {len(tokens)} tokens with BOS and EOS, but '
      f'the context is {context}: split the text, raise the context, or let '
      'plain text be read in windows (data.overlap).'
    )
  return [
    Sequence(
      tokens=tokens,
      loss_start=told if whole else prompt_length,
      prompt_length=prompt_length,
      subject=subject,
    )
  ]


def _known_of(row, ids, prefix) -> int:
  """Tokens of a later window that may be stored; answers may be anywhere."""
  return 1 if row.answer_start is not None else 1 + min(prefix, len(ids))


def _window(ids, tokenizer, *, loss_start, prompt_length, subject) -> Sequence:
  """A part of a long text; a later one is about what it begins with."""
  return Sequence(
    tokens=[tokenizer.bos, *ids, tokenizer.eos],
    loss_start=min(loss_start, len(ids) + 1),
    prompt_length=prompt_length,
    subject=subject or (1, min(1 + _SUBJECT, prompt_length)),
  )


def _subject(
  span: tuple[int, int] | None,
  spans: tokenizer_lib.Offsets,
  prompt_length: int,
) -> tuple[int, int]:
  """Places of the tokens under a span, BOS counted; (0, 0) if cut or none."""
  if span is None:
    return 0, 0
  inside = [
    place
    for place, (start, end) in enumerate(spans, 1)
    if end > span[0] and start < span[1]
  ]
  if not inside or inside[-1] >= prompt_length:
    return 0, 0
  return inside[0], inside[-1] + 1
