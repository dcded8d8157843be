"""What was dreamt, as the report shows it: how it went, and the dreams."""

from typing import Any

from sleep_jax.report import figures, html, night_tables, plots, svg

TRENDS = (
  ('rewarded', 'Rewarded dreams of a round'),
  ('gain', 'Mean gain of a trial'),
  ('entropy', 'Entropy of the writer, nats per token'),
  ('likelihood', 'Log-likelihood, no document, nats'),
  ('repetition', 'Share of repeated neighbours'),
  ('distinct', 'Share of different texts'),
)
_SIZE = (344, 200)
_BEST, _WORST = 6, 2  # Dreams of a night that are shown.


def trends(groups: figures.Groups, styles: figures.Styles) -> str:
  """Dreams in numbers, cycle by cycle: do they wear out?"""
  drawings = []
  for key, title in TRENDS:
    series = [
      figures.mean_of(name, styles[name], [_line(run, key) for run in runs])
      for name, runs in groups.items()
    ]
    drawing = plots.curves(
      [one for one in series if one], title=title, size=_SIZE
    )
    drawings.append(html.figure(drawing))
  return html.row([drawing for drawing in drawings if drawing])


def dreams(groups: figures.Groups) -> str:
  """The best and the worst dreams of each night that were tried; folded.

  The others are counted; `dreams.jsonl` has them all.
  """
  parts = ''
  for name, runs in groups.items():
    for run in runs:
      nights: dict[int, list[dict[str, Any]]] = {}
      for row in run.get('dreams', ()):
        nights.setdefault(row['night'], []).append(row)
      for night, rows in nights.items():
        tried = [row for row in rows if row['gain'] is not None]
        good = sum(row['kept'] == 'rewarded' for row in rows)
        title = (
          f'{name}, seed {run["seed"]}, night {night}: {len(rows)} dreams, '
          f'{len(tried)} tried, {good} rewarded'
        )
        tried.sort(key=lambda row: -row['gain'])
        last = max(len(tried) - _WORST, _BEST)
        parts += html.folded(
          title, ''.join(map(_dream, [*tried[:_BEST], *tried[last:]]))
        )
  return parts


def _line(run: figures.Run, key: str) -> list[svg.Point]:
  """A number of each night of dreams: the mean over its rounds."""
  points = []
  for night in run['nights']:
    values = (night.get('dreams') or {}).get(key, ())
    known = [value for value in values if value is not None]
    if known:
      points.append((night['cycle'], sum(known) / len(known)))
  return points


def _dream(row: dict[str, Any]) -> str:
  head = (
    f'round {row["round"]}, dream {row["dream"]}: {row["kept"]}, gain '
    f'{night_tables.short(row["gain"])}, importance '
    f'{night_tables.short(row["importance"])}'
  )
  said = ''.join(map(_text, row['texts']))
  return (
    f'<h3>{html.text(head)}</h3><p class="caption">about: '
    f'{html.text(row["about"])}</p>{said}'
  )


def _text(text: dict[str, Any]) -> str:
  notes = [] if text['expert'] is None else [f'expert {text["expert"]} open']
  notes += [] if text['whole'] else ['not whole']
  note = f' <span class="muted">({html.text(", ".join(notes))})</span>'
  return (
    f'<div class="sample"><span class="prompt">{html.text(text["prompt"])}'
    f'</span>{html.text(text["text"])}{note if notes else ""}</div>'
  )
