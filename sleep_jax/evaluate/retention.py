"""Computes continual-learning metrics of a run from its evaluations.

Every evaluation scores the same frozen probes, so a difference between two
evaluations is a change of the model. R[i, j] is the score on experience j after
experience i; row 0 is the initial model. A metric that a run does not determine
(backward transfer of one experience, the diagonal of `joint`) is None, never 0.

References:
  Lopez-Paz and Ranzato 2017 (ACC, BWT, FWT); Chaudhry et al. 2018
  (forgetting); Zweiger et al. 2025, SEAL (the matrix in the test).
"""

import numpy as np

from sleep_jax.evaluate import cycles, flops

TEMPLATES = 'template_scores'  # Questions worded like the templates.
OPEN = 'open_scores'  # Each question after its document.
LOGS = 'log_scores'  # Mean log-probability per answer token, in nats.
TEXTS = 'text_scores'  # Of generated texts, see `text_scores`.
COSTS = (
  'seconds',
  'cpu_seconds',
  'tokens_read',
  'tokens_generated',
  'tokens_forward',
  'steps',
  'added_parameters',
  'stored_bytes',
  'question_tokens',
)


def summarize(
  evaluations: list[cycles.Evaluation], cost: dict[str, float] | None = None
) -> dict[str, float | None]:
  """Returns the metrics of one run, as written to `summary.json`.

  Args:
    evaluations: records of one run, oldest first. For an unfinished run the
      experiences finished so far count.
    cost: totals of `cost.Cost`; missing ones become None.

  Returns:
    Dict from metric to number, or None where the run does not determine it.
    `docs/method.md` ("Evaluation") defines every metric.
  """
  matrix = r_matrix(evaluations)
  changes = cycles.cycle_changes(evaluations)
  prior = [
    cycles.get_score(evaluation, 'pretrain') for evaluation in evaluations
  ]
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
    'prior_templates': cycles.get_score(evaluations[-1], 'pretrain', TEMPLATES)
    if prior
    else np.nan,
    'acc_templates': acc(r_matrix(evaluations, TEMPLATES)),
    'start_open': start(r_matrix(evaluations, OPEN)),
    'acc_open': acc(r_matrix(evaluations, OPEN)),
  }
  for suffix, kind in (('log', LOGS), ('text', TEXTS)):
    matrix = r_matrix(evaluations, kind)
    summary |= {
      f'{name}_{suffix}': metric(matrix)
      for name, metric in (
        ('start', start),
        ('la', la),
        ('acc', acc),
        ('bwt', bwt),
      )
    }
  summary = {
    name: cycles.known_or_none(value) for name, value in summary.items()
  }
  costs = {name: (cost or {}).get(name) for name in COSTS}
  return {**summary, **costs, 'flops': flops.of_run(cost or {})}


def num_experiences(evaluations: list[cycles.Evaluation]) -> int:
  """Returns the number of experiences of the stream, finished or not."""
  keys = {key for e in evaluations for key in e.get('scores') or {}}
  numbers = [int(key) for key in keys if key.isdigit()]
  finished = [e['experience'] or 0 for e in evaluations]
  return max(numbers + finished, default=0)


def r_matrix(
  evaluations: list[cycles.Evaluation], kind: str = 'scores'
) -> np.ndarray:
  """Returns the matrix R: scores by experience, after each experience.

  Args:
    evaluations: records of one run, oldest first. The last evaluation after
      an experience counts; one within an experience (`experience` None) is
      ignored.
    kind: 'scores' (held-out wordings), 'template_scores', 'open_scores',
      'log_scores' or 'text_scores'.

  Returns:
    Matrix [1 + experiences, experiences], NaN where nothing was measured.
  """
  width = num_experiences(evaluations)
  matrix = np.full((width + 1, width), np.nan)
  for evaluation in evaluations:
    row = evaluation['experience']
    if row is not None:
      matrix[row] = [
        cycles.get_score(evaluation, j + 1, kind) for j in range(width)
      ]
  return matrix


def by_age(
  evaluations: list[cycles.Evaluation],
) -> dict[int, float]:
  """Returns the accuracy of experiences by their age, in cycles.

  Args:
    evaluations: records of one run, oldest first.

  Returns:
    Age -> mean over all mornings and all experiences that are so old; 0 is the
    morning after the experience.
  """
  matrix = cycles.finished_part(r_matrix(evaluations))
  found = {
    age: cycles.mean_known([*np.diagonal(matrix[1:], -age)])
    for age in range(matrix.shape[1])
  }
  return {age: mean for age, mean in found.items() if mean is not None}


def acc(matrix: np.ndarray) -> float | None:
  """Returns the final accuracy (ACC): the mean of the last row."""
  matrix = cycles.finished_part(matrix)
  return cycles.mean_or_none(matrix[-1])


def la(matrix: np.ndarray) -> float | None:
  """Returns the learning accuracy (LA): the mean of the diagonal."""
  matrix = cycles.finished_part(matrix)
  return cycles.mean_or_none(np.diagonal(matrix[1:]))


def bwt(matrix: np.ndarray) -> float | None:
  """Returns backward transfer (BWT): mean of last row minus diagonal.

  The last experience is left out: no later one can have changed it.
  """
  matrix = cycles.finished_part(matrix)
  return cycles.mean_or_none((matrix[-1] - np.diagonal(matrix[1:]))[:-1])


def start(matrix: np.ndarray) -> float | None:
  """Returns the mean of the first row: the score of the initial model."""
  return cycles.mean_or_none(cycles.finished_part(matrix)[0])


def retained(matrix: np.ndarray) -> float | None:
  """Returns (ACC - start) / (LA - start), or None if nothing was learned."""
  initial, learned, final = start(matrix), la(matrix), acc(matrix)
  if initial is None or learned is None or final is None or learned <= initial:
    return None
  return (final - initial) / (learned - initial)


def fwt(matrix: np.ndarray) -> float | None:
  """Returns forward transfer (FWT): the gain before an experience begins.

  It is the mean over experiences but the first of the score just before the
  experience minus the score of the initial model.
  """
  matrix = cycles.finished_part(matrix)
  return cycles.mean_or_none((np.diagonal(matrix[:-1]) - matrix[0])[1:])


def forgetting(matrix: np.ndarray) -> float | None:
  """Returns forgetting: mean of the best past score minus the final one.

  The best is taken after the experience and before the end of the run; the
  last experience is left out.
  """
  matrix = cycles.finished_part(matrix)
  last = matrix.shape[1]
  # `max` propagates NaN, so a column with a missing score has no best.
  best = [matrix[j + 1 : last, j].max() for j in range(last - 1)]
  return cycles.mean_or_none(np.array(best) - matrix[-1, : last - 1])
