"""TODO: evaluate.cycles (from evaluate.retention)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

Evaluation = dict[str, Any]


def score(evaluation: Evaluation, key: Any, kind: str = 'scores') -> float:
  """One score of one evaluation; NaN where there is none."""
  value = (evaluation.get(kind) or {}).get(str(key))
  return np.nan if value is None else float(value)


def cycles(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
  """What each cycle changed, paired on the same probes.

  Known is what was finished at the last waking: birth and the experiences up
  to then, each set of probes counting once. New is what the cycle brought. A
  cycle longer than an experience brings several, one shorter than it a part.

  Args:
    evaluations: records of one run, oldest first.

  Returns:
    Per cycle {'cycle', 'harm', 'cost_to_new', 'damage_awake'}: morning less
    the last morning on the known; morning less evening on the new; evening
    less the last morning on the known. None where undefined; an evening whose
    morning has not come yields only the damage. Empty for a run that skipped
    experiences (`joint` is evaluated once).
  """
  rows = {e['experience'] for e in evaluations} - {None}
  if rows != set(range(max(rows, default=0) + 1)):
    return []
  evenings, mornings = moments(evaluations)
  waking, finished, changes = mornings.get(0), 0, []
  for cycle in sorted({*evenings, *mornings} - {0}):
    morning = mornings.get(cycle)
    evening = evenings.get(cycle, morning)
    both = [e['experience'] for e in (evening, morning) if e]
    known = ['pretrain', *range(1, finished + 1)]
    reached = max(finished + 1 if e is None else e for e in both)
    new = range(finished + 1, reached + 1)
    changes.append(
      {
        'cycle': cycle,
        'harm': _change(waking, morning, known),
        'cost_to_new': _change(evening, morning, new),
        'damage_awake': _change(waking, evening, known),
      }
    )
    finished = max([finished, *(e or 0 for e in both)])
    waking = morning
  return changes


def moments(
  evaluations: list[Evaluation],
) -> tuple[dict[int, Evaluation], dict[int, Evaluation]]:
  """The last evaluation of each cycle's evening and of its morning.

  The newborn is the morning of cycle 0. Where none is a 'morning' the strategy
  does not sleep: its evenings are its mornings, and it has no others.
  """
  sleeps = any(e['moment'] == 'morning' for e in evaluations)
  evenings: dict[int, Evaluation] = {}
  mornings: dict[int, Evaluation] = {}
  for evaluation in evaluations:
    is_evening = sleeps and evaluation['moment'] == 'evening'
    of_its_kind = evenings if is_evening else mornings
    of_its_kind[evaluation['cycle']] = evaluation
  return evenings, mornings


def prior_slope(evaluations: list[Evaluation]) -> float | None:
  """Slope of the curve of prior knowledge over mornings, score per cycle."""
  if not cycles(evaluations):
    return None
  _, mornings = moments(evaluations)
  return slope(mornings, [score(e, 'pretrain') for e in mornings.values()])


def slope(x: Iterable[float], y: Iterable[float]) -> float | None:
  """Slope of a curve by least squares; None for fewer than two points."""
  places, heights = np.array([*x], float), np.array([*y], float)
  known = ~np.isnan(heights)
  if len(set(places[known])) < 2:
    return None
  return float(np.polyfit(places[known], heights[known], 1)[0])


def spread(
  values: Iterable[float | None],
) -> tuple[float | None, float | None]:
  """Mean over seeds and half the width of its 95 % t-interval.

  Returns:
    (mean, half width). Unknown values are left out; without any the mean is
    None, and with fewer than two so is the half width.
  """
  known = [v for v in values if v is not None and not np.isnan(v)]
  if not known:
    return None, None
  mean = float(np.mean(known))
  if len(known) < 2:
    return mean, None
  error = np.std(known, ddof=1) / np.sqrt(len(known))
  return mean, float(special.stdtrit(len(known) - 1, 0.975) * error)


def finished(matrix: np.ndarray) -> np.ndarray:
  """The part of the matrix up to the last experience that has a row."""
  rows = np.flatnonzero(~np.isnan(matrix).all(axis=1))
  last = int(rows[-1]) if rows.size else 0
  return matrix[: last + 1, :last]


def _change(
  before: Evaluation | None, after: Evaluation | None, keys: Iterable[Any]
) -> float | None:
  if before is None or after is None:
    return None
  return mean_known([score(after, key) - score(before, key) for key in keys])


def mean(values: np.ndarray) -> float | None:
  """The mean, or None where a term is unknown or there is none."""
  return known_or_none(np.mean(values)) if values.size else None


def mean_known(values: list[float | None]) -> float | None:
  """The mean of those values that are known."""
  known = [v for v in map(known_or_none, values) if v is not None]
  return float(np.mean(known)) if known else None


def known_or_none(value: float | None) -> float | None:
  return None if value is None or np.isnan(value) else float(value)
