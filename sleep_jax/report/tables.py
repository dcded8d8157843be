"""Builds the tables of results and of cost: one row per strategy.

A row is the mean over seeds. An unfinished seed is not comparable with a
finished one, so it counts only while no seed of its strategy is finished.
"""

import dataclasses
from typing import Any

from sleep_jax.evaluate import cycles, retention
from sleep_jax.report import figures, html, text_format


@dataclasses.dataclass(frozen=True)
class Metric:
  """A column of the table of results.

  Attributes:
    key: name in `summary.json`.
    name: heading.
    meaning: definition in one sentence.
    better: 1 if higher is better, -1 if lower is better, 0 for neither.
  """

  key: str
  name: str
  meaning: str
  better: int = 1

  @property
  def heading(self) -> str:
    """Returns the name with an arrow towards better values."""
    return f'{self.name} {("", "↑", "↓")[self.better]}'.strip()


PRIOR_BEFORE = Metric(
  'prior_initial', 'prior accuracy before',
  'accuracy of the initial model on what was pretrained', better=0,
)  # fmt: skip
LEARNING = Metric(
  'la', 'learning accuracy',
  'accuracy on each experience right after it was learned',
)  # fmt: skip
COST_TO_NEW = Metric(
  'cost_to_new', 'cost to the new',
  'change of accuracy on the day’s own experience over its nights',
)  # fmt: skip
FORWARD = Metric(
  'fwt', 'forward transfer',
  'gain on an experience before it is learned, over the initial model',
)  # fmt: skip
PRIOR_AFTER = Metric(
  'prior', 'prior accuracy after',
  'accuracy on what was pretrained, at the end',
)  # fmt: skip
FINAL = Metric(
  'acc', 'final accuracy',
  'accuracy on all experiences, at the end',
)  # fmt: skip
BACKWARD = Metric(
  'bwt', 'backward transfer',
  'final minus learning accuracy, without the last experience',
)  # fmt: skip
FORGETTING = Metric(
  'forgetting', 'forgetting',
  'best past accuracy on an experience minus the final one', better=-1,
)  # fmt: skip
HARM = Metric(
  'harm_of_sleep', 'harm of the cycle',
  'change of accuracy on all earlier knowledge over a day and its nights',
)  # fmt: skip
DAMAGE = Metric(
  'damage_awake', 'damage while awake',
  'the same change over the day alone, before its nights',
)  # fmt: skip
OPEN_BEFORE = Metric(
  'start_open', 'with the text, before',
  'accuracy of the initial model on all experiences, with the document, or its '
  'end, in front of the question', better=0,
)  # fmt: skip
OPEN_AFTER = Metric(
  'acc_open', 'with the text, at the end', 'the same after the last night',
)  # fmt: skip
MINUTES = Metric('seconds', 'minutes', 'time of learning', better=-1)
SCORES = (
  ('before', [PRIOR_BEFORE]),
  ('learning', [LEARNING, COST_TO_NEW, FORWARD]),
  ('at the end', [PRIOR_AFTER, FINAL, BACKWARD, FORGETTING, HARM, DAMAGE]),
)
# Where the dataset scores generated texts.
TEXT_SCORES = (
  Metric(
    'start_text', 'text score before',
    'of what the initial model generates on all experiences', better=0,
  ),
  Metric(
    'la_text', 'text learning',
    'text score on each experience right after it was learned',
  ),
  Metric(
    'acc_text', 'final text score', 'text score on all experiences, at the end'
  ),
  Metric(
    'bwt_text', 'text backward transfer',
    'final minus learning text score, without the last experience',
  ),
)  # fmt: skip
COSTS = (
  ('tokens_read', 'tokens trained on', text_format.quantity),
  ('tokens_generated', 'tokens generated', text_format.quantity),
  ('tokens_forward', 'tokens of forward passes', text_format.quantity),
  ('steps', 'optimizer steps', text_format.quantity),
  ('flops', 'model FLOPs', text_format.quantity),
  ('seconds', 'time', text_format.duration),
  ('cpu_seconds', 'processor time', text_format.duration),
  ('added_parameters', 'added parameters', text_format.quantity),
  ('stored_bytes', 'stored replay, bytes', text_format.quantity),
  ('question_tokens', 'tokens before a question', text_format.quantity),
)


def values(runs: list[figures.Run], key: str) -> list[float | None]:
  """Returns one number of the summary of every run that counts."""
  return [run['summary'].get(key) for run in counted(runs)]


def counted(runs: list[figures.Run]) -> list[figures.Run]:
  """Returns the finished runs, or all runs if none is finished."""
  return [run for run in runs if run['status'] == 'finished'] or runs


def unfinished(runs: list[figures.Run]) -> list[figures.Run]:
  """Returns the runs that are in progress or stopped."""
  return [run for run in runs if run['status'] != 'finished']


def num_seeds(runs: list[figures.Run]) -> str:
  """Returns how many runs count, and of how many if not all do."""
  num = len(counted(runs))
  return str(num) if num == len(runs) else f'{num} of {len(runs)}'


def statuses(runs: list[figures.Run]) -> str:
  """Returns the status of the runs that count, if they are not finished."""
  return ', '.join(sorted({r['status'] for r in unfinished(counted(runs))}))


