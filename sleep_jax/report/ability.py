"""Builds the tables of what a pretrained model could do before, and still can.

Every change is against the initial model, on the same texts and questions.
"""

from sleep_jax.evaluate import ability_summary, cycles
from sleep_jax.report import day_names, figures, html, tables, text_format

Metric = tables.Metric
PERPLEXITY_BEFORE = Metric(
  'perplexity_initial', 'perplexity before',
  'of the initial model, on ordinary text', better=0,
)  # fmt: skip
PERPLEXITY_CHANGE = Metric(
  'perplexity_change', 'change of perplexity',
  'relative change on the same text, at the end (0.01 is 1 %)', better=-1,
)  # fmt: skip
EVERYDAY = Metric(
  'everyday_kl', 'divergence on everyday answers',
  'KL(initial model || model) on answers of the initial model to everyday '
  'requests, at the end, nats per token', better=-1,
)  # fmt: skip
READING_BEFORE = Metric(
  'reading_initial', 'reading before',
  'share of questions about a passage in the prompt whose answer contains a '
  'right one, initial model', better=0,
)  # fmt: skip
READING_CHANGE = Metric(
  'reading_change', 'change of reading',
  'of that share, on the same questions, at the end',
)  # fmt: skip
LOW = Metric(
  'reading_low', 'reading, lower end',
  'lower end of the 95 % interval of that change, by a paired bootstrap over '
  'the questions', better=0,
)  # fmt: skip
HIGH = Metric(
  'reading_high', 'reading, upper end', 'its upper end', better=0
)  # fmt: skip
COLUMNS = (
  PERPLEXITY_BEFORE, PERPLEXITY_CHANGE, EVERYDAY, READING_BEFORE,
  READING_CHANGE, LOW, HIGH,
)  # fmt: skip
_DIGITS = {'perplexity_initial': 2, 'perplexity': 2, 'everyday_kl': 4}


def is_measured(groups: figures.Groups) -> bool:
  """Returns whether a run has measured its ability."""
  return any(
    ability_summary.KEY in evaluation
    for runs in groups.values()
    for run in runs
    for evaluation in run['evaluations']
  )


def table(groups: figures.Groups, styles: figures.Styles) -> html.Table:
  """Returns one row per strategy, as at its latest measurement."""
  head = [
    ('', ['strategy']),
    ('ordinary text', [
      'tokens', 'perplexity before', 'after', 'change, % ↓'
    ]),
    ('everyday answers', ['divergence, nats per token ↓']),
    ('reading', [
      'questions', 'contained before', 'after', 'change ↑', 'exact, change ↑'
    ]),
    ('cost', ['processor time of a morning']),
  ]  # fmt: skip
  rows = []
  for name, runs in groups.items():
    if not is_measured({name: runs}):
      continue
    seconds = _mean(runs, 'ability_cpu_seconds')
    rows.append(
      [
        html.Cell(name, note=tables.statuses(runs), style=styles[name]),
        _count(runs, 'text_tokens'),
        _number(runs, 'perplexity_initial'),
        _number(runs, 'perplexity'),
        _number(runs, 'perplexity_change', scale=100),
        _number(runs, 'everyday_kl'),
        _count(runs, 'reading_questions'),
        _number(runs, 'reading_initial'),
        _number(runs, 'reading'),
        _reading_change(runs),
        _number(runs, 'reading_exact_change'),
        text_format.UNKNOWN
        if seconds is None
        else text_format.duration(seconds),
      ]
    )
  return html.Table(head, rows)


def mornings(groups: figures.Groups) -> html.Table:
  """Returns one row per run and morning, on the sets of a morning."""
  head = [
    ('', ['run', 'morning', 'after']),
    ('ordinary text', ['loss, nats per token', 'change of perplexity, %']),
    ('everyday answers', ['divergence']),
    ('reading', ['contained', 'change', '95 % interval']),
    ('cost', ['processor time']),
  ]
  rows: list[list[str | html.Cell]] = []
  for name, runs in groups.items():
    for run in runs:
      for evaluation in run['evaluations']:
        found = evaluation.get(ability_summary.KEY)
        if found is None:
          continue
        text, reading = found.get('text') or {}, found.get('reading') or {}
        divergence = (found.get('everyday') or {}).get('kl')
        interval = text_format.UNKNOWN
        if reading:
          interval = _interval(reading['low'], reading['high'])
        full = ' (with the full sets)' if found.get('full') else ''
        rows.append(
          [
            f'{name}, seed {run["seed"]}',
            str(evaluation['cycle']),
            _after(run, evaluation),
            _signed(text.get('loss'), 4),
            _signed(text.get('change'), 2, scale=100),
            _signed(divergence, 4),
            _signed(reading.get('contained'), 3),
            _signed(reading.get('change'), 3),
            interval,
            text_format.duration(found['cpu_seconds']) + full,
          ]
        )
  return html.Table(head, rows)


def _after(run: figures.Run, evaluation: cycles.Evaluation) -> str:
  """Returns what the model had learned last."""
  if evaluation['moment'] == 'initial':
    return 'the initial model'
  number = evaluation['experience']
  return day_names.name(run, number) or text_format.value(number)


def _reading_change(runs: list[figures.Run]) -> str | html.Cell:
  """Returns the change of reading, and its paired interval below it.

  With several seeds, the ends are means over seeds.
  """
  change = _mean(runs, 'reading_change')
  ends = _mean(runs, 'reading_low'), _mean(runs, 'reading_high')
  if change is None or ends[0] is None or ends[1] is None:
    return text_format.UNKNOWN
  return html.Cell(
    text_format.signed(change, 3), note=_interval(ends[0], ends[1])
  )


def _interval(low: float, high: float) -> str:
  return f'{text_format.signed(low, 3)} to {text_format.signed(high, 3)}'


def _mean(runs: list[figures.Run], key: str) -> float | None:
  return cycles.mean_and_interval(tables.values(runs, key))[0]


def _count(runs: list[figures.Run], key: str) -> str:
  mean = _mean(runs, key)
  return text_format.UNKNOWN if mean is None else f'{mean:,.0f}'


def _number(
  runs: list[figures.Run], key: str, *, scale: float = 1
) -> str | html.Cell:
  """Returns the mean over seeds and half of its interval."""
  mean, half = cycles.mean_and_interval(tables.values(runs, key))
  if mean is None:
    return text_format.UNKNOWN
  digits = 2 if scale != 1 else _DIGITS.get(key, 3)
  note = '' if half is None else f'± {scale * half:.{digits}f}'
  return html.Cell(text_format.signed(scale * mean, digits), note=note)


def _signed(value: float | None, digits: int, *, scale: float = 1) -> str:
  if value is None:
    return text_format.UNKNOWN
  return text_format.signed(scale * value, digits)
