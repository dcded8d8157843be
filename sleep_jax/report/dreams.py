"""Draws statistics of dreams over cycles and selects the dreams to show."""

from typing import Any

from sleep_jax.report import figures, html, plots, svg

TRENDS = (
  ('rewarded', 'Rewarded dreams per round'),
  ('gain', 'Mean gain of a trial'),
  ('entropy', 'Entropy of the writer, nats per token'),
  ('likelihood', 'Log-likelihood without the document, nats'),
  ('repetition', 'Fraction of repeated token pairs'),
  ('distinct', 'Fraction of distinct texts'),
)
_SIZE = (344, 200)  # Pixels.
_BEST, _WORST = 6, 2  # Dreams shown per night.


def trends(groups: figures.Groups, styles: figures.Styles) -> list[html.Figure]:
  """Returns one plot per statistic of the dreams, over cycles."""
  drawings = []
  for key, title in TRENDS:
    series = [
      figures.mean_series(name, styles[name], [_line(run, key) for run in runs])
      for name, runs in groups.items()
    ]
    known = [one for one in series if one]
    drawings.append(html.Figure(plots.curves(known, title=title, size=_SIZE)))
  return drawings


def select(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the best and the worst of the dreams that were tried."""
  tried = [row for row in rows if row['gain'] is not None]
  tried.sort(key=lambda row: -row['gain'])
  return [*tried[:_BEST], *tried[max(len(tried) - _WORST, _BEST) :]]


def _line(run: figures.Run, key: str) -> list[svg.Point]:
  """Returns a statistic of each night of dreams: the mean over its rounds."""
  points = []
  for night in run['nights']:
    values = (night.get('dreams') or {}).get(key, ())
    known = [value for value in values if value is not None]
    if known:
      points.append((night['cycle'], sum(known) / len(known)))
  return points
