"""Computes what each cycle of day and night changed, and means over seeds.

A cycle is one day awake and the nights that follow it. Its evening is the last
evaluation before the nights, its morning the last one after them. Missing
scores are NaN inside this module and None in its results.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

Evaluation = dict[str, Any]


def get_score(evaluation: Evaluation, key: Any, kind: str = 'scores') -> float:
  """Returns one score of an evaluation, or NaN if it was not measured.

  Args:
    evaluation: the record.
    key: probe set: 'pretrain' or the number of an experience.
    kind: field of the record that holds scores by probe set.
  """
  value = (evaluation.get(kind) or {}).get(str(key))
  return np.nan if value is None else float(value)


def cycle_changes(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
  """Returns the change of scores in each cycle, paired on the same probes.

  Known probes are those of pretraining and of the experiences finished at the
  last morning; each probe set has the same weight. New probes are those of the
  experiences of the cycle. A cycle can span several experiences or a part of
  one.

  Args:
    evaluations: records of one run, oldest first.

  Returns:
    One dict per cycle:
      'cycle': its number.
      'harm': morning minus the previous morning, on known probes.
      'cost_to_new': morning minus evening, on new probes.
      'damage_awake': evening minus the previous morning, on known probes.
    A value is None where it is undefined; an evening without its morning yet
    has 'damage_awake' only. In an earlier cycle without a night the evening is
    the morning. The list is empty for a run that skipped
    experiences (the `joint` strategies are evaluated once, at the end).
  """
  numbers = {e['experience'] for e in evaluations} - {None}
  if numbers != set(range(max(numbers, default=0) + 1)):
    return []
  evenings, mornings = evenings_and_mornings(evaluations)
  previous, finished, changes = mornings.get(0), 0, []
  order = sorted({*evenings, *mornings} - {0})
  for cycle in order:
    # Without a night, the day's end is what the next day starts from.
    is_over = cycle < order[-1]
    morning = mornings.get(cycle, evenings.get(cycle) if is_over else None)
    evening = evenings.get(cycle, morning)
    both = [e['experience'] for e in (evening, morning) if e]
    known = ['pretrain', *range(1, finished + 1)]
    reached = max(finished + 1 if e is None else e for e in both)
    new = range(finished + 1, reached + 1)
    changes.append(
      {
        'cycle': cycle,
        'harm': _change(previous, morning, known),
        'cost_to_new': _change(evening, morning, new),
        'damage_awake': _change(previous, evening, known),
      }
    )
    finished = max([finished, *(e or 0 for e in both)])
    previous = morning
  return changes


def evenings_and_mornings(
  evaluations: list[Evaluation],
) -> tuple[dict[int, Evaluation], dict[int, Evaluation]]:
  """Returns the last evening and the last morning evaluation of each cycle.

  The initial model is the morning of cycle 0. A strategy that does not sleep
  has no record with moment 'morning'; its evenings then count as mornings.

  Returns:
    (evenings, mornings), each a dict from cycle to evaluation.
  """
  sleeps = any(e['moment'] == 'morning' for e in evaluations)
  evenings: dict[int, Evaluation] = {}
  mornings: dict[int, Evaluation] = {}
  for evaluation in evaluations:
    is_evening = sleeps and evaluation['moment'] == 'evening'
    by_cycle = evenings if is_evening else mornings
    by_cycle[evaluation['cycle']] = evaluation
  return evenings, mornings


def prior_slope(evaluations: list[Evaluation]) -> float | None:
  """Returns the slope of prior accuracy over mornings, per cycle, or None."""
  if not cycle_changes(evaluations):
    return None
  _, mornings = evenings_and_mornings(evaluations)
  return slope(mornings, [get_score(e, 'pretrain') for e in mornings.values()])


def slope(x: Iterable[float], y: Iterable[float]) -> float | None:
  """Returns the least-squares slope, or None for fewer than two points."""
  x_N, y_N = np.array([*x], float), np.array([*y], float)
  known_N = ~np.isnan(y_N)
  if len(set(x_N[known_N])) < 2:
    return None
  return float(np.polyfit(x_N[known_N], y_N[known_N], 1)[0])


def mean_and_interval(
  values: Iterable[float | None],
) -> tuple[float | None, float | None]:
  """Returns the mean over seeds and half the width of its 95 % t-interval.

  Args:
    values: one number per seed; None and NaN are left out.

  Returns:
    (mean, half width). Without values both are None; with one value the half
    width is None.
  """
  known = [v for v in values if v is not None and not np.isnan(v)]
  if not known:
    return None, None
  mean = float(np.mean(known))
  if len(known) < 2:
    return mean, None
  error = np.std(known, ddof=1) / np.sqrt(len(known))
  return mean, float(special.stdtrit(len(known) - 1, 0.975) * error)


def finished_part(matrix: np.ndarray) -> np.ndarray:
  """Returns the part of the R matrix for the experiences finished so far.

  Args:
    matrix: R [1 + experiences, experiences]; a row without scores is NaN.
  """
  rows = np.flatnonzero(~np.isnan(matrix).all(axis=1))
  last = int(rows[-1]) if rows.size else 0
  return matrix[: last + 1, :last]


def _change(
  before: Evaluation | None, after: Evaluation | None, keys: Iterable[Any]
) -> float | None:
  """Returns the mean change of the scores `keys`, or None if unknown."""
  if before is None or after is None:
    return None
  return mean_known(
    [get_score(after, key) - get_score(before, key) for key in keys]
  )


def mean_or_none(values: np.ndarray) -> float | None:
  """Returns the mean, or None if it is empty or a value is NaN."""
  return known_or_none(np.mean(values)) if values.size else None


def mean_known(values: list[float | None]) -> float | None:
  """Returns the mean of the known values, or None if there are none."""
  known = [v for v in map(known_or_none, values) if v is not None]
  return float(np.mean(known)) if known else None


def known_or_none(value: float | None) -> float | None:
  """Returns the value as a float, or None if it is None or NaN."""
  return None if value is None or np.isnan(value) else float(value)
