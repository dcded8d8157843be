"""Gains of a continual learner over its base model: AgentCL's three numbers.

All scores are measured with an empty context and an empty cache, so a gain can
only come from the weights. The gain on a compositional stream, whose later
tasks reuse parts of earlier ones, is compared with the gain on a matched naive
stream without reuse.

Reference: 2606.02461 (AgentCL), of which summaries were read: the formulas are
our reading.
"""

from collections.abc import Mapping

import numpy as np

from sleep_jax.evaluate import cycles

PLASTICITY, STABILITY, GENERALIZATION = 'pg', 'sg', 'gg'


def gains(
  *,
  base_T: np.ndarray,
  first_T: np.ndarray,
  second_T: np.ndarray,
  held_out_base_U: np.ndarray,
  held_out_U: np.ndarray,
) -> dict[str, float | None]:
  """Returns the means of PG = F - B, SG = S - F and GG = H - B.

  Args:
    base_T: score of the base model on each task of the stream (B).
    first_T: score on each task in the first pass (F): when the task is met,
      after the tasks before it were learned.
    second_T: score on each task in the second pass, with learning off (S).
    held_out_base_U: score of the base model on tasks outside of the stream.
    held_out_U: score on these after the first pass (H).

  Returns:
    'pg' (plasticity), 'sg' (stability) and 'gg' (generalization); None where a
    score is NaN or there is no task.
  """
  return {
    PLASTICITY: cycles.mean_or_none(first_T - base_T),
    STABILITY: cycles.mean_or_none(second_T - first_T),
    GENERALIZATION: cycles.mean_or_none(held_out_U - held_out_base_U),
  }


def split(matrix: np.ndarray) -> dict[str, np.ndarray]:
  """Returns the arguments of `gains` from the scores of a finished run.

  The last experience of the run is the held-out task: its scores before it is
  learned are those of a task outside of the stream. A task of the stream is met
  (F) just before it is learned, with what the tasks before it left behind, and
  met again (S) when the whole stream has been learned.

  Args:
    matrix: R [1 + experiences, experiences], see `retention.r_matrix`. The last
      experience stands for all held-out tasks.
  """
  num = matrix.shape[1] - 1
  return {
    'base_T': matrix[0, :num],
    'first_T': np.diagonal(matrix)[:num],
    'second_T': matrix[num, :num],
    'held_out_base_U': matrix[0, num:],
    'held_out_U': matrix[num, num:],
  }


def gains_by_reuse(
  compositional: Mapping[str, float | None], naive: Mapping[str, float | None]
) -> dict[str, float | None]:
  """Returns what reuse adds to each gain: compositional minus naive.

  Args:
    compositional, naive: results of `gains` on two matched streams.
  """
  found = {}
  for name, value in compositional.items():
    other = naive[name]
    known = value is not None and other is not None
    found[name] = value - other if known else None
  return found
