"""Plots of runs of many nights: accuracy by age, experts in use, cost."""

from collections import defaultdict
from typing import Any

from sleep_jax.evaluate import retention
from sleep_jax.report import figures, html, plots, svg

_MIN_NIGHTS = 5  # Runs of fewer nights are not plotted.
_SIZE = (344, 220)  # Pixels.


def curves(groups: figures.Groups, styles: figures.Styles) -> list[html.Figure]:
  """Returns a figure for each quantity; none without a run of many nights."""
  long_runs = {
    name: [run for run in runs if len(run['nights']) >= _MIN_NIGHTS]
    for name, runs in groups.items()
  }
  long_runs = {name: runs for name, runs in long_runs.items() if runs}
  shown = (
    ('Accuracy on an experience by its age', 'age in cycles', _by_age, (0, 1)),
    ('Experts in use', 'night', _experts, (0,)),
    ('CPU-seconds of the nights of a cycle', 'cycle', _cost, (0,)),
  )
  drawings = [
    plots.curves(
      [
        series
        for name, runs in long_runs.items()
        if (series := figures.mean_series(
          name, styles[name], [line for line in map(line_of, runs) if line]
        ))
      ],
      title=title, size=_SIZE, include=include, over=over,
    )
    for title, over, line_of, include in shown
  ]  # fmt: skip
  return [html.Figure(drawing) for drawing in drawings if drawing]


def _by_age(run: dict[str, Any]) -> list[svg.Point]:
  return [*retention.by_age(run['evaluations']).items()]


def _experts(run: dict[str, Any]) -> list[svg.Point]:
  """Returns the number of active experts of all levels after each night."""
  bars, _ = figures.bars_and_marks(run['ledger'])
  return [
    (
      night['night'],
      sum(
        bar['start'] <= night['night']
        and (bar['stop'] is None or bar['stop'] > night['night'])
        for bar in bars
      ),
    )
    for night in run['nights']
  ]


def _cost(run: dict[str, Any]) -> list[svg.Point]:
  total: dict[int, float] = defaultdict(float)
  for night in run['nights']:
    total[night['cycle']] += night['cpu_seconds']
  return [*total.items()]
