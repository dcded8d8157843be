"""Kinds of frequency scaling of rotary positions, beyond two numeric tuples.

A scaling is `()` (none), `(factor,)` (linear), `(factor, low, high, positions)`
(Llama 3.1), or one of the classes here. All are static values of a model
config; `model.rope` computes the frequencies.

References: yarn 2309.00071; dynamic, the NTK-aware scaling by length of section
3.3 there; longrope 2402.13753.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Yarn:
  """Interpolates frequencies by their number of turns in the original length.

  Attributes:
    factor: divisor of the lowest frequencies.
    positions: length that the model was trained on, in tokens.
    fast, slow: pairs with more than `fast` turns are unchanged, pairs with
      fewer than `slow` turns are divided by `factor`.
    truncate: whether the two bounds are rounded to whole pairs.
    magnitude: factor of cosines and sines.
  """

  factor: float
  positions: float
  fast: float = 32.0
  slow: float = 1.0
  truncate: bool = True
  magnitude: float = 1.0


@dataclasses.dataclass(frozen=True)
class Dynamic:
  """Raises theta with the length of the sequence.

  Attributes:
    factor: how fast theta grows with the length.
    positions: length up to which theta is unchanged, in tokens.
  """

  factor: float
  positions: float


@dataclasses.dataclass(frozen=True)
class LongRope:
  """Divides each frequency by a number of its own, of two lists.

  Attributes:
    short, long: divisor of each pair, for sequences of at most, and of more
      than `positions` tokens.
    positions: length that the model was trained on, in tokens.
    magnitude: factor of cosines and sines.
  """

  short: tuple[float, ...]
  long: tuple[float, ...]
  positions: float
  magnitude: float = 1.0


Scaling = tuple[float, ...] | Yarn | Dynamic | LongRope


def depends_on_length(scaling: Scaling) -> bool:
  """Returns whether the frequencies depend on the length of the sequence."""
  return isinstance(scaling, Dynamic | LongRope)


def magnitude(scaling: Scaling) -> float:
  """Returns the factor of cosines and sines."""
  return scaling.magnitude if isinstance(scaling, Yarn | LongRope) else 1.0
