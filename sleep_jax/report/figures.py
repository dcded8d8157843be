"""Turns the records of runs into the figures of the report.

Runs of one strategy with different seeds share a figure: the mean is strong
and each seed is thin behind it. Where some seeds are further than others, the
mean is over those that are there.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from sleep_jax.evaluate import ability_summary, cycles, retention
from sleep_jax.report import day_names, html, plots, svg

Run = dict[str, Any]
Groups = dict[str, list[Run]]  # Strategy -> its seeds.
Styles = dict[str, str]  # Strategy or teacher -> class in the style sheet.
# (evaluation, number of experiences begun) -> value.
Read = Callable[[dict[str, Any], int], float]

_LARGE, _MIDDLE, _SMALL = (616, 400), (440, 200), (344, 200)  # Pixels.


def curves(groups: Groups, styles: Styles) -> dict[str, html.Figure]:
  """Returns the plots over cycles of accuracy, harm, losses and ability."""
  begun = {
    name: [run for run in runs if len(run['evaluations']) > 1]
    for name, runs in groups.items()
  }

  def scores(read: Read) -> Callable[[str], plots.Series | None]:
    return lambda name: _series(name, begun[name], styles[name], read)

  def newest(name: str) -> plots.Series | None:
    return None if _is_joint(begun[name]) else scores(_newest)(name)

  def harm(name: str) -> plots.Series | None:
    return mean_series(name, styles[name], [_harm(run) for run in begun[name]])

  shown = {
    'prior': ('Prior accuracy', scores(_prior), _LARGE, (0, 1)),
    'so_far': (
      'Accuracy on all experiences so far', scores(_so_far), _MIDDLE, (0, 1),
    ),
    'newest': ('Accuracy on the newest experience', newest, _MIDDLE, (0, 1)),
    'harm': ('Harm of each cycle: change of accuracy', harm, _SMALL, (0,)),
    'loss': (
      'Held-out loss, nats per token', scores(_field('held_out_loss')),
      _SMALL, (),
    ),
    'drift': (
      'KL(initial || current model), nats per token',
      scores(_field('kl_initial')), _SMALL, (0,),
    ),
    'text': (
      'Perplexity of ordinary text, change in %',
      scores(_ability('text', 'change', 100)), _SMALL, (0,),
    ),
    'everyday': (
      'KL(first || current model) on everyday answers, nats',
      scores(_ability('everyday', 'kl')), _SMALL, (0,),
    ),
    'reading': (
      'Reading, change of the share answered',
      scores(_ability('reading', 'change')), _SMALL, (0,),
    ),
  }  # fmt: skip
  figures = {}
  for key, (title, series_of, size, include) in shown.items():
    series = [one for one in map(series_of, begun) if one]
    figures[key] = html.Figure(
      plots.curves(series, title=title, size=size, include=include)
    )
  return figures


def matrices(groups: Groups, styles: Styles) -> list[html.Figure]:
  """Returns the matrix R of each strategy, prior first, mean over seeds."""
  figures = []
  for name, runs in groups.items():
    tables = [_with_prior(run['evaluations']) for run in runs]
    size = max(len(t) for t in tables)
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for table in tables:
      known = ~np.isnan(table)
      total[: len(table), : len(table)][known] += table[known]
      count[: len(table), : len(table)] += known
    mean = np.where(count, total / np.maximum(count, 1), np.nan)
    if size < 2 or np.isnan(mean).all():
      continue
    columns = ['prior', *(str(i) for i in range(1, size))]
    rows = ['0', *day_names.numbered(runs, size - 1)]
    drawing = plots.heat(mean, rows, columns)
    note = f'mean of {len(runs)} seeds' if len(runs) > 1 else ''
    figures.append(html.Figure(drawing, styles[name], name, note))
  return figures


def nights(
  groups: Groups, styles: Styles, teacher_styles: Styles
) -> list[html.Figure]:
  """Returns the divergence in each night, one figure per strategy."""
  figures = []
  for name, runs in groups.items():
    panels: dict[tuple[int, int], dict[str, Any]] = {}
    for run, night in ((r, n) for r in runs for n in r['nights']):
      panel = panels.setdefault(
        (night['night'], night['sender']),
        {
          'title': f'night {night["night"]}',
          'day': day_names.name(run, night.get('experience')),
          'levels': f'level {night["sender"]} → {night["receiver"]}',
          'note': '',
          'lines': [],
        },
      )
      if not night['accepted']:
        panel['note'] = 'discarded'
      for teacher in teachers([night]):
        start = night['divergence_at_0'].get(teacher)
        line = [(0, start)] + [
          (d['update'], d.get(teacher)) for d in night['divergence']
        ]
        line = [(x, y) for x, y in line if y is not None and not math.isnan(y)]
        panel['lines'].append((teacher, line))
    if panels:
      ordered = [panels[n] for n in sorted(panels)]
      present = {t for p in ordered for t, line in p['lines']}
      keys = {s: t for t, s in teacher_styles.items() if t in present}
      drawing = plots.nights(ordered, teacher_styles)
      figures.append(
        html.Figure(drawing, styles[name], name, 'teachers:', keys)
      )
  return figures


def expert_histories(groups: Groups, styles: Styles) -> list[html.Figure]:
  """Returns which night trained which expert; equal seeds share a figure."""
  figures = []
  for name, runs in groups.items():
    alike = defaultdict(list)
    for run in runs:
      bars, marks = bars_and_marks(run['ledger'])
      last = max([0, *(e['night'] for e in run['ledger'])])
      if bars or marks:
        alike[repr((bars, marks))].append((run['seed'], bars, marks, last))
    for same in alike.values():
      _, bars, marks, last = same[0]
      seeds = ', '.join(str(seed) for seed, *_ in same)
      note = f'seed{"s" if len(same) > 1 else ""} {seeds}'
      drawing = plots.expert_history(bars, marks, last)
      figures.append(html.Figure(drawing, styles[name], name, note))
  return figures


def teachers(records: Iterable[dict[str, Any]]) -> list[str]:
  """Returns the names of the teachers of nights, in order of appearance."""
  names: dict[str, None] = {}
  for night in records:
    for row in (night['divergence_at_0'], *night['divergence']):
      names |= dict.fromkeys(k for k in row if k not in ('update', 'loss'))
  return list(names)


def mean_series(
  name: str, style: str, lines: list[list[svg.Point]]
) -> plots.Series | None:
  """Returns the mean of `lines` with the lines behind it; None if empty."""
  at = defaultdict(list)
  for line in lines:
    for cycle, value in line:
      at[cycle].append(value)
  if not at:
    return None
  mean = [(cycle, _mean(at[cycle])) for cycle in sorted(at)]
  return plots.Series(name, style, mornings=mean, seeds=lines)


def _series(
  name: str, runs: list[Run], style: str, read: Read
) -> plots.Series | None:
  """Returns the curve of one strategy, or None if it has no values."""
  lines = [_lines(run['evaluations'], read) for run in runs]
  mornings = [line for _, line in lines]
  if _is_joint(runs):  # It has only a final value: a reference line.
    values = [line[-1][1] for line in mornings if line]
    return plots.Series(name, style, level=_mean(values)) if values else None
  series = mean_series(name, style, mornings)
  evenings = mean_series(name, style, [line for line, _ in lines])
  if series and evenings:
    series.evenings = evenings.mornings
  return series or evenings


def _is_joint(runs: list[Run]) -> bool:
  """Returns whether the strategy is evaluated only at the end, as `joint`."""
  return any(not cycles.cycle_changes(run['evaluations']) for run in runs)


def _lines(
  evaluations: list[dict[str, Any]], read: Read
) -> tuple[list[svg.Point], list[svg.Point]]:
  """Returns the known values of all evenings and of all mornings."""
  moments = cycles.evenings_and_mornings(evaluations)
  lines: tuple[list[svg.Point], list[svg.Point]] = ([], [])
  finished = 0
  for cycle in sorted({*moments[0], *moments[1]}):
    begun = finished + 1
    for line, records in zip(lines, moments, strict=True):
      if cycle in records:
        number = records[cycle]['experience']
        value = read(records[cycle], begun if number is None else number)
        finished = max(finished, number or 0)
        if not math.isnan(value):
          line.append((cycle, value))
  return lines


def _harm(run: Run) -> list[svg.Point]:
  changes = cycles.cycle_changes(run['evaluations'])
  return [(c['cycle'], c['harm']) for c in changes if c['harm'] is not None]


def _prior(evaluation: dict[str, Any], begun: int) -> float:
  del begun
  return cycles.get_score(evaluation, 'pretrain')


def _so_far(evaluation: dict[str, Any], begun: int) -> float:
  return _mean(cycles.get_score(evaluation, j + 1) for j in range(begun))


def _newest(evaluation: dict[str, Any], begun: int) -> float:
  return cycles.get_score(evaluation, begun) if begun else math.nan


def _field(name: str) -> Read:
  def read(evaluation: dict[str, Any], begun: int) -> float:
    del begun
    value = evaluation.get(name)
    return math.nan if value is None else value

  return read


def _ability(part: str, name: str, scale: float = 1) -> Read:
  """Returns a reader of a number of the ability, on the sets of a morning."""

  def read(evaluation: dict[str, Any], begun: int) -> float:
    del begun
    found = (evaluation.get(ability_summary.KEY) or {}).get(part) or {}
    return scale * found.get(name, math.nan)

  return read


def _with_prior(evaluations: list[dict[str, Any]]) -> np.ndarray:
  """Returns R with the prior accuracy as column 0."""
  matrix = retention.r_matrix(evaluations)
  prior = np.full((len(matrix), 1), np.nan)
  for evaluation in evaluations:
    if evaluation['experience'] is not None:
      prior[evaluation['experience']] = cycles.get_score(evaluation, 'pretrain')
  return np.concatenate([prior, matrix], axis=1)


def bars_and_marks(
  entries: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """Returns bars of the nights that an expert is in use, and discarded nights.

  A bar begins at an activation or a merge and ends at a reset or when the
  expert is forgotten.
  """
  bars, marks = [], []
  active: dict[tuple[int, int], dict[str, Any]] = {}
  for entry in entries:
    row, night = (entry['level'], entry['slot']), entry['night']
    if entry['slot'] is None:  # The night trained no expert.
      continue
    if entry['event'] in ('activated', 'merged'):
      if row in active:
        active.pop(row)['stop'] = night
      active[row] = {'row': row, 'start': night, 'stop': None}
      bars.append(active[row])
    elif entry['event'] == 'discarded':
      marks.append({'row': row, 'night': night})
    elif entry['event'] in ('reset', 'forgotten') and row in active:
      active.pop(row)['stop'] = night
  return bars, marks


def _mean(values: Iterable[float]) -> float:
  known = [v for v in values if not math.isnan(v)]
  return float(np.mean(known)) if known else math.nan
