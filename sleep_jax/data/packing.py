"""Arranges tokenized sequences in fixed-width rows, padded or packed.

A padded row holds one sequence. A packed row holds several, assigned by first
fit; segment numbers keep them apart in attention. Sequences come and rows go
one block at a time, so their number does not matter for memory.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from sleep_jax.data import row_layout

_NUM_OPEN = 64  # Rows that are filled at a time; more pack hardly better.


class Sequence(Protocol):
  """What is stored of a sequence, see `tokenization.Sequence`."""

  @property
  def tokens(self) -> list[int]:
    """BOS ... EOS."""

  @property
  def loss_start(self) -> int:
    """Index of the first target."""

  @property
  def prompt_length(self) -> int:
    """Number of tokens that may be stored."""

  @property
  def subject(self) -> tuple[int, int]:
    """Indices within the prompt."""


def make_blocks(
  sequences: Iterable[Sequence],
  layout: row_layout.Layout,
  *,
  pad: int,
  pack: bool,
  block_rows: int,
) -> Iterator[np.ndarray]:
  """Yields the rows of sequences, int32 [N, width] as `Layout.join` returns.

  Args:
    sequences: sequences that fit `layout.context`.
    layout: columns of a row.
    pad: token that fills unused places.
    pack: whether several sequences share a row.
    block_rows: N of each block but the last, which may be smaller.
  """
  rows: Iterator[list[Sequence]]
  if pack:
    rows = _first_fit(sequences, layout)
  else:
    rows = ([sequence] for sequence in sequences)
  while block := list(itertools.islice(rows, block_rows)):
    yield layout.join(_make_columns(block, layout, pad))


def _make_columns(
  rows: list[list[Sequence]], layout: row_layout.Layout, pad: int
) -> dict[str, np.ndarray]:
  """Returns the columns of a block of rows, int32 [N, ...]."""
  columns = {
    name: np.zeros((len(rows), *shape), np.int32)
    for name, shape in layout.shapes.items()
  }
  columns['tokens'][:] = pad
  columns['segments'][:] = -1
  columns['prompts'][:] = pad
  positions = np.arange(layout.context, dtype=np.int32)
  for row, members in enumerate(rows):
    start = 0
    for slot, sequence in enumerate(members):
      length, prompt_length = len(sequence.tokens), sequence.prompt_length
      stop = start + length
      columns['tokens'][row, start:stop] = sequence.tokens
      columns['segments'][row, start:stop] = 1 + slot
      columns['positions'][row, start:stop] = positions[:length]
      columns['loss'][row, start + sequence.loss_start : stop] = 1
      columns['prompts'][row, slot, :prompt_length] = columns['tokens'][
        row, start : start + prompt_length
      ]
      columns['prompt_length'][row, slot] = prompt_length
      columns['subject'][row, slot] = sequence.subject
      start = stop
  return columns


@dataclasses.dataclass
class _OpenRow:
  """A row that is filled."""

  num_tokens: int = 0
  members: list[Sequence] = dataclasses.field(default_factory=list)


def _first_fit(
  sequences: Iterable[Sequence], layout: row_layout.Layout
) -> Iterator[list[Sequence]]:
  """Yields the sequences of each row.

  A sequence goes to the first open row with room for it. If none has, all rows
  are complete, in their order.
  """
  rows: list[_OpenRow] = []
  for sequence in sequences:
    length = len(sequence.tokens)
    for row in rows:
      if (
        row.num_tokens + length <= layout.context
        and len(row.members) < layout.prompts_per_row
      ):
        break
    else:
      if len(rows) == _NUM_OPEN:
        yield from (row.members for row in rows)
        rows = []
      row = _OpenRow()
      rows.append(row)
    row.num_tokens += length
    row.members.append(sequence)
  yield from (row.members for row in rows)
