"""Gains of the two streams of `small/agent`, and the gap between them.

    python -m benchmarks.agent_gains --compositional=runs/agent \
      --naive=runs/agent_naive [--out=FOLDER]

Reads `config.json` and each `metrics.jsonl` of two finished studies, which may
differ in `data.settings.reuse` only. For every strategy, mean over seeds and
half of the 95 % interval:

    B   score of the initial model on the tasks of the stream
    F   first pass: score on a task when it is met, before it is learned
    S   second pass, learning off: score when the whole stream was learned
    H   the same on the held-out tasks, those of the last day
    PG  F - B    SG  S - F    GG  H - B of the held-out tasks

The gap is the gain of the compositional stream minus that of the naive one,
paired by seed. `majority` is the score of always giving the most frequent
answer of a day's rows. Writes `gains.json` and `table.md` to --out.

Reference: 2606.02461; docs/results/agent/README.md says what is our reading.
"""

import argparse
import collections
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import agent, dataset
from sleep_jax.evaluate import agent_gains, cycles, retention
from sleep_jax.storage import metric_writer, workdir

MAY_DIFFER = ('config.name:', 'config.data.settings.reuse:')
NAMES = {True: 'compositional', False: 'naive'}
SCORES = {
  'B': 'base_T', 'F': 'first_T', 'S': 'second_T', 'H': 'held_out_U',
}  # fmt: skip
COLUMNS = ('B', 'F', 'S', 'H', 'pg', 'sg', 'gg', 'majority')
GAINS = COLUMNS[4:7]
Unit = tuple[str, int]  # Strategy and seed.


def read(folder: workdir.Folder, reuse: bool) -> tuple[dict[str, Any], dict]:
  """Returns the config of a study, and the numbers of each of its units.

  Args:
    folder: work directory of the study, finished.
    reuse: which stream it must be of.

  Raises:
    MissingFileError: the folder has no study, or a unit has no log.
    UsageError: the study is of another stream, or a unit is not finished.
  """
  file = folder / 'config.json'
  if not file.exists():
    raise errors.MissingFileError(
      f'{file} does not exist: expected the work directory of a finished '
      f'study, --config=small/agent{"" if reuse else ":naive"}.'
    )
  config = json.loads(file.read_text())
  settings = config['data']['settings']
  found = config['data']['dataset'], settings.get('reuse', True)
  if found != ('agent', reuse):
    raise errors.UsageError(
      f'{file}: data.dataset is {found[0]!r} with reuse {found[1]}: expected '
      f"'agent' with reuse {reuse}, the {NAMES[reuse]} stream."
    )
  units = {}
  for seed in config['seeds']:
    made = agent.make(seed=seed, **settings)
    for strategy in config['strategies']:
      log = folder / f'seed_{seed}' / strategy / 'metrics.jsonl'
      units[strategy, seed] = _numbers(log, made)
  return config, units


def _numbers(log: workdir.Folder, made: dataset.Dataset) -> dict[str, Any]:
  """Returns scores, gains and majority baseline of one run."""
  if not log.exists():
    raise errors.MissingFileError(
      f'{log} does not exist: expected the log of a finished run. Continue the '
      'study with its own command.'
    )
  rows = metric_writer.read(log)
  matrix = retention.r_matrix([r for r in rows if r['kind'] == 'evaluation'])
  num = len(made.experiences)
  finished = cycles.finished_part(matrix).shape[1]
  if finished < num:
    raise errors.UsageError(
      f'{log} has {finished} finished days: expected {num}. Continue the study '
      'with its own command.'
    )
  parts = agent_gains.split(matrix)
  scores = {
    name: cycles.mean_or_none(parts[part]) for name, part in SCORES.items()
  }
  return {
    **scores, **agent_gains.gains(**parts), 'majority': majority(made),
    'first_by_day': parts['first_T'].tolist(),
  }  # fmt: skip


def majority(made: dataset.Dataset) -> float:
  """Returns the score of a day's most frequent answer, mean over the stream.

  Args:
    made: dataset whose last experience is the held-out one.
  """
  scores = []
  for number, (_, rows) in enumerate(made.experiences[:-1], 1):
    answers = collections.Counter(
      row.text[row.response_start :] for row in rows
    )
    ((answer, _),) = answers.most_common(1)
    asked = made.probes[str(number)]
    scores.append(np.mean([probe.answer == answer for probe in asked]))
  return float(np.mean(scores))


def check(compositional: Mapping[str, Any], naive: Mapping[str, Any]) -> None:
  """Refuses two studies that differ in more than their stream.

  Raises:
    UsageError: names the fields.
  """
  wrong = [
    line
    for line in workdir.differences(compositional, naive)
    if not line.startswith(MAY_DIFFER)
  ]
  if wrong:
    raise errors.UsageError(
      'The two studies are not matched:\n  ' + '\n  '.join(wrong[:5]) +
      '\nExpected configs that differ in data.settings.reuse only: run both '
      'with the same fields.'
    )  # fmt: skip


def summarize(
  compositional: Mapping[Unit, Mapping[str, Any]],
  naive: Mapping[Unit, Mapping[str, Any]],
) -> dict[str, dict[str, dict[str, Any]]]:
  """Returns strategy -> 'compositional', 'naive' or 'gap' -> (mean, half)."""
  gaps = {
    unit: agent_gains.gains_by_reuse(
      {name: numbers[name] for name in GAINS},
      {name: naive[unit][name] for name in GAINS},
    )
    for unit, numbers in compositional.items()
  }
  groups = {'compositional': compositional, 'naive': naive, 'gap': gaps}
  return {
    strategy: {
      group: {
        name: cycles.mean_and_interval(
          numbers[name]
          for unit, numbers in units.items()
          if unit[0] == strategy
        )
        for name in (GAINS if group == 'gap' else COLUMNS)
      }
      for group, units in groups.items()
    }
    for strategy in dict.fromkeys(unit[0] for unit in compositional)
  }


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
  """Returns the result of `summarize` as a table in Markdown."""
  names = [x.upper() if x in GAINS else x for x in COLUMNS]
  lines = [
    '| strategy | stream | ' + ' | '.join(names) + ' |',
    '|---|---|' + '---|' * len(COLUMNS),
  ]
  for strategy, groups in found.items():
    for group, numbers in groups.items():
      cells = [_format(*numbers.get(name, (None, None))) for name in COLUMNS]
      lines.append(f'| `{strategy}` | {group} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _format(mean: float | None, half: float | None) -> str:
  if mean is None:
    return ''
  return f'{mean:.3f}' + ('' if half is None else f' ± {half:.3f}')


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  for name in NAMES.values():
    parser.add_argument(
      f'--{name}', required=True, help=f'Work directory of the {name} stream.'
    )
  parser.add_argument('--out', default='', help='Folder of the results.')
  args = parser.parse_args(argv)
  try:
    first, units = read(workdir.path(args.compositional), True)
    second, others = read(workdir.path(args.naive), False)
    check(first, second)
    found = summarize(units, others)
    text = table(found)
    if args.out:
      out = workdir.path(args.out)
      records = [
        {'stream': stream, 'strategy': unit[0], 'seed': unit[1], **numbers}
        for stream, of_stream in (('compositional', units), ('naive', others))
        for unit, numbers in of_stream.items()
      ]
      workdir.write_json(out / 'gains.json', {'units': records, 'mean': found})
      workdir.write_text(out / 'table.md', text)
    print(text, end='')
  except errors.SleepJaxError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
