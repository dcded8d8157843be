"""Retention: what a run learned, kept and lost, from its evaluations.

Every evaluation scores the same frozen probes, so differences between two of
them are differences of the model. R[i, j] is the score on experience j after
experience i; row 0 is the newborn. A number that a run does not determine
(backward transfer of one experience, the diagonal of `joint`) is None, never 0.

References:
  Lopez-Paz and Ranzato 2017 (ACC, BWT, FWT); Chaudhry et al. 2018
  (forgetting); Zweiger et al. 2025, SEAL (the matrix in the test).
"""

import numpy as np

from sleep_jax.evaluate import cycles

TEMPLATES = 'template_scores'  # Of questions worded like the stems.
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
  evaluations: list[cycles.Evaluation], cost: dict[str, float] | None = None
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
  changes = cycles.cycles(evaluations)
  prior = [cycles.score(evaluation, 'pretrain') for evaluation in evaluations]
  summary = {
    'prior_initial': prior[0] if prior else np.nan,
    'prior': prior[-1] if prior else np.nan,
    'acc': acc(matrix),
    'la': la(matrix),
    'bwt': bwt(matrix),
    'fwt': fwt(matrix),
    'forgetting': forgetting(matrix),
    'start': start(matrix),
    'retained': retained(matrix),
    'harm_of_sleep': cycles.mean_known([c['harm'] for c in changes]),
    'cost_to_new': cycles.mean_known([c['cost_to_new'] for c in changes]),
    'damage_awake': cycles.mean_known([c['damage_awake'] for c in changes]),
  }
  summary |= {
    'prior_templates': cycles.score(evaluations[-1], 'pretrain', TEMPLATES)
    if prior
    else np.nan,
    'acc_templates': acc(r_matrix(evaluations, TEMPLATES)),
  }
  logs = r_matrix(evaluations, LOGS)
  summary |= {
    f'{name}_log': of(logs)
    for name, of in (('start', start), ('la', la), ('acc', acc), ('bwt', bwt))
  }
  summary = {
    name: cycles.known_or_none(value) for name, value in summary.items()
  }
  return {**summary, **{name: (cost or {}).get(name) for name in COSTS}}


def num_experiences(evaluations: list[cycles.Evaluation]) -> int:
  """How many experiences the stream has, finished or not."""
  keys = {key for e in evaluations for key in e.get('scores') or {}}
  numbers = [int(key) for key in keys if key.isdigit()]
  finished = [e['experience'] or 0 for e in evaluations]
  return max(numbers + finished, default=0)


def r_matrix(
  evaluations: list[cycles.Evaluation], kind: str = 'scores'
) -> np.ndarray:
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
      matrix[row] = [
        cycles.score(evaluation, j + 1, kind) for j in range(width)
      ]
  return matrix


def acc(matrix: np.ndarray) -> float | None:
  """Mean of the last row: what is known in the end."""
  matrix = cycles.finished(matrix)
  return cycles.mean(matrix[-1])


def la(matrix: np.ndarray) -> float | None:
  """Learning accuracy: mean of the diagonal."""
  matrix = cycles.finished(matrix)
  return cycles.mean(np.diagonal(matrix[1:]))


def bwt(matrix: np.ndarray) -> float | None:
  """Backward transfer: the last row less the diagonal, without its end."""
  matrix = cycles.finished(matrix)
  return cycles.mean((matrix[-1] - np.diagonal(matrix[1:]))[:-1])


def start(matrix: np.ndarray) -> float | None:
  """Mean of the first row: what the newborn scores."""
  return cycles.mean(cycles.finished(matrix)[0])


def retained(matrix: np.ndarray) -> float | None:
  """(ACC - start) / (LA - start); None where nothing was learned."""
  begun, learned, kept = start(matrix), la(matrix), acc(matrix)
  if begun is None or learned is None or kept is None or learned <= begun:
    return None
  return (kept - begun) / (learned - begun)


def fwt(matrix: np.ndarray) -> float | None:
  """Forward transfer: what the experiences before i did for i."""
  matrix = cycles.finished(matrix)
  return cycles.mean((np.diagonal(matrix[:-1]) - matrix[0])[1:])


def forgetting(matrix: np.ndarray) -> float | None:
  """The best an experience ever stood since it was met, less its end."""
  matrix = cycles.finished(matrix)
  last = matrix.shape[1]
  # NaN wins in `max`, so a column with a gap has no known best.
  best = [matrix[j + 1 : last, j].max() for j in range(last - 1)]
  return cycles.mean(np.array(best) - matrix[-1, : last - 1])
