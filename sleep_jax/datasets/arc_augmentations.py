"""TODO: datasets.arc_augmentations (from data.datasets.arc)."""

import functools
from collections.abc import Callable

import numpy as np

NUM_RECOLOURINGS = 3  # Colourings of each pair.
Grid = np.ndarray
Pair = tuple[Grid, Grid]
Change = Callable[[Grid], Grid]
TURNS: list[Change] = [functools.partial(np.rot90, k=k) for k in (1, 2, 3)]
FLIPS: list[Change] = [np.fliplr, np.flipud, np.transpose]


def random_recolouring(rng: np.random.Generator) -> Change:
  """Other colours; 0, most tasks' background, stays."""
  colours = np.concatenate([[0], 1 + rng.permutation(9)])
  return lambda grid: colours[grid]
