"""Writes the page of a comparison: HTML, and the same tables as Markdown.

The page says first where `sleep` does not win. It is written again after every
unit, and can be drawn for any part of a comparison.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sleep_jax.evaluate import budgets, cycles
from sleep_jax.report import (
  compared_runs,
  comparison_tables,
  figures,
  html,
  markdown,
  planes,
  statements,
  tables,
  text_format,
)
from sleep_jax.storage import workdir

PAGE, TABLE = 'page.html', 'table.md'
INTERVALS = (
  'Numbers are means over seeds ± half the width of the 95 % confidence '
  'interval (t distribution); the number of a seed is its mean over orders. '
  '↑ higher is better, ↓ lower is better. Times of units on a CPU are '
  'CPU-seconds of one core. Other work on the machine lengthens them less than '
  'it does wall time: compare times of units that ran side by side.'
)
EQUAL = (
  'Every strategy is read at its last evaluation within a share of what '
  '`sleep` spends on the whole stream with the same seed: accuracy on all '
  'experiences, learned or not, and how many were learned by then.'
)


def write(
  folder: pathlib.Path | os.PathLike[str],
  results: Iterable[compared_runs.Result],
  config: Mapping[str, Any],
  *,
  num_planned: int | None,
) -> None:
  """Writes page.html and table.md, each whole.

  Args:
    folder: of the two files.
    results: of units, see `compare.result_files`.
    config: of the comparison, as JSON returns it.
    num_planned: units of the comparison, run or not; None if not known.
  """
  order = lambda r: (
    r['unit']['strategy'],
    r['unit']['seed'],
    r['unit']['order'],
  )
  found = compared_runs.with_comparable_times(sorted(results, key=order))
  groups, all_runs = compared_runs.by_seed(found), compared_runs.runs(found)
  at = {
    (budget, share): compared_runs.at_share(found, budget, share)
    for budget in budgets.BUDGETS
    for share in statements.SHARES
  }
  styles = {name: f's{i}' for i, name in enumerate(groups)}
  colours = html.colours(groups, html.STRATEGIES)
  mixed = compared_runs.seeds_of_several_data(found)
  ends = compared_runs.rates_at_an_end(found)
  said = statements.make(groups, at, mixed, ends)
  equal = {
    budget: comparison_tables.at_budget(
      {share: at[budget, share] for share in statements.SHARES}, styles
    )
    for budget in budgets.BUDGETS
  }
  made = {
    'study': config['name'],
    'said': said,
    'counts': _counts(found, num_planned),
    'scores': tables.scores(groups, styles),
    'equal': equal,
    'costs': tables.costs(groups, styles),
    'failed': comparison_tables.not_finished(found),
    'units': comparison_tables.units(found),
    'data': _data(found, config),
  }
  page = html.render(
    'comparison.html.j2',
    colours={styles[name]: pair for name, pair in colours.items()},
    curves=figures.curves(all_runs, styles),
    stability=html.Figure(_stability(groups, all_runs, styles)),
    spent={
      budget: html.Figure(_spent(all_runs, styles, budget))
      for budget in budgets.BUDGETS
    },
    meanings=tables.meanings(groups), intervals=INTERVALS, equal_caption=EQUAL,
    config=json.dumps(config, indent=2), **made,
  )  # fmt: skip
  workdir.write_text(pathlib.Path(folder) / PAGE, page)
  workdir.write_text(pathlib.Path(folder) / TABLE, _markdown(made))


def _markdown(made: Mapping[str, Any]) -> str:
  """Returns the sentences and tables of the page as Markdown."""
  said = made['said']
  parts = [
    f'# {made["study"]}', '## Where sleep does not win',
    markdown.bullets(said.losses), markdown.bullets(said.limits),
  ]  # fmt: skip
  if said.wins:
    parts += [
      '## Where no other strategy is better', markdown.bullets(said.wins)
    ]  # fmt: skip
  parts += [
    '## Results', made['counts'], INTERVALS, markdown.table(made['scores'])
  ]  # fmt: skip
  for budget, table in made['equal'].items():
    parts += [f'## At equal {budget}', EQUAL, markdown.table(table)]
  parts += [
    '## Cost', markdown.table(made['costs']),
    '## Failed and skipped', markdown.table(made['failed']),
    '## Units', made['data'], markdown.table(made['units']),
  ]  # fmt: skip
  return '\n\n'.join(part for part in parts if part) + '\n'


def _counts(
  results: Sequence[compared_runs.Result], num_planned: int | None
) -> str:
  """Returns how many units there are of each kind."""
  by_status = {
    status: sum(result['status'] == status for result in results)
    for status in ('finished', 'failed', 'skipped')
  }
  seeds = {r['unit']['seed'] for r in results if r['status'] == 'finished'}
  orders = {r['unit']['order'] for r in results if r['status'] == 'finished'}
  text = ', '.join(f'{num} {status}' for status, num in by_status.items())
  if num_planned is None:
    text = f'Units: {text}.'
  else:
    left = num_planned - len(results)
    text = f'{num_planned} units are planned: {text}, {left} not run yet.'
  return f'{text} Seeds {_list(seeds)}, orders {_list(orders)}.'


def _data(
  results: Sequence[compared_runs.Result], config: Mapping[str, Any]
) -> str:
  """Returns which data set the numbers are of."""
  names = [day for r in results for run in r['runs'] for day in run['days']]
  num = max((len(run['days']) for r in results for run in r['runs']), default=0)
  settings = config['data']['settings']
  shown = ', '.join(f'{name} {value}' for name, value in settings.items())
  return (
    f'Data set: {config["data"]["dataset"]} ({shown}), '
    f'{num or len(names)} experiences in each run. The digest of a unit is of '
    'all texts and questions that it read, in any order.'
  )


def _stability(
  groups: figures.Groups, all_runs: figures.Groups, styles: figures.Styles
) -> str:
  """Draws prior accuracy at the end against learning accuracy."""
  marks = []
  for name, rows in groups.items():
    point = lambda key, rows=rows: cycles.mean_and_interval(
      tables.values(rows, key)
    )[0]
    x, y = point('la'), point('prior')
    if x is None or y is None:
      continue
    small = [
      [(run['summary']['la'], run['summary']['prior'])]
      for run in all_runs.get(name, [])
      if None not in (run['summary']['la'], run['summary']['prior'])
    ]
    marks.append(planes.Marks(name, styles[name], [(x, y)], small))
  return planes.plane(
    marks, title='Stability: prior accuracy at the end',
    x_title='plasticity: learning accuracy',
  )  # fmt: skip


def _spent(
  all_runs: figures.Groups, styles: figures.Styles, budget: str
) -> str:
  """Draws accuracy on the whole stream against what was spent."""
  marks = []
  for name, members in all_runs.items():
    lines = [budgets.curve(run['evaluations'], budget) for run in members]
    lines = [line for line in lines if line]
    if lines:
      # All runs of a strategy have the same evaluations.
      num = min(map(len, lines))
      mean = [
        tuple(
          sum(line[i][axis] for line in lines) / len(lines) for axis in (0, 1)
        )
        for i in range(num)
      ]
      marks.append(planes.Marks(name, styles[name], mean, lines, joined=True))
  in_time = budget == budgets.SECONDS
  return planes.plane(
    marks, title='Accuracy on all experiences of the stream',
    x_title=f'{budget} spent',
    x_text=text_format.duration if in_time else text_format.quantity,
  )  # fmt: skip


def _list(values: Iterable[int]) -> str:
  return ', '.join(map(str, sorted(values))) or 'none'
