"""Puts the experiences of a dataset into another order.

A claim about continual learning should not hang on one order of the
experiences. Order 0 is the dataset's own; every other number is a permutation
that depends on the number and the seed alone. Pretraining text, probes and
their answers stay what they are, so an initial model serves all orders.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from sleep_jax.datasets import dataset as dataset_lib

Value = TypeVar('Value')


def permutation(num: int, order: int, seed: int) -> list[int]:
  """Returns which experience, from 0, comes at each place.

  Args:
    num: number of experiences.
    order: 0 for the order as given.
    seed: of the run.
  """
  if not order:
    return list(range(num))
  rng = np.random.default_rng([seed, 4, order])
  return rng.permutation(num).tolist()


def reorder(
  dataset: dataset_lib.Dataset, order: int, seed: int
) -> dataset_lib.Dataset:
  """Returns the dataset with its experiences in another order.

  Probes, tasks and candidates follow their experience, so that the number of
  an experience is its place. Its name stays.

  Args:
    dataset: with experiences in the order as given.
    order: 0 returns the dataset unchanged.
    seed: of the run.
  """
  if not order:
    return dataset
  old = permutation(len(dataset.experiences), order, seed)
  # Number of an experience before -> its number now; both from 1.
  place = {before + 1: now for now, before in enumerate(old, 1)}

  def renumber(by_number: Mapping[str, Value]) -> dict[str, Value]:
    moved = {
      str(place[int(key)]) if key.isdigit() else key: value
      for key, value in by_number.items()
    }
    others = [key for key in moved if not key.isdigit()]
    numbers = sorted((key for key in moved if key.isdigit()), key=int)
    return {key: moved[key] for key in (*others, *numbers)}

  candidates = {
    name: sorted(
      ((text, place.get(since, 0)) for text, since in texts),
      key=lambda one: one[1],
    )
    for name, texts in dataset.candidates.items()
  }
  return dataclasses.replace(
    dataset,
    experiences=[dataset.experiences[before] for before in old],
    probes=renumber(dataset.probes),
    template_probes=renumber(dataset.template_probes),
    open_probes=renumber(dataset.open_probes),
    tasks=renumber(dataset.tasks),
    candidates=candidates,
  )