def has_text_scores(groups: figures.Groups) -> bool:
  """Returns whether a run has scored generated texts."""
  return any(
    value is not None
    for runs in groups.values()
    for metric in TEXT_SCORES
    for value in values(runs, metric.key)
  )


def _shown(groups: figures.Groups) -> list[tuple[str, list[Metric]]]:
  """Returns the columns of scores with their group headings."""
  texts = (
    [('generated text', [*TEXT_SCORES])] if has_text_scores(groups) else []
  )
  return [(name, [*metrics]) for name, metrics in SCORES] + texts


def meanings(groups: figures.Groups) -> dict[str, str]:
  """Returns what each column of scores means, by its name."""
  return {m.name: m.meaning for _, group in _shown(groups) for m in group}


def find_best(groups: figures.Groups, metric: Metric) -> set[str]:
  """Returns the strategies with the best mean, unless all are equal."""
  means = {
    name: cycles.mean_and_interval(values(runs, metric.key))[0]
    for name, runs in groups.items()
  }
  rounded = {n: round(v, 3) for n, v in means.items() if v is not None}
  if not metric.better or len(set(rounded.values())) < 2:
    return set()
  best = max(rounded.values(), key=lambda value: metric.better * value)
  return {name for name, value in rounded.items() if value == best}


def is_open(groups: figures.Groups) -> bool:
  """Returns whether a run has scored questions after their documents."""
  return any(
    values(runs, OPEN_BEFORE.key) != [None] * len(counted(runs))
    for runs in groups.values()
  )


def scores(groups: figures.Groups, styles: figures.Styles) -> html.Table:
  """Returns the accuracies, text scores and time of each strategy."""
  shown = _shown(groups)
  columns = [metric for _, metrics in shown for metric in metrics]
  head = [('', ['strategy', 'seeds'])]
  head += [(group, [m.heading for m in metrics]) for group, metrics in shown]
  head += [('cost', ['time ↓'])]
  best = {m.key: find_best(groups, m) for m in (*columns, MINUTES)}
  rows = []
  for name, runs in groups.items():
    style = lambda key, name=name: 'best' if name in best[key] else ''
    seconds, _ = cycles.mean_and_interval(values(runs, 'seconds'))
    rows.append(
      [
        html.Cell(name, note=statuses(runs), style=styles[name]),
        num_seeds(runs),
        *(_number(values(runs, m.key), style(m.key)) for m in columns),
        text_format.UNKNOWN
        if seconds is None
        else html.Cell(text_format.duration(seconds), kind=style('seconds')),
      ]
    )
  return html.Table(head, rows)


def further(groups: figures.Groups, styles: figures.Styles) -> html.Table:
  """Returns accuracies in the wordings of rehearsal and the prior's slope.

  Where questions were also asked after their documents, these accuracies too.
  """
  opened = (OPEN_BEFORE, OPEN_AFTER) if is_open(groups) else ()
  rows = []
  for name, runs in groups.items():
    records = [run['evaluations'] for run in counted(runs)]
    columns: tuple[list[float | None], ...] = (
      [_template_prior(record) for record in records],
      [
        retention.acc(retention.r_matrix(record, retention.TEMPLATES))
        for record in records
      ],
      [cycles.prior_slope(record) for record in records],
      *(values(runs, metric.key) for metric in opened),
    )
    rows.append([html.Cell(name, style=styles[name]), *map(_number, columns)])
  head = [
    ('', ['strategy']),
    (
      'questions worded as in rehearsal',
      [PRIOR_AFTER.heading, FINAL.heading],
    ),
    ('slope', ['prior accuracy, change per cycle ↑']),
  ]
  if opened:
    head.append(('in context', [metric.heading for metric in opened]))
  return html.Table(head, rows)


def costs(groups: figures.Groups, styles: figures.Styles) -> html.Table:
  """Returns what each strategy cost, with a bar against the largest value."""
  means = {
    (name, key): cycles.mean_and_interval(values(runs, key))[0]
    for name, runs in groups.items()
    for key, _, _ in COSTS
  }
  rows = []
  for name in groups:
    cells = [html.Cell(name, style=styles[name])]
    for key, _, form in COSTS:
      largest = max((means[n, key] or 0 for n in groups), default=0)
      value = means[name, key]
      cells.append(
        html.Cell(
          text_format.UNKNOWN if value is None else form(value),
          style=styles[name],
          meter=100 * (value or 0) / (largest or 1),
        )
      )
    rows.append(cells)
  return html.Table([('', ['strategy', *(c[1] for c in COSTS)])], rows)


def _number(seeds: list[float | None], kind: str = '') -> str | html.Cell:
  """Returns a cell with the mean over seeds and half of its interval."""
  mean, half = cycles.mean_and_interval(seeds)
  if mean is None:
    return text_format.UNKNOWN
  note = '' if half is None else f'± {half:.3f}'
  return html.Cell(text_format.signed(mean, 3), note=note, kind=kind)


def _template_prior(evaluations: list[dict[str, Any]]) -> float | None:
  if not evaluations:
    return None
  return cycles.get_score(evaluations[-1], 'pretrain', retention.TEMPLATES)
