"""Says which checkpoints of a series are kept."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils import epath


@dataclasses.dataclass
class NewestThatFit:
  """Keeps at most `keep` newest cycles, within the disk budget.

  It is a `PreservationPolicy` of Orbax, which calls it during a save and
  deletes after the save is complete.

  Attributes:
    folder: folder of the series.
    keep: largest number of cycles kept.
    budget: bytes, or None for no limit.
  """

  folder: epath.Path
  keep: int
  budget: int | None

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    del context
    earlier = [checkpoint.step for checkpoint in checkpoints[:-1]]
    if self.budget is None:  # Measuring sizes takes many bucket requests.
      return [n < self.keep for n in reversed(range(len(checkpoints)))]
    sizes = [_size(self.folder / f'cycle_{number}') for number in earlier]
    # The new cycle and the moment are about as large as the latest on disk.
    total = 2 * sizes[-1] if sizes else 0
    kept = [True]
    for size in reversed(sizes):
      total += size
      kept.append(total <= self.budget and len(kept) < self.keep)
    return kept[::-1]


def _size(path):
  """Returns the bytes of a file, or of all files below a folder."""
  if path.is_dir():
    return sum(_size(inner) for inner in path.iterdir())
  return path.stat().length
