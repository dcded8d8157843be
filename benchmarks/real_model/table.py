"""Writes one page of Markdown tables from the results of units.

python -m benchmarks.real_model.table --results=docs/results/real/study \
  > docs/results/real/study.md

A cell is the mean over seeds, with the smallest and the largest in brackets.
Intervals are 95 % bootstrap intervals, paired: the same questions, answered by
two models. Facts are drawn with all of their wordings, and questions about
passages, which all seeds are asked, with their answers of all seeds.
"""

import pathlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks.real_model import recall, results, subjects, words
from sleep_jax.evaluate import reading

_RESULTS = flags.DEFINE_string(
  'results', 'docs/results/real/study', 'Folder with a file for each unit.'
)
_SPLIT = flags.DEFINE_enum('split', words.TEST, words.SPLITS, 'Which units.')

TITLES = {
  'a': 'Rows of questions and answers',
  'b': 'Conversations, told in free sentences',
  'c': 'Pages, read',
}
# The rows of (a) answer with the value alone; in (b) and (c) the model answers
# in sentences of its own.
_SCORE = {'a': 'exact', 'b': 'contained', 'c': 'contained'}
_NONE = '-'

Strategies = Mapping[str, Sequence[results.Result]]


def page(units: results.Units) -> str:
  """Returns all tables.

  Args:
    units: see `results.load`.
  """
  parts = []
  for form in recall.FORMS:
    if form in units:
      parts += [f'## ({form}) {TITLES[form]}', *_form(units[form], form)]
  rows = {
    f'{strategy} ({form})': found
    for form, strategies in units.items()
    for strategy, found in strategies.items()
  }
  if abilities := _abilities(rows):
    parts += ['## What it could do before', abilities]
  parts += ['## Cost', _costs(rows), '## Units', _units(rows)]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _form(strategies: Strategies, form: str) -> list[str]:
  """Returns the tables of one form."""
  score = _SCORE[form]
  first = next(iter(strategies.values()))
  share = lambda kind: _cell(
    first, lambda r: results.at(r, 'initial', kind)['recall']['contained']
  )
  return [
    f'Score: `{score}`. Of the pretrained model, {share("closed")} of the '
    f'answers contain the value, and {share("context")} with the text that '
    'tells it in front.',
    _recall(strategies, score),
    _by_day(strategies, score),
    _compared(strategies, score),
    _counts(strategies),
  ]


def _recall(strategies: Strategies, score: str) -> str:
  """How much is answered on the day itself, and at the end."""
  rows = [
    [
      f'`{name}`', len(found),
      *(
        _cell(found, lambda r, m=m: np.mean(
          results.scores(results.own_days(r, m), score)))
        for m in ('evening', 'morning')
      ),
      _cell(found, lambda r: results.end(r)['recall'][score]),
      _night(found, score),
    ]
    for name, found in strategies.items()
  ]  # fmt: skip
  return _table(
    ['strategy', 'seeds', 'evening, of its own day', 'morning after',
     'all days at the end', 'morning - evening, 95 %'], rows
  )  # fmt: skip


def _night(found, score) -> str:
  """Returns the interval of what a night changes for its day's questions."""
  if not results.costs(found, 'night'):
    return _NONE
  pairs = [
    (r, results.own_days(r, 'evening'), results.own_days(r, 'morning'))
    for r in found
  ]
  return _of_facts(pairs, score)[1]


def _by_day(strategies: Strategies, score: str) -> str:
  """How much of each day is answered at the end."""
  by_day = lambda r: results.end(r)['recall']['by_day']
  days = sorted({d for found in strategies.values() for r in found
                 for d in by_day(r)})  # fmt: skip
  rows = [
    [
      f'`{name}`',
      # Units may have different numbers of days.
      *(
        _cell(found, lambda r, d=day: by_day(r).get(d, {}).get(score))
        for day in days
      ),
    ]
    for name, found in strategies.items()
  ]
  return _table(['at the end', *(f'day {day}' for day in days)], rows)


def _compared(strategies: Strategies, score: str) -> str:
  """How much less the baselines answer at the end, for the same questions."""
  # Units of other numbers of days or facts have other questions.
  asked = lambda r: [
    r['unit'][name] for name in ('seed', 'num_days', 'facts_per_day', 'model')
  ]
  slept = {str(asked(r)): r for r in strategies.get(subjects.SLEEP, ())}
  rows = []
  for name, found in strategies.items():
    theirs = [r for r in found if str(asked(r)) in slept]
    if name == subjects.SLEEP or not theirs:
      continue
    pairs = [
      (r, *(results.end(x)['answers'] for x in (r, slept[str(asked(r))])))
      for r in theirs
    ]
    rows.append([f'`{name}`', len(theirs), *_of_facts(pairs, score)])
  if not rows:
    return ''
  header = ['baseline', 'seeds', '`sleep` - baseline at the end', '95 %']
  return _table(header, rows)


