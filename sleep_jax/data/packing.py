"""Arranges tokenized sequences in fixed-width rows, padded or packed.

A padded row holds one sequence. A packed row holds several, assigned by first
fit; segment numbers keep them apart in attention.

References:
  First-fit packing: `grain.experimental.FirstFitPackIterDataset`.
"""

import grain
import numpy as np
from grain import experimental

from sleep_jax.data import row_layout, tokenization


def make_columns(
  sequences: list[tokenization.Sequence],
  layout: row_layout.Layout,
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
  sequences: list[tokenization.Sequence], layout: row_layout.Layout
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
