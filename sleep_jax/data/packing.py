"""TODO: data.packing (from data.sequences)."""

import dataclasses

import grain
import numpy as np
from grain import experimental

from sleep_jax.data import tokenization


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


def lay_out(
  sequences: list[tokenization.Sequence],
  layout: Layout,
  *,
  pad: int,
  pack: bool,
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


def _first_fit(
  sequences: list[tokenization.Sequence], layout: Layout
) -> list[list[int]]:
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
