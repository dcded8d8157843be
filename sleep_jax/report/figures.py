"""Figures: from the records of runs to what `plots` draws.

Runs of one strategy that differ by seed share a figure: the mean is strong,
each seed stays visible behind it. Where seeds have got differently far, the
mean is of those that are there.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from sleep_jax.evaluate import cycles, retention
from sleep_jax.report import html, plots, svg

Run = dict[str, Any]
Groups = dict[str, list[Run]]  # Strategy -> its seeds.
Styles = dict[str, str]  # Strategy or teacher -> class in the style sheet.
Series = dict[str, Any]  # What `plots.curves` draws.
# (evaluation, experiences met so far, the one under way included) -> value.
Read = Callable[[dict[str, Any], int], float]


def curves(groups: Groups, styles: Styles) -> str:
  """What was known at birth, what was learned, what a cycle harmed."""
  large, middle, small = (616, 400), (440, 200), (344, 200)
  begun = {
    name: [run for run in runs if len(run['evaluations']) > 1]
    for name, runs in groups.items()
  }

  def draw(
    title: str,
    series_of: Callable[[str], Series | None],
    size: tuple[int, int],
    include: Sequence[float] = (),
  ) -> str:
    series = [one for one in map(series_of, begun) if one]
    drawing = plots.curves(series, title=title, size=size, include=include)
    return html.figure(drawing)

  def scores(read: Read) -> Callable[[str], Series | None]:
    return lambda name: _series(name, begun[name], styles[name], read)

  def newest(name: str) -> Series | None:
    return None if _skips(begun[name]) else scores(_newest)(name)

  def harm(name: str) -> Series | None:
    return mean_of(name, styles[name], [_harms(run) for run in begun[name]])

  prior = draw(
    'Prior: accuracy on the birth probes', scores(_prior), large, (0, 1)
  )
  learned = draw('All experiences so far', scores(_so_far), middle, (0, 1))
  learned += draw('The newest experience', newest, middle, (0, 1))
  loss, drift = _field('held_out_loss'), _field('kl_initial')
  learned = f'<div>{learned}</div>' if learned else ''
  return html.row([prior, learned]) + html.row(
    [
      draw('Harm of each cycle', harm, small, (0,)),
      draw('Held-out loss, nats per token', scores(loss), small),
      draw('KL(newborn || now) on birth text', scores(drift), small, (0,)),
    ]
  )


def matrices(groups: Groups, styles: Styles) -> str:
  """The R matrix of each strategy with birth before it, mean over seeds."""
  figures = []
  for name, runs in groups.items():
    tables = [_with_pretrain(run['evaluations']) for run in runs]
    size = max(len(t) for t in tables)
    total, count = np.zeros((size, size)), np.zeros((size, size))
    for table in tables:
      known = ~np.isnan(table)
      total[: len(table), : len(table)][known] += table[known]
      count[: len(table), : len(table)] += known
    mean = np.where(count, total / np.maximum(count, 1), np.nan)
    if size < 2 or np.isnan(mean).all():
      continue
    numbers = [str(i) for i in range(size)]
    drawing = plots.heat(mean, numbers, ['pretrain', *numbers[1:]])
    note = f'mean of {len(runs)} seeds' if len(runs) > 1 else ''
    figures.append(html.figure(drawing, html.chip(styles[name], name, note)))
  return html.row(figures)


def nights(groups: Groups, styles: Styles, marks: Styles) -> str:
  """Divergence in each night, per strategy that sleeps."""
  figures = []
  for name, runs in groups.items():
    panels: dict[tuple[int, int], dict[str, Any]] = {}
    for night in (n for run in runs for n in run['nights']):
      panel = panels.setdefault(
        (night['night'], night['sender']),
        {
          'title': f'night {night["night"]}',
          'levels': f'{night["sender"]} → {night["receiver"]}',
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
      drawing = plots.nights([panels[n] for n in sorted(panels)], marks)
      present = {t for p in panels.values() for t, line in p['lines']}
      keys = 'teachers: ' + ''.join(
        f'<span class="key">{html.chip(style, teacher)}</span>'
        for teacher, style in marks.items()
        if teacher in present
      )
      caption = (
        f'{html.chip(styles[name], name)} <span class="keys">{keys}</span>'
      )
      figures.append(html.figure(drawing, caption))
  return ''.join(figures)


def ledgers(groups: Groups, styles: Styles) -> str:
  """Lives of experts; seeds with the same ledger share a figure."""
  figures = []
  for name, runs in groups.items():
    alike = defaultdict(list)
    for run in runs:
      bars, marks = _lives(run['ledger'])
      last = max([0, *(e['night'] for e in run['ledger'])])
      if bars or marks:
        alike[repr((bars, marks))].append((run['seed'], bars, marks, last))
    for same in alike.values():
      _, bars, marks, last = same[0]
      seeds = ', '.join(str(seed) for seed, *_ in same)
      note = f'seed{"s" if len(same) > 1 else ""} {seeds}'
      drawing = plots.ledger(bars, marks, last)
      drawing = f'<div class="{styles[name]}">{drawing}</div>'
      caption = html.chip(styles[name], name, note)
      figures.append(html.figure(drawing, caption))
  return html.row(figures)


def teachers(records: Iterable[dict[str, Any]]) -> list[str]:
  """The teachers of nights, in the order in which they come."""
  names: dict[str, None] = {}
  for night in records:
    for row in (night['divergence_at_0'], *night['divergence']):
      names |= dict.fromkeys(k for k in row if k not in ('update', 'loss'))
  return list(names)


def _series(
  name: str,
  runs: list[Run],
  style: str,
  read: Read,
) -> Series | None:
  """What one strategy's curve needs, or None where nothing is known."""
  lines = [_line(run['evaluations'], read) for run in runs]
  ends = [line['mornings'] for line in lines]
  if _skips(runs):  # It has no way, only an end: a level to compare with.
    values = [line[-1][1] for line in ends if line]
    return {**_empty(name, style), 'level': _mean(values)} if values else None
  one = mean_of(name, style, ends)
  evenings = mean_of(name, style, [line['evenings'] for line in lines])
  if one and evenings:
    one['evenings'] = evenings['mornings']
  return one or evenings


