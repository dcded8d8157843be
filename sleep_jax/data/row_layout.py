"""The columns of a stored row of tokens."""

import dataclasses

import numpy as np


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
