"""Linear discriminant analysis on random features, class by class.

Sums are kept per class, and one matrix for all classes, so that classes can be
added in any order without the rows of earlier ones. All numbers are f64 on the
host.

References: 2412.15571 (KLDA: random Fourier features, class means, one
covariance); Rahimi and Recht 2007 (random Fourier features).
"""

from typing import NamedTuple

import numpy as np


class Features(NamedTuple):
  """Random Fourier features of the RBF kernel exp(-|x - y|^2 / (2 width^2)).

  Attributes:
    direction_DF: random directions.
    phase_F: random phases.
  """

  direction_DF: np.ndarray
  phase_F: np.ndarray

  def __call__(self, x_ND: np.ndarray) -> np.ndarray:
    """Returns `[N, F]`, whose products approximate the kernel."""
    size = np.sqrt(2 / len(self.phase_F))
    return size * np.cos(x_ND @ self.direction_DF + self.phase_F)


def draw_features(
  dimension: int, num: int, *, width: float, seed: int
) -> Features:
  """Draws random Fourier features.

  Args:
    dimension: D, of the inputs.
    num: F, number of features.
    width: of the kernel, in units of the inputs.
    seed: of the draw.
  """
  rng = np.random.default_rng(seed)
  return Features(
    rng.normal(size=(dimension, num)) / width,
    rng.uniform(0, 2 * np.pi, num),
  )


def median_distance(x_ND: np.ndarray, most: int = 500) -> float:
  """Returns the median distance of two different inputs.

  Args:
    x_ND: inputs, of which the first `most` are compared.
    most: inputs that are compared.
  """
  x_ND = x_ND[:most]
  square_N = np.sum(np.square(x_ND), 1)
  square_NN = square_N[:, None] + square_N[None] - 2 * x_ND @ x_ND.T
  pairs = square_NN[np.triu_indices(len(x_ND), 1)]
  return float(np.sqrt(np.median(np.maximum(pairs, 0))))


class Classes(NamedTuple):
  """What is kept of the rows of all classes.

  Attributes:
    count_C: rows of each class.
    sum_CF: sum of their features.
    products_FF: sum of the outer products of all rows.
  """

  count_C: np.ndarray
  sum_CF: np.ndarray
  products_FF: np.ndarray


def no_classes(num: int, size: int) -> Classes:
  """Returns `num` classes without rows, of features of a size."""
  return Classes(np.zeros(num), np.zeros((num, size)), np.zeros((size, size)))


def add(classes: Classes, x_NF: np.ndarray, class_N: np.ndarray) -> Classes:
  """Returns the classes with further rows.

  Args:
    classes: before.
    x_NF: features of the rows.
    class_N: class of each row.
  """
  count_C, sum_CF = classes.count_C.copy(), classes.sum_CF.copy()
  np.add.at(count_C, class_N, 1)
  np.add.at(sum_CF, class_N, x_NF)
  return Classes(count_C, sum_CF, classes.products_FF + x_NF.T @ x_NF)


def scores(classes: Classes, x_NF: np.ndarray, *, ridge: float) -> np.ndarray:
  """Returns the discriminant of each class, `[N, C]`; all are as likely.

  Args:
    classes: with at least one row. The discriminant of a class without rows is
      -inf.
    x_NF: features to classify.
    ridge: added to the diagonal of the covariance, a share of its mean.
  """
  known_C = classes.count_C > 0
  mean_CF = classes.sum_CF / np.maximum(classes.count_C, 1)[:, None]
  between_FF = (mean_CF * classes.count_C[:, None]).T @ mean_CF
  within_FF = (classes.products_FF - between_FF) / classes.count_C.sum()
  size = ridge * np.trace(within_FF) / len(within_FF) + np.finfo(float).tiny
  weight_FC = np.linalg.solve(
    within_FF + size * np.eye(len(within_FF)), mean_CF.T
  )
  found_NC = x_NF @ weight_FC - np.sum(mean_CF.T * weight_FC, 0) / 2
  return np.where(known_C, found_NC, -np.inf)
