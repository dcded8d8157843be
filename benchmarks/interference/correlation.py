"""Correlations of predictors with measured damage, with bootstrap intervals.

A draw with replacement is stored as the number of times that each pair is
drawn. A correlation under such counts equals that of the repeated pairs.

References: Efron and Tibshirani 1993, chapter 13 (percentile intervals) and
section 8.6 (samples that are not independent: whole groups are drawn).
"""

from collections.abc import Callable

import numpy as np

MIN_SEEDS = 3  # From so many on, whole seeds are drawn instead of pairs.
LEVEL = 0.95  # Share of the draws within an interval.
# (x_N, y_N, counts_KN) -> correlation under each row of counts, [K].
Correlation = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def draws_seeds(seed_N: np.ndarray) -> bool:
  """Returns whether whole seeds are drawn, see `MIN_SEEDS`.

  Args:
    seed_N: seed of the run that a pair belongs to.
  """
  return len(np.unique(seed_N)) >= MIN_SEEDS


def draw_counts(
  seed_N: np.ndarray, *, draws: int, random_seed: int = 0
) -> np.ndarray:
  """Returns how often each draw has each pair, [K, N].

  Args:
    seed_N: seed of the run that a pair belongs to.
    draws: number of draws, K.
    random_seed: of the draws.
  """
  rng = np.random.default_rng(random_seed)
  group_N = np.arange(len(seed_N))
  if draws_seeds(seed_N):
    group_N = np.unique(seed_N, return_inverse=True)[1]
  size = group_N.max() + 1
  return rng.multinomial(size, np.full(size, 1 / size), draws)[:, group_N]


def pearson(
  x_N: np.ndarray, y_N: np.ndarray, counts_KN: np.ndarray
) -> np.ndarray:
  """Returns Pearson's r under each row of counts, [K].

  It is NaN where x or y has one value only.
  """
  shape = np.shape(counts_KN)
  return _pearson(
    np.broadcast_to(x_N, shape), np.broadcast_to(y_N, shape), counts_KN
  )


def spearman(
  x_N: np.ndarray, y_N: np.ndarray, counts_KN: np.ndarray
) -> np.ndarray:
  """Returns Spearman's rho under each row of counts, [K]; see `pearson`.

  Equal values have the mean of their ranks.
  """
  return _pearson(_ranks(x_N, counts_KN), _ranks(y_N, counts_KN), counts_KN)


def estimate(
  correlation: Correlation,
  x_N: np.ndarray,
  y_N: np.ndarray,
  counts_KN: np.ndarray,
  *,
  less: np.ndarray | None = None,
) -> dict[str, float] | None:
  """Returns a correlation with its interval.

  Args:
    correlation: `pearson` or `spearman`.
    x_N, y_N: predictor and damage of each pair.
    counts_KN: of the draws, see `draw_counts`.
    less: another predictor, whose correlation is subtracted.

  Returns:
    'value', 'low' and 'high'; and 'draws', the number of draws in which the
    correlation is defined, which the interval is of. None if it is not defined
    for the pairs as they are.
  """

  def measure(counts):
    found = correlation(x_N, y_N, counts)
    return found if less is None else found - correlation(less, y_N, counts)

  (value,) = measure(np.ones((1, len(x_N)), int))
  if np.isnan(value):
    return None
  drawn = measure(counts_KN)
  drawn = drawn[~np.isnan(drawn)]
  tail = 100 * (1 - LEVEL) / 2
  low, high = np.percentile(drawn, [tail, 100 - tail])
  return {
    'value': float(value), 'low': float(low), 'high': float(high),
    'draws': len(drawn),
  }  # fmt: skip


def _pearson(x_KN, y_KN, counts_KN):
  """Returns the correlations of values that may differ between draws."""
  total_K1 = counts_KN.sum(1, keepdims=True)
  mean = lambda z_KN: np.sum(counts_KN * z_KN, 1, keepdims=True) / total_K1
  x, y = x_KN - mean(x_KN), y_KN - mean(y_KN)
  lengths = np.sqrt(mean(x * x) * mean(y * y))[:, 0]
  constant = _is_constant(x_KN, counts_KN) | _is_constant(y_KN, counts_KN)
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where(constant, np.nan, mean(x * y)[:, 0] / lengths)


def _is_constant(x_KN, counts_KN):
  """Returns where all drawn pairs have one value, [K]."""
  drawn = counts_KN > 0
  low = np.min(np.where(drawn, x_KN, np.inf), 1)
  return low == np.max(np.where(drawn, x_KN, -np.inf), 1)


def _ranks(x_N, counts_KN):
  """Returns the rank of each pair among those drawn, from 1, [K, N]."""
  values, place_N = np.unique(x_N, return_inverse=True)
  counts_KU = np.zeros((len(counts_KN), len(values)))
  for number in range(len(values)):
    counts_KU[:, number] = counts_KN[:, place_N == number].sum(1)
  ranks_KU = np.cumsum(counts_KU, 1) - counts_KU + (counts_KU + 1) / 2
  return ranks_KU[:, place_N]
