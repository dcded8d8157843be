"""Rows of text as fixed-width token arrays: padded, or packed by first fit.

Every sequence is BOS, tokens, EOS. Beside it lies its prompt, the beginning
that may be rehearsed later: never a token of an answer.

References:
  First-fit packing: `grain.experimental.FirstFitPackIterDataset`.
"""

import dataclasses

import grain
import numpy as np
from grain import experimental

from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.data import worlds

_SUBJECT = 4  # Tokens that stand for a window whose text names no subject.


@dataclasses.dataclass(frozen=True)
class Layout:
  """The columns of a stored row: T context, m prompts of width P.

  They lie side by side in one wide array: one read is one batch.
  """

  context: int
  max_prompt: int
  prompts_per_row: int

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Columns in their order, named as in `types.Batch` and `Prompts`."""
    count = self.prompts_per_row
    return {
      'tokens': (self.context,),
      'segments': (self.context,),
      'positions': (self.context,),
      'loss': (self.context,),
      'prompts': (count, self.max_prompt),
      'prompt_length': (count,),
      'subject': (count, 2),
    }

  def join(self, columns: dict[str, np.ndarray]) -> np.ndarray:
    """[N, ...] arrays -> int32 [N, width]."""
    return np.concatenate(
      [columns[name].reshape(len(columns[name]), -1) for name in self.shapes],
      axis=1,
    )

  def split(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """int32 [N, width] -> [N, ...] arrays."""
    columns, start = {}, 0
    for name, shape in self.shapes.items():
      stop = start + int(np.prod(shape))
      columns[name] = rows[:, start:stop].reshape(len(rows), *shape)
      start = stop
    return columns


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
  row: worlds.Row,
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
  told = 1 + sum(start < row.told_from for start, _ in spans)
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


def lay_out(
  sequences: list[Sequence], layout: Layout, *, pad: int, pack: bool
) -> dict[str, np.ndarray]:
  """Sequences as the columns of a layout, int32 [N, ...]."""
  if pack:
    groups = _first_fit(sequences, layout)
  else:
    groups = [[place] for place in range(len(sequences))]
  columns = {
    name: np.zeros((len(groups), *shape), np.int32)
    for name, shape in layout.shapes.items()
  }
  columns['tokens'][:] = pad
  columns['segments'][:] = -1
  columns['prompts'][:] = pad
  for row, members in enumerate(groups):
    start = 0
    for slot, member in enumerate(members):
      sequence = sequences[member]
      length, kept = len(sequence.tokens), sequence.prompt_length
      stop = start + length
      columns['tokens'][row, start:stop] = sequence.tokens
      columns['segments'][row, start:stop] = 1 + slot
      columns['positions'][row, start:stop] = np.arange(length)
      columns['loss'][row, start + sequence.loss_start : stop] = 1
      columns['prompts'][row, slot, :kept] = sequence.tokens[:kept]
      columns['prompt_length'][row, slot] = kept
      columns['subject'][row, slot] = sequence.subject
      start = stop
  return columns


def _first_fit(sequences: list[Sequence], layout: Layout) -> list[list[int]]:
  """Which sequences share a row, in order of arrival."""
  lengths = [
    {
      'tokens': np.zeros(len(sequence.tokens), np.int8),
      'member': np.array([1 + place], np.int32),  # 0 is grain's padding.
    }
    for place, sequence in enumerate(sequences)
  ]
  rows = experimental.FirstFitPackIterDataset(
    grain.MapDataset.source(lengths).to_iter_dataset(),
    length_struct={
      'tokens': layout.context,
      'member': layout.prompts_per_row,
    },
    num_packing_bins=64,  # Rows open at a time; more fill little better.
    shuffle_bins=False,  # Batches are shuffled when read.
  )
  return [
    [int(member) - 1 for member in row['member'] if member] for row in rows
  ]
