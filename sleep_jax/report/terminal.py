"""Prints the results of a study as a table for the terminal."""

import rich.box
import rich.console
import rich.padding
import rich.table

from sleep_jax.evaluate import cycles
from sleep_jax.report import ability, figures, tables, text_losses

WIDTH = 100  # Characters, where the output is not a terminal.
_ROOMY = 88  # From this width on, columns are two spaces apart.
COLUMNS = (
  tables.PRIOR_BEFORE,
  tables.LEARNING,
  tables.COST_TO_NEW,
  tables.FINAL,
  tables.BACKWARD,
  tables.PRIOR_AFTER,
  tables.HARM,
  tables.MINUTES,
)
_LEGEND = """\
Accuracies are fractions of probe questions answered correctly (0 to 1), means \
over the finished seeds; ± is half the 95 % confidence interval. ↑ higher is \
better, ↓ lower is better, * best of the column, - unknown. A change below 0 \
is a loss."""
_ABILITY = """\
What the model could do before, against the initial model on the same texts \
and questions."""
_UNFINISHED = """\
Strategies without a finished seed show the state of all their seeds so far."""


def table(groups: figures.Groups) -> str:
  """Returns the table with a legend, ready to print.

  Runs without probes are shown by their losses on held-out text. The table is
  as wide as the terminal and uses its styles. Where the output is not a
  terminal, it is at most `WIDTH` columns wide and plain text.

  Args:
    groups: runs by strategy.
  """
  console = rich.console.Console(highlight=False, markup=False, emoji=False)
  if not console.is_terminal:
    console.width = WIDTH
  columns: tuple[tables.Metric, ...] = COLUMNS
  legend = _LEGEND
  if groups and not text_losses.has_scores(groups):
    columns, legend = text_losses.COLUMNS, text_losses.LEGEND
    groups = text_losses.with_losses(groups)
  with console.capture() as capture:
    console.print(_results(groups, columns, console.width))
    console.print()
    console.print(legend)
    _print_meanings(console, columns[:-1])
    if tables.has_text_scores(groups):
      console.print()
      console.print(_results(groups, tables.TEXT_SCORES, console.width))
      console.print()
      _print_meanings(console, tables.TEXT_SCORES)
    if tables.is_open(groups):
      opened = (tables.OPEN_BEFORE, tables.OPEN_AFTER)
      console.print()
      console.print(_results(groups, opened, console.width))
      console.print()
      _print_meanings(console, opened)
    if ability.is_measured(groups):
      console.print()
      console.print(_results(groups, ability.COLUMNS, console.width))
      console.print()
      console.print(_ABILITY)
      _print_meanings(console, ability.COLUMNS)
    if any(map(tables.statuses, groups.values())):
      console.print(_UNFINISHED)
  return '\n'.join(line.rstrip() for line in capture.get().splitlines())


def _results(
  groups: figures.Groups, columns: tuple[tables.Metric, ...], width: int
) -> rich.table.Table:
  """Returns the table: a row per strategy, a column per metric."""
  best = {metric.key: tables.find_best(groups, metric) for metric in columns}
  best[tables.MINUTES.key] = set()  # Doing nothing is fastest.
  results = rich.table.Table(
    box=rich.box.SIMPLE_HEAD,
    show_edge=False,
    pad_edge=False,
    padding=(0, 0, 0, 1 if width >= _ROOMY else 0),
  )
  results.add_column('strategy,\nfinished\nseeds', no_wrap=True)
  for metric in columns:
    least = max(7, *map(len, metric.heading.split()))  # 7: '-0.123*'.
    results.add_column(
      metric.heading, justify='right', overflow='fold', width=least
    )
  for name, runs in groups.items():
    num_finished = len(runs) - len(tables.unfinished(runs))
    results.add_row(
      f'{name}\n{num_finished} of {len(runs)}',
      *(_number(metric, runs, name in best[metric.key]) for metric in columns),
    )
  return results


def _print_meanings(
  console: rich.console.Console, columns: tuple[tables.Metric, ...]
) -> None:
  for metric in columns:
    line = f'{metric.name}: {metric.meaning}'
    console.print(rich.padding.Padding(line, (0, 0, 0, 2)))


def _number(
  metric: tables.Metric, runs: list[figures.Run], is_best: bool
) -> str:
  """Returns the mean over seeds, and below it half of its interval."""
  mean, half = cycles.mean_and_interval(tables.values(runs, metric.key))
  if mean is None:
    return '-'
  mark = '*' if is_best else ''
  if metric is tables.MINUTES:
    return f'{mean / 60:.1f}{mark}'
  interval = '' if half is None else f'\n± {half:.3f}'
  return f'{mean:.3f}{mark}{interval}'
