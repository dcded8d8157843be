"""Arranges tokenized sequences in fixed-width rows, padded or packed.

A padded row holds one sequence. A packed row holds several, assigned by first
fit; segment numbers keep them apart in attention.

References:
  First-fit packing: `grain.experimental.FirstFitPackIterDataset`.
"""

import dataclasses

import grain
import numpy as np
from grain import experimental

from sleep_jax.data import tokenization


@dataclasses.dataclass(frozen=True)
class Layout:
  """Columns of a stored row.

  All columns lie side by side in one wide int32 array, so one read returns one
  batch.

  Attributes:
    context: T, tokens of a row.
    max_prompt: P, width of a stored prompt.
    prompts_per_row: number of prompts a row can store.
  """

  context: int
  max_prompt: int
  prompts_per_row: int

  @property
  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shapes of the columns in their order, by name.

    The names follow the fields of `types.Batch` and `types.Prompts`.
    """
    num_prompts = self.prompts_per_row
    return {
      'tokens': (self.context,),
      'segments': (self.context,),
      'positions': (self.context,),
      'loss': (self.context,),
      'prompts': (num_prompts, self.max_prompt),
      'prompt_length': (num_prompts,),
      'subject': (num_prompts, 2),
    }

  def join(self, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Joins columns [N, ...] into one int32 array [N, width]."""
    return np.concatenate(
      [columns[name].reshape(len(columns[name]), -1) for name in self.shapes],
      axis=1,
    )

  def split(self, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Splits an int32 array [N, width] into columns [N, ...]."""
    columns, start = {}, 0
    for name, shape in self.shapes.items():
      stop = start + int(np.prod(shape))
      columns[name] = rows[:, start:stop].reshape(len(rows), *shape)
      start = stop
    return columns


def make_columns(
  sequences: list[tokenization.Sequence],
  layout: Layout,
  *,
  pad: int,
  pack: bool,
) -> dict[str, np.ndarray]:
  """Returns sequences as the columns of a layout, int32 [N, ...].

  Args:
    sequences: sequences that fit `layout.context`.
    layout: columns of a row.
    pad: token that fills unused places.
    pack: whether several sequences share a row.
  """
  if pack:
    groups = _first_fit(sequences, layout)
  else:
    groups = [[index] for index in range(len(sequences))]
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
      length, prompt_length = len(sequence.tokens), sequence.prompt_length
      stop = start + length
      columns['tokens'][row, start:stop] = sequence.tokens
      columns['segments'][row, start:stop] = 1 + slot
      columns['positions'][row, start:stop] = np.arange(length)
      columns['loss'][row, start + sequence.loss_start : stop] = 1
      columns['prompts'][row, slot, :prompt_length] = sequence.tokens[
        :prompt_length
      ]
      columns['prompt_length'][row, slot] = prompt_length
      columns['subject'][row, slot] = sequence.subject
      start = stop
  return columns


def _first_fit(
  sequences: list[tokenization.Sequence], layout: Layout
) -> list[list[int]]:
  """Returns the indices of the sequences in each row, in order of arrival."""
  elements = [
    {
      'tokens': np.zeros(len(sequence.tokens), np.int8),
      'member': np.array([1 + index], np.int32),  # 0 is grain's padding.
    }
    for index, sequence in enumerate(sequences)
  ]
  rows = experimental.FirstFitPackIterDataset(
    grain.MapDataset.source(elements).to_iter_dataset(),
    length_struct={
      'tokens': layout.context,
      'member': layout.prompts_per_row,
    },
    num_packing_bins=64,  # Rows open at a time; more pack hardly better.
    shuffle_bins=False,  # Batches are shuffled when they are read.
  )
  return [
    [int(member) - 1 for member in row['member'] if member] for row in rows
  ]