def _skips(runs: list[Run]) -> bool:
  """Whether this is a strategy like `joint`, judged only in the end."""
  return any(not cycles.cycle_changes(run['evaluations']) for run in runs)


def _line(
  evaluations: list[dict[str, Any]], read: Read
) -> dict[str, list[svg.Point]]:
  """The values of all evenings and of all mornings, as far as known."""
  evenings, mornings = cycles.evenings_and_mornings(evaluations)
  lines: dict[str, list[svg.Point]] = {'evenings': [], 'mornings': []}
  finished = 0
  for cycle in sorted({*evenings, *mornings}):
    begun = finished + 1
    for name, records in (('evenings', evenings), ('mornings', mornings)):
      if cycle in records:
        number = records[cycle]['experience']
        value = read(records[cycle], begun if number is None else number)
        finished = max(finished, number or 0)
        if not math.isnan(value):
          lines[name].append((cycle, value))
  return lines


def mean_of(
  name: str, style: str, lines: list[list[svg.Point]]
) -> Series | None:
  """A curve through the mean of lines, with them behind it; None if empty."""
  at = defaultdict(list)
  for line in lines:
    for cycle, value in line:
      at[cycle].append(value)
  if not at:
    return None
  mean = [(cycle, _mean(at[cycle])) for cycle in sorted(at)]
  return {**_empty(name, style), 'mornings': mean, 'seeds': lines}


def _empty(name: str, style: str) -> dict[str, Any]:
  return {
    'label': name,
    'style': style,
    'mornings': [],
    'evenings': [],
    'seeds': [],
    'level': None,
  }


def _harms(run: Run) -> list[svg.Point]:
  changes = cycles.cycle_changes(run['evaluations'])
  return [(c['cycle'], c['harm']) for c in changes if c['harm'] is not None]


def _prior(evaluation: dict[str, Any], met: int) -> float:
  del met  # What was known at birth does not grow.
  return cycles.get_score(evaluation, 'pretrain')


def _so_far(evaluation: dict[str, Any], met: int) -> float:
  return _mean(cycles.get_score(evaluation, j + 1) for j in range(met))


def _newest(evaluation: dict[str, Any], met: int) -> float:
  return cycles.get_score(evaluation, met) if met else math.nan


def _field(name: str) -> Read:
  def read(evaluation: dict[str, Any], met: int) -> float:
    del met  # The same text, whatever was met.
    value = evaluation.get(name)
    return math.nan if value is None else value

  return read


def _with_pretrain(evaluations: list[dict[str, Any]]) -> np.ndarray:
  """R with the birth probes as column 0."""
  matrix = retention.r_matrix(evaluations)
  pretrain = np.full((len(matrix), 1), np.nan)
  for evaluation in evaluations:
    if evaluation['experience'] is not None:
      pretrain[evaluation['experience']] = cycles.get_score(evaluation, 'pretrain')
  return np.concatenate([pretrain, matrix], axis=1)


def _lives(
  entries: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """Bars from activation or merge to reset, and marks of discarded nights."""
  bars, marks = [], []
  living: dict[tuple[int, int], dict[str, Any]] = {}
  for entry in entries:
    row, night = (entry['level'], entry['slot']), entry['night']
    if entry['slot'] is None:  # A night that grew nothing.
      continue
    if entry['event'] in ('activated', 'merged'):
      if row in living:
        living.pop(row)['stop'] = night
      living[row] = {'row': row, 'start': night, 'stop': None}
      bars.append(living[row])
    elif entry['event'] == 'discarded':
      marks.append({'row': row, 'night': night})
    elif entry['event'] == 'reset' and row in living:
      living.pop(row)['stop'] = night
  return bars, marks


def _mean(values: Iterable[float]) -> float:
  known = [v for v in values if not math.isnan(v)]
  return float(np.mean(known)) if known else math.nan
