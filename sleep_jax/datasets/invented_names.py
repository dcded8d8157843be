"""Invented names that are new pairs of known parts.

Every first and every last part occurs in a name of the pretraining text, so a
new name is a new pair of known tokens, as the people of `facts` are. Forgetting
then measures knowledge and not vocabulary.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from sleep_jax import errors

_CONSONANTS, _VOWELS = 'bdfgklmnprstvz', 'aeiou'
CONSONANTS, VOWELS = tuple(_CONSONANTS), tuple(_VOWELS)
SYLLABLES = tuple(c + v for v, c in itertools.product(_VOWELS, _CONSONANTS))
Pair = tuple[str, str]


def draw(
  rng: np.random.Generator,
  firsts: Sequence[str],
  lasts: Sequence[str],
  num: int,
  *,
  what: str,
) -> list[Pair]:
  """Returns different pairs, the first of which have every part.

  Args:
    rng: draws the pairs.
    firsts, lasts: parts; the longer of the two counts is the number of pairs,
      from the first, in which every part occurs.
    num: number of pairs.
    what: what needs so many names, for the error.

  Raises:
    DataError: there are not so many pairs.
  """
  possible = len(firsts) * len(lasts)
  if num > possible:
    raise errors.DataError(
      f'{what} needs {num} invented names, but there are {possible}: lower the '
      'number of days, or of what is new each day or in pretraining.'
    )
  size = max(len(firsts), len(lasts))
  covering = list(
    zip(
      rng.permutation(np.resize(firsts, size)).tolist(),
      rng.permutation(np.resize(lasts, size)).tolist(),
      strict=True,
    )
  )
  # With lists of different lengths a part occurs often, but no pair twice.
  covering = list(dict.fromkeys(covering))
  others = [
    pair
    for pair in itertools.product(firsts, lasts)
    if pair not in set(covering)
  ]
  drawn = covering + [others[i] for i in rng.permutation(len(others))]
  return drawn[:num]
