"""Retention: what a run learned, kept and lost, from its evaluations.

Every evaluation scores the same frozen probes, so differences between two of
them are differences of the model. R[i, j] is the score on experience j after
experience i; row 0 is the newborn. A number that a run does not determine
(backward transfer of one experience, the diagonal of `joint`) is None, never 0.

References:
  Lopez-Paz and Ranzato 2017 (ACC, BWT, FWT); Chaudhry et al. 2018
  (forgetting); Zweiger et al. 2025, SEAL (the matrix in the test).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

Evaluation = dict[str, Any]
STEMS = 'stem_scores'  # Of questions worded like the stems.
LOGS = 'log_scores'  # Mean nats of an answer's token, where those are scored.
COSTS = (
  'seconds',
  'cpu_seconds',
  'tokens_read',
  'tokens_generated',
  'steps',
  'added_parameters',
  'stored_bytes',
)


def summarize(
  evaluations: list[Evaluation], cost: dict[str, float] | None = None
) -> dict[str, float | None]:
  """The numbers of one run, as they stand in `summary.json`.

  Args:
    evaluations: records of one run, oldest first; it may be unfinished, then
      the experiences finished so far count.
    cost: totals of `cost.Cost`; what is missing is None.

  Returns:
    Name -> number, or None where the run does not determine it.
  """
  matrix = r_matrix(evaluations)
  changes = cycles(evaluations)
  prior = [score(evaluation, 'birth') for evaluation in evaluations]
  summary = {
    'prior_newborn': prior[0] if prior else np.nan,
    'prior': prior[-1] if prior else np.nan,
    'acc': acc(matrix),
    'la': la(matrix),
    'bwt': bwt(matrix),
    'fwt': fwt(matrix),
    'forgetting': forgetting(matrix),
    'start': start(matrix),
    'retained': retained(matrix),
    'harm_of_sleep': _mean_known([c['harm'] for c in changes]),
    'cost_to_new': _mean_known([c['cost_to_new'] for c in changes]),
    'damage_awake': _mean_known([c['damage_awake'] for c in changes]),
  }
  summary |= {
    'prior_stems': score(evaluations[-1], 'birth', STEMS) if prior else np.nan,
    'acc_stems': acc(r_matrix(evaluations, STEMS)),
  }
  logs = r_matrix(evaluations, LOGS)
  summary |= {
    f'{name}_log': of(logs)
    for name, of in (('start', start), ('la', la), ('acc', acc), ('bwt', bwt))
  }
  summary = {name: _known(value) for name, value in summary.items()}
  return {**summary, **{name: (cost or {}).get(name) for name in COSTS}}


def score(evaluation: Evaluation, key: Any, kind: str = 'scores') -> float:
  """One score of one evaluation; NaN where there is none."""
  value = (evaluation.get(kind) or {}).get(str(key))
  return np.nan if value is None else float(value)


def num_experiences(evaluations: list[Evaluation]) -> int:
  """How many experiences the stream has, finished or not."""
  keys = {key for e in evaluations for key in e.get('scores') or {}}
  numbers = [int(key) for key in keys if key.isdigit()]
  finished = [e['experience'] or 0 for e in evaluations]
  return max(numbers + finished, default=0)


def r_matrix(evaluations: list[Evaluation], kind: str = 'scores') -> np.ndarray:
  """R [1 + experiences, experiences]: the last word after each experience.

  Args:
    evaluations: records of one run, oldest first.
    kind: 'scores' (wordings held apart), 'stem_scores' or 'log_scores'.

  Returns:
    The matrix; NaN where nothing was measured. An evaluation in the middle of
    an experience (`experience` None) is no row.
  """
  width = num_experiences(evaluations)
  matrix = np.full((width + 1, width), np.nan)
  for evaluation in evaluations:
    row = evaluation['experience']
    if row is not None:
      matrix[row] = [score(evaluation, j + 1, kind) for j in range(width)]
  return matrix


def acc(matrix: np.ndarray) -> float | None:
  """Mean of the last row: what is known in the end."""
  matrix = _finished(matrix)
  return _mean(matrix[-1])


def la(matrix: np.ndarray) -> float | None:
  """Learning accuracy: mean of the diagonal."""
  matrix = _finished(matrix)
  return _mean(np.diagonal(matrix[1:]))


def bwt(matrix: np.ndarray) -> float | None:
  """Backward transfer: the last row less the diagonal, without its end."""
  matrix = _finished(matrix)
  return _mean((matrix[-1] - np.diagonal(matrix[1:]))[:-1])


def start(matrix: np.ndarray) -> float | None:
  """Mean of the first row: what the newborn scores."""
  return _mean(_finished(matrix)[0])


def retained(matrix: np.ndarray) -> float | None:
  """(ACC - start) / (LA - start); None where nothing was learned."""
  begun, learned, kept = start(matrix), la(matrix), acc(matrix)
  if begun is None or learned is None or kept is None or learned <= begun:
    return None
  return (kept - begun) / (learned - begun)


def fwt(matrix: np.ndarray) -> float | None:
  """Forward transfer: what the experiences before i did for i."""
  matrix = _finished(matrix)
  return _mean((np.diagonal(matrix[:-1]) - matrix[0])[1:])


def forgetting(matrix: np.ndarray) -> float | None:
  """The best an experience ever stood since it was met, less its end."""
  matrix = _finished(matrix)
  last = matrix.shape[1]
  # NaN wins in `max`, so a column with a gap has no known best.
  best = [matrix[j + 1 : last, j].max() for j in range(last - 1)]
  return _mean(np.array(best) - matrix[-1, : last - 1])


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
    known = ['birth', *range(1, finished + 1)]
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
  return slope(mornings, [score(e, 'birth') for e in mornings.values()])


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


def _finished(matrix: np.ndarray) -> np.ndarray:
  """The part of the matrix up to the last experience that has a row."""
  rows = np.flatnonzero(~np.isnan(matrix).all(axis=1))
  last = int(rows[-1]) if rows.size else 0
  return matrix[: last + 1, :last]


def _change(
  before: Evaluation | None, after: Evaluation | None, keys: Iterable[Any]
) -> float | None:
  if before is None or after is None:
    return None
  return _mean_known([score(after, key) - score(before, key) for key in keys])


def _mean(values: np.ndarray) -> float | None:
  """The mean, or None where a term is unknown or there is none."""
  return _known(np.mean(values)) if values.size else None


def _mean_known(values: list[float | None]) -> float | None:
  """The mean of those values that are known."""
  known = [v for v in map(_known, values) if v is not None]
  return float(np.mean(known)) if known else None


def _known(value: float | None) -> float | None:
  return None if value is None or np.isnan(value) else float(value)
