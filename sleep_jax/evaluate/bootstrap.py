"""Intervals of a mean change over questions, by a paired bootstrap.

Two models are asked the same questions. A question is drawn with both of its
scores, so that how hard it is cancels out.

Reference: Efron and Tibshirani 1993, chapter 13 (percentile intervals).
"""

import numpy as np

from sleep_jax import errors

_AT_ONCE = 256  # Draws whose counts are in memory at a time.


def paired_interval(
  before_N: np.ndarray,
  after_N: np.ndarray,
  *,
  draws: int = 10_000,
  seed: int = 0,
  level: float = 0.95,
) -> tuple[float, float, float]:
  """Returns the mean change and the ends of its interval.

  Args:
    before_N, after_N: score of each question, by two models.
    draws: number of draws of N questions with replacement.
    seed: of the draws.
    level: share of the draws within the interval.

  Returns:
    (mean of after - before, lower end, upper end).

  Raises:
    UsageError: there is no question, or the numbers of questions differ.
  """
  before_N, after_N = np.asarray(before_N, float), np.asarray(after_N, float)
  if before_N.shape != after_N.shape or before_N.size == 0:
    raise errors.UsageError(
      f'before_N has shape {before_N.shape} and after_N {after_N.shape}: '
      'expected the same, with one question or more.'
    )
  change_N = after_N - before_N
  size = len(change_N)
  rng = np.random.default_rng(seed)
  means = []
  for start in range(0, draws, _AT_ONCE):
    num = min(_AT_ONCE, draws - start)
    # How often each question is drawn.
    counts_KN = rng.multinomial(size, np.full(size, 1 / size), num)
    means.append(counts_KN @ change_N / size)
  tail = 100 * (1 - level) / 2
  low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
  return float(np.mean(change_N)), float(low), float(high)
