"""Augmentations of ARC grids, and the options that a dream chooses among.

An option is a set of augmentations, the part of a text that has targets, a
learning rate and a number of steps. Its text is what a dream has to write.

References: SEAL (2506.10943), section 4 and appendix.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np

Grid = np.ndarray  # int64 [rows, columns] of digits.
Pair = tuple[Grid, Grid]  # Input and output.
Transform = Callable[[Grid], Grid]

_KINDS = ('turn', 'flip', 'colours')
_RATES = {1.0: 'slowly', 3.0: 'fast'}
_SHARES = {0.5: 'shortly', 1.0: 'long'}
_TURNS: list[Transform] = [functools.partial(np.rot90, k=k) for k in (1, 2, 3)]
_FLIPS: list[Transform] = [np.fliplr, np.flipud, np.transpose]
_NUM_RECOLOURINGS = 3  # Recolourings of each pair.


@dataclasses.dataclass(frozen=True)
class Option:
  """One way to learn from the shown pairs of a task.

  Attributes:
    augmentations: kinds of variants to learn from, beside the plain pairs.
    answers_only: whether only answers are targets, or all of the text.
    rate: learning rate, as a multiple of a trial's.
    share: number of steps, as a fraction of a trial's.
  """

  augmentations: tuple[str, ...]
  answers_only: bool
  rate: float
  share: float

  @property
  def text(self) -> str:
    """Text by which a dream chooses the option."""
    kinds = ' '.join(self.augmentations) or 'plain'
    targets = 'answers' if self.answers_only else 'all'
    return f' {kinds}, {targets}, {_RATES[self.rate]}, {_SHARES[self.share]}'


def _make_options() -> list[Option]:
  """Returns all combinations of augmentations, targets, rates and shares."""
  subsets = [
    subset
    for size in range(len(_KINDS) + 1)
    for subset in itertools.combinations(_KINDS, size)
  ]
  return [
    Option(subset, answers_only, rate, share)
    for subset in subsets
    for answers_only in (True, False)
    for rate in _RATES
    for share in _SHARES
  ]


OPTIONS = _make_options()
LONGEST_OPTION = max((option.text for option in OPTIONS), key=len)


def make_transforms(rng: np.random.Generator) -> dict[str, list[Transform]]:
  """Returns the transforms of each kind, 'plain' first.

  Args:
    rng: draws the recolourings.
  """
  return {
    'plain': [lambda grid: grid],
    'turn': _TURNS,
    'flip': _FLIPS,
    'colours': [_draw_recolouring(rng) for _ in range(_NUM_RECOLOURINGS)],
  }


def _draw_recolouring(rng: np.random.Generator) -> Transform:
  """Draws a permutation of the colours; 0, often the background, is kept."""
  colours = np.concatenate([[0], 1 + rng.permutation(9)])
  return lambda grid: colours[grid]
