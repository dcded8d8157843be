"""Arithmetic word problems with solutions, drawn from a random generator.

A kind of problem is a story with two or three numbers and the steps that solve
it. Numbers are 2 to 9, and no result is negative.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

_NAMES = (
  'Ada', 'Ben', 'Clara', 'Dan', 'Elsa', 'Finn', 'Greta', 'Hugo', 'Ida', 'Jon',
)  # fmt: skip
_THINGS = (
  'apples', 'books', 'coins', 'stamps', 'shells', 'pens', 'cards', 'stones',
)  # fmt: skip
_NUMBERS = (2, 9)


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of problem.

  Attributes:
    story: text with slots for name, thing, and the numbers x, y and z.
    solve: (x, y, z) -> steps, each (left, operator, right).
  """

  story: str
  solve: Callable[[int, int, int], list[tuple[int, str, int]]]


def compute(left: int, operator: str, right: int) -> int:
  """Returns the result of a step."""
  return {'+': left + right, '-': left - right, '*': left * right}[operator]


# Those of pretraining, then those of days.
KNOWN = (
  Kind(
    '{name} has {x} {thing} and gets {y}. How many now?',
    lambda x, y, z: [(x, '+', y)],
  ),
  Kind(
    '{name} has {x} {thing} and gives {y} away. How many are left?',
    lambda x, y, z: [(max(x, y), '-', min(x, y))],
  ),
  Kind(
    '{name} packs {x} boxes of {y} {thing}. How many are in them?',
    lambda x, y, z: [(x, '*', y)],
  ),
)
NEW = (
  Kind(
    '{name} has {x} {thing}, finds {y} and then {z}. How many now?',
    lambda x, y, z: [(x, '+', y), (x + y, '+', z)],
  ),
  Kind(
    '{name} fills {x} bags of {y} {thing} and has {z} others. How many in all?',
    lambda x, y, z: [(x, '*', y), (x * y, '+', z)],
  ),
  Kind(
    '{name} has {x} {thing} and a friend {y} more. How many do both have?',
    lambda x, y, z: [(x, '+', y), (x, '+', x + y)],
  ),
  Kind(
    '{name} buys {x} {thing} and {y} more, and loses {z}. How many are left?',
    lambda x, y, z: [(x, '+', y), (x + y, '-', min(z, x + y))],
  ),
)


def draw(rng: np.random.Generator, kind: Kind) -> tuple[str, str, str]:
  """Draws a problem of a kind.

  Returns:
    The problem; its solution, a step to a sentence; the final answer.
  """
  x, y, z = (int(n) for n in rng.integers(*_NUMBERS, size=3, endpoint=True))
  steps = kind.solve(x, y, z)
  if steps[0][1] == '-':
    x, y = steps[0][0], steps[0][2]
  story = kind.story.format(
    name=rng.choice(_NAMES), thing=rng.choice(_THINGS), x=x, y=y, z=z
  )
  solution = ' '.join(
    f'{left} {operator} {right} = {compute(left, operator, right)}.'
    for left, operator, right in steps
  )
  return story, solution, str(compute(*steps[-1]))


def sums() -> list[str]:
  """Returns the arithmetic that the problems need, a step to a text."""
  most = 2 * _NUMBERS[1]
  small = range(_NUMBERS[0], _NUMBERS[1] + 1)
  steps = [(a, '*', b) for a in small for b in small]
  steps += [(a, '+', b) for a in range(2, most + 1) for b in range(2, most + 1)]
  steps += [(a, '+', b) for a in range(most, 82) for b in small]
  steps += [(a, '-', b) for a in range(2, most + 1) for b in range(2, a + 1)]
  return [f'{a} {op} {b} = {compute(a, op, b)}.' for a, op, b in steps]