def _counts(strategies: Strategies) -> str:
  """What is said of facts that changed, and of the never told."""
  rows = []
  for name, found in strategies.items():
    changed = [results.end(r)['corrections'] for r in found]
    unknown = [results.at(r, 'final', 'never_told') for r in found]
    before = [results.at(r, 'initial', 'closed')['never_told'] for r in found]
    rows.append([
      f'`{name}`', results.total(changed, 'facts'),
      *(results.share_of(changed, key) for key in ('new', 'old')),
      *(results.share_of(x, 'learned') for x in (unknown, before)),
    ])  # fmt: skip
  return _table(
    ['strategy', 'corrected facts', 'new value said', 'old value said',
     'never told: a learned value said', 'the same before the first day'], rows
  )  # fmt: skip


def _abilities(units: Strategies) -> str:
  """Text, everyday answers and reading, at the end against the start."""
  rows = []
  for name, found in units.items():
    pairs = [
      tuple(results.at(r, 'ability', when) for when in ('initial', 'final'))
      for r in found
    ]
    before, after = ([p[n] for p in pairs if all(p)] for n in (0, 1))
    if before:
      rows.append([
        f'`{name}`', len(before),
        _cell(after, _picker('text', 'change'), '{:+.2%}'),
        _cell(after, _picker('everyday', 'kl'), '{:.3f}'),
        *(_cell(x, _picker('reading', 'contained')) for x in (before, after)),
        _reading_interval(before, after),
      ])  # fmt: skip
  if not rows:
    return ''
  return _table(
    ['strategy', 'seeds', 'perplexity', 'everyday answers, KL (nats a token)',
     'reading before', 'reading after', 'change, 95 %'], rows
  )  # fmt: skip


def _picker(part: str, key: str) -> Callable[[results.Result], Any]:
  return lambda measured: measured.get(part, {}).get(key)


def _reading_interval(before, after) -> str:
  """Returns the interval of the change; all seeds have the same questions."""
  right = [
    [measured.get('reading', {}).get('right', ()) for measured in found]
    for found in (before, after)
  ]
  if not right[0][0]:
    return _NONE
  numbers = [n for answers in right[0] for n in range(len(answers))]
  return _difference(*map(np.concatenate, right), numbers)[1]


def _costs(units: Strategies) -> str:
  """What days and nights cost, where no kill hid it."""
  rows = []
  for name, found in units.items():
    everything = [
      cost for kind in ('wake', 'night') for cost in results.costs(found, kind)
    ]
    compiling = sum(cost['compile_seconds'] for cost in everything)
    rows.append([
      f'`{name}`',
      *(
        _mean([c['cpu_seconds'] for c in results.costs(found, k, first=first)])
        for first in (False, True) for k in ('wake', 'night')
      ),
      _mean([compiling / len(found)]),
      _mean([max((c['peak_bytes'] for c in everything), default=0) / 1e9],
            '{:.1f}'),
    ])  # fmt: skip
  return _table(
    ['strategy', 'CPU-s of a later day', 'of its night', 'of the first day',
     'of the first night', 'compiling, s a unit', 'peak memory, GB'], rows
  )  # fmt: skip


def _units(units: Strategies) -> str:
  """Which code and config each file of results is of."""
  rows = [
    [
      f'`{name}`', r['unit']['seed'], r['unit']['num_days'],
      f'`{r["unit"]["model"]}`',
      ', '.join([r['revision'], *r.get('later_revisions', ())]), r['key'],
    ]
    for name, found in units.items()
    for r in found
  ]  # fmt: skip
  return _table(['unit', 'seed', 'days', 'model', 'revision', 'key'], rows)


def _of_facts(
  pairs: Sequence[tuple[Any, Sequence[Any], Sequence[Any]]], score: str
) -> tuple[str, str]:
  """Returns `_difference` of (unit, answers before, answers after)."""
  before, after = (
    np.concatenate([results.scores(pair[n], score) for pair in pairs])
    for n in (1, 2)
  )
  facts = [f for unit, rows, _ in pairs for f in results.facts_of(unit, rows)]
  return _difference(before, after, facts)


def _difference(
  before_N: np.ndarray, after_N: np.ndarray, group_N: Sequence[Hashable]
) -> tuple[str, str]:
  """Returns the mean of `after - before`, and its paired interval."""
  low, high = reading.paired_interval(before_N, after_N, group_N=group_N)
  mean = float(np.mean(after_N) - np.mean(before_N))
  return f'{mean:+.2f}', f'{low:+.2f} to {high:+.2f}'


def _cell(
  found: Sequence[Any], value: Callable[[Any], Any], form: str = '{:.2f}'
) -> str:
  """Returns the mean over seeds, and the smallest and the largest."""
  values = [x for x in map(value, found) if x is not None]
  if not values:
    return _NONE
  text = form.format(float(np.mean(values)))
  if len(values) > 1:
    text += f' ({form.format(min(values))} to {form.format(max(values))})'
  return text


def _mean(values: Sequence[float], form: str = '{:.0f}') -> str:
  return form.format(float(np.mean(values))) if values else _NONE


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def main(argv):
  del argv
  found = results.load(pathlib.Path(_RESULTS.value), _SPLIT.value)
  print(page(found), end='')


if __name__ == '__main__':
  app.run(main)
