"""Draws small images of woven textures, which no linear classifier can tell apart.

A class is a cyclic order of grey levels and a step. A row of pixels repeats the
order; each row begins `step` levels further on than the row above it. Where the
first row begins is drawn for each image, uniformly, so in every class every
pixel has every level equally often: what a class has in common is only which
levels are neighbours.
"""

import dataclasses
import itertools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Texture:
  """A class of images.

  Attributes:
    order: all grey levels, in the order in which a row has them; the first one
      is 0, because an order is cyclic.
    step: places by which a row is ahead of the row above it.
  """

  order: tuple[int, ...]
  step: int


def all_textures(levels: int) -> list[Texture]:
  """Returns every class of images with that many grey levels."""
  return [
    Texture((0, *rest), step)
    for rest in itertools.permutations(range(1, levels))
    for step in range(levels)
  ]


def draw(
  rng: np.random.Generator, texture: Texture, *, size: int, noise: float
) -> np.ndarray:
  """Returns an image of a class, int [size, size], grey levels from 0.

  Args:
    rng: draws the image.
    texture: its class.
    size: pixels per side.
    noise: share of pixels that get a random level.
  """
  levels = len(texture.order)
  row_H1, column_1W = np.arange(size)[:, None], np.arange(size)[None]
  place_HW = column_1W + texture.step * row_H1 + rng.integers(levels)
  image_HW = np.array(texture.order)[place_HW % levels]
  random_HW = rng.integers(levels, size=(size, size))
  return np.where(rng.random((size, size)) < noise, random_HW, image_HW)
