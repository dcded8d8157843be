"""Losses on held-out text, as the results of runs without probes."""

from collections.abc import Mapping
from typing import Any

from sleep_jax.report import figures, tables

BEFORE = tables.Metric(
  'held_out_before', 'held-out loss before',
  'of the initial model, on text that is never learned, in nats per token',
  better=0,
)  # fmt: skip
AFTER = tables.Metric(
  'held_out_after', 'held-out loss after',
  'of the model at the end, on the same text, in nats per token', better=-1,
)  # fmt: skip
CHANGE = tables.Metric(
  'kl_after', 'divergence from the initial model',
  'KL(initial model || model) at the end, on the same text, in nats per token',
  better=0,
)  # fmt: skip
COLUMNS = (BEFORE, AFTER, CHANGE, tables.MINUTES)
LEGEND = """\
There are no accuracies, because no questions were given: name a file of them \
with --config.data.settings.probes=FILE. Numbers are means over the finished \
seeds; ± is half the 95 % confidence interval. ↑ higher is better, ↓ lower is \
better, * best of the column, - unknown: fewer than twenty rows leave no text \
to hold out."""


def has_scores(groups: figures.Groups) -> bool:
  """Returns whether a run has scored a probe."""
  return any(
    score is not None
    for runs in groups.values()
    for run in runs
    for evaluation in run['evaluations']
    for score in (evaluation.get('scores') or {}).values()
  )


def with_losses(groups: figures.Groups) -> figures.Groups:
  """Returns the runs with the metrics of `COLUMNS` in their summaries."""
  return {
    name: [
      run | {'summary': {**run['summary'], **_losses(run)}} for run in runs
    ]
    for name, runs in groups.items()
  }


def _losses(run: Mapping[str, Any]) -> dict[str, float | None]:
  if not run['evaluations']:
    return {}
  first, last = run['evaluations'][0], run['evaluations'][-1]
  return {
    BEFORE.key: first.get('held_out_loss'),
    AFTER.key: last.get('held_out_loss'),
    CHANGE.key: last.get('kl_initial'),
  }
