"""Builds the tables of a comparison that a study does not have."""

from collections.abc import Mapping, Sequence

from sleep_jax.evaluate import cycles
from sleep_jax.report import compared_runs, figures, html, tables, text_format


def at_budget(
  at: Mapping[float, figures.Groups], styles: figures.Styles
) -> html.Table:
  """Returns accuracy and learned experiences at shares of a budget.

  Args:
    at: share -> rows, see `compared_runs.at_share`.
    styles: strategy -> class.
  """
  names = dict.fromkeys(name for rows in at.values() for name in rows)
  head = [('', ['strategy'])]
  head += [
    (
      f'{100 * share:.0f} %',
      ['seeds', 'accuracy ↑', 'prior accuracy ↑', 'learned'],
    )
    for share in at
  ]
  body: list[list[str | html.Cell]] = []
  for name in names:
    cells: list[str | html.Cell] = [html.Cell(name, style=styles[name])]
    for rows in at.values():
      own = rows.get(name, [])
      cells += [
        tables.num_seeds(own),
        _number(tables.values(own, 'acc')),
        _number(tables.values(own, 'prior')),
        _number(tables.values(own, 'experiences'), 1),
      ]
    body.append(cells)
  return html.Table(head, body)


def not_finished(results: Sequence[compared_runs.Result]) -> html.Table:
  """Returns the units that failed, and the strategies that do not apply."""
  rows: list[list[str | html.Cell]] = []
  skipped: dict[tuple[str, str], int] = {}
  for result in results:
    unit = result['unit']
    if result['status'] == 'failed':
      rows.append(
        [
          f'{unit["strategy"]}, seed {unit["seed"]}, order {unit["order"]}',
          f'failed: {result["error"]}',
          html.Cell(result['reason'], kind='words'),
        ]
      )
    elif result['status'] == 'skipped':
      key = unit['strategy'], result['reason']
      skipped[key] = skipped.get(key, 0) + 1
  for (strategy, reason), num in skipped.items():
    rows.append(
      [
        strategy, f'does not apply ({num} units skipped)',
        html.Cell(reason, kind='words'),
      ]
    )  # fmt: skip
  return html.Table([('', ['unit', 'status', 'reason'])], rows)


def units(results: Sequence[compared_runs.Result]) -> html.Table:
  """Returns one row per unit: data, sources, revision and numbers."""
  rows: list[list[str | html.Cell]] = []
  for result in results:
    unit = result['unit']
    start = [
      unit['strategy'], str(unit['seed']), str(unit['order']), result['status'],
      result.get('data', text_format.UNKNOWN), result['sources'],
      str(result['revision']),
      text_format.quantity(result.get('peak_bytes', 0)),
    ]  # fmt: skip
    for run in result['runs'] or [{'strategy': '', 'summary': {}}]:
      summary = run['summary']
      seconds = summary.get('seconds')
      rows.append(
        [
          *start, run['strategy'],
          *(
            _number([summary.get(metric.key)])
            for metric in (tables.PRIOR_AFTER, tables.FINAL, tables.LEARNING)
          ),
          text_format.UNKNOWN if seconds is None
          else text_format.duration(seconds),
        ]
      )  # fmt: skip
  return html.Table(
    [
      ('unit', ['strategy', 'seed', 'order', 'status']),
      ('made with', ['data', 'sources', 'revision', 'peak memory, bytes']),
      ('run', ['run', 'prior accuracy', 'final accuracy', 'learning accuracy',
               'time']),
    ],
    rows,
  )  # fmt: skip


def _number(seeds: Sequence[float | None], digits: int = 3) -> str | html.Cell:
  mean, half = cycles.mean_and_interval(seeds)
  if mean is None:
    return text_format.UNKNOWN
  note = '' if half is None else f'± {half:.{digits}f}'
  return html.Cell(text_format.signed(mean, digits), note=note)
