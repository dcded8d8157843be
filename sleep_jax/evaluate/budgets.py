"""Accuracy of a run when it had spent a budget of tokens or seconds.

A day costs more with some strategies than with others, so results at the end
of the stream favour the expensive ones. Here every run is read at the last
evaluation within the same budget. The accuracy is the mean over all experiences
of the stream, learned or not. An experience that this evaluation did not score
has its latest earlier score, often that of the initial model.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sleep_jax.evaluate import cycles, retention

TOKENS, SECONDS = 'tokens', 'seconds'
BUDGETS = (TOKENS, SECONDS)


def spent(cost: Mapping[str, float] | None, budget: str) -> float | None:
  """Returns how much of a budget some costs are, or None if not known.

  Args:
    cost: totals of `cost.Cost`.
    budget: 'tokens' (trained on, generated, and read in forward passes) or
      'seconds' (of learning).
  """
  if not cost:
    return None
  if budget == SECONDS:
    return cost.get('seconds')
  read, written = cost.get('tokens_read'), cost.get('tokens_generated')
  if read is None or written is None:
    return None
  return read + written + cost.get('tokens_forward', 0)


def curve(
  evaluations: Sequence[cycles.Evaluation], budget: str
) -> list[tuple[float, float]]:
  """Returns (what was spent, accuracy on the whole stream), oldest first.

  Args:
    evaluations: of one run, each with its 'cost' so far.
    budget: 'tokens' or 'seconds'.
  """
  points = []
  for evaluation, accuracy in _with_accuracy(evaluations):
    cost = spent(evaluation.get('cost'), budget)
    if cost is not None and accuracy is not None:
      points.append((float(cost), accuracy))
  return points


def at(
  evaluations: Sequence[cycles.Evaluation], budget: str, limit: float
) -> dict[str, Any] | None:
  """Returns the accuracy of a run when it had spent at most `limit`.

  Args:
    evaluations: of one run, oldest first.
    budget: 'tokens' or 'seconds'.
    limit: what may be spent.

  Returns:
    Dict of the last evaluation within the limit: 'acc' (accuracy on the whole
    stream), 'prior' (on what was pretrained), 'experiences' (finished ones) and
    'spent'; None if costs are not known. A run that is evaluated at its end
    alone is the initial model until then.
  """
  found, finished = None, 0
  for evaluation, accuracy in _with_accuracy(evaluations):
    cost = spent(evaluation.get('cost'), budget)
    if cost is None or cost > limit:
      continue
    finished = max(finished, evaluation['experience'] or 0)
    found = {
      'acc': accuracy,
      'prior': cycles.known_or_none(cycles.get_score(evaluation, 'pretrain')),
      'experiences': finished, 'spent': cost,
    }  # fmt: skip
  return found


def _with_accuracy(
  evaluations: Sequence[cycles.Evaluation],
) -> Iterator[tuple[cycles.Evaluation, float | None]]:
  """Yields each evaluation with the mean of the latest scores, oldest first."""
  num = retention.num_experiences([*evaluations])
  latest: list[float | None] = [None] * num
  for evaluation in evaluations:
    for j in range(num):
      score = cycles.known_or_none(cycles.get_score(evaluation, j + 1))
      latest[j] = latest[j] if score is None else score
    yield evaluation, cycles.mean_known(latest)
