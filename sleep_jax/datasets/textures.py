"""Draws small images of striped rows, whose pixels one by one say nothing.

A class is a cyclic order of all grey levels, which every row of pixels repeats.
Where each row begins is drawn for each row of each image. So in every class
every pixel has every level equally often, whatever the pixels of other rows
are: what a class has in common is only which level is right of which. A linear
classifier adds up what each pixel says, so it does not solve this;
`benchmarks.linear_probe` measures how far it comes.
"""

import itertools

import numpy as np

# All grey levels, as a row has them; the first one is 0, as an order is cyclic.
Order = tuple[int, ...]


def all_orders(levels: int) -> list[Order]:
  """Returns every class of images with that many grey levels."""
  return [(0, *others) for others in itertools.permutations(range(1, levels))]


def draw(
  rng: np.random.Generator, order: Order, *, size: int, noise: float
) -> np.ndarray:
  """Returns an image of a class, int [size, size], grey levels from 0.

  Args:
    rng: draws the image.
    order: its class.
    size: pixels per side.
    noise: share of pixels that get a random level.
  """
  levels = len(order)
  start_H1 = rng.integers(levels, size=(size, 1))
  image_HW = np.array(order)[(start_H1 + np.arange(size)[None]) % levels]
  random_HW = rng.integers(levels, size=(size, size))
  return np.where(rng.random((size, size)) < noise, random_HW, image_HW)
