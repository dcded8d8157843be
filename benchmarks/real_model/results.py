"""Reads the files of finished units, and picks numbers out of them."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.real_model import subjects
from sleep_jax.storage import workdir

Result = Mapping[str, Any]  # As `unit.run` returns it.
Units = Mapping[str, Mapping[str, Sequence[Result]]]  # Form, strategy.


def load(folder: pathlib.Path, split: str) -> Units:
  """Returns the results by form and strategy, in the order of seeds.

  Args:
    folder: with the files of `unit.run`.
    split: of the units.

  Raises:
    ValueError: there are none, or those of one strategy differ in more than
      their seeds.
  """
  units = [json.loads(path.read_text()) for path in folder.glob('*.json')]
  units = [result for result in units if result['unit']['split'] == split]
  if not units:
    raise ValueError(f'{folder} has no results of the split {split!r}.')
  order = lambda r: (
    r['unit']['form'], r['unit']['strategy'] != subjects.SLEEP,
    r['unit']['strategy'], r['unit']['seed'],
  )  # fmt: skip
  found: dict[str, dict[str, list[Result]]] = {}
  for result in sorted(units, key=order):
    form, strategy = result['unit']['form'], result['unit']['strategy']
    seeds = found.setdefault(form, {}).setdefault(strategy, [])
    seeds.append(result)
    _check_equal(folder, seeds[0], result)
  return found


def _check_equal(folder: pathlib.Path, first: Result, other: Result) -> None:
  """Refuses units of one strategy that differ in more than their seeds."""
  about = [
    {'unit': {**r['unit'], 'seed': 0}, 'config': r['config']}
    for r in (first, other)
  ]
  lines = [*workdir.differences(*about, 'result')]
  if lines:
    named = '{form}, {strategy}, seed {seed}'.format(**other['unit'])
    raise ValueError(
      f'{folder}: {named} differs from seed {first["unit"]["seed"]}:\n  '
      + '\n  '.join(lines[:5])
      + '\nMove it to another folder.'
    )


def at(result: Result, *path: str) -> Any:
  """Returns the result of a phase."""
  for name in path:
    result = result[name]
  return result['result']


def asked(day: Result, moment: str) -> Result:
  """Returns what was asked in the evening or the morning of a day.

  Without a night, the evening is the morning.
  """
  return day[moment if moment in day else 'evening']['result']


def end(result: Result) -> Result:
  """Returns what was asked in the last morning."""
  return asked(result['days'][str(len(result['days']))], 'morning')


def own_days(result: Result, moment: str) -> list[Result]:
  """Returns the answers to each day's questions, asked on that day.

  Args:
    result: of a unit.
    moment: 'evening' or 'morning'.
  """
  return [
    row
    for number, day in result['days'].items()
    for row in asked(day, moment)['answers']
    if row['day'] == int(number)
  ]


def scores(answers: Sequence[Result], score: str) -> np.ndarray:
  """Returns one score of each answer: 'exact' or 'contained'."""
  return np.array([row[score] for row in answers])


def facts_of(result: Result, answers: Sequence[Result]) -> list[tuple]:
  """Returns the fact that each answer is about: seed, person and attribute.

  The wordings of a question, and the days of a fact that changes, are not
  independent.
  """
  seed = result['unit']['seed']
  return [(seed, row['person'], row['attribute']) for row in answers]


def costs(
  results: Sequence[Result], phase: str, *, first: bool | None = None
) -> list[Mapping[str, Any]]:
  """Returns what a phase cost on each day, where no kill hid it.

  Args:
    results: of units.
    phase: 'wake' or 'night'.
    first: only of the first day of a process, which loads and compiles, or of
      the others; None: all.
  """
  found = [
    day[phase]['cost']
    for result in results
    for number, day in result['days'].items()
    # Units of earlier versions do not say it; none was continued.
    if phase in day
    and first in (None, day[phase]['cost'].get('first', number == '1'))
  ]
  return [cost for cost in found if not cost['interrupted']]


def total(rows: Sequence[Mapping[str, int]], key: str) -> int:
  """Returns the sum of one count."""
  return sum(row[key] for row in rows)


def share_of(rows: Sequence[Mapping[str, int]], key: str) -> str:
  """Returns a count of all questions, as '3 of 24'."""
  return f'{total(rows, key)} of {total(rows, "questions")}'
