"""Writes the table of an ablation study: one row per changed setting.

python -m benchmarks.rows --study=seeding --folder=runs/seeding \
  --out=runs/seeding/table

Reads the logs of all rows that exist, in the order of `configs/STUDY.py`, from
a folder of runs (`ROW/seed_0/STRATEGY/metrics.jsonl`, of the row's first
strategy) or of results (`ROW/seed_0.jsonl`), and writes the table as markdown
and as JSON. Scores of generated text have columns if there are any. Differences
from the first row are paired by seed. CPU-seconds are those of a night: the
median over all nights but the first, in which programs are compiled.
"""

import importlib
import re
import statistics
from collections.abc import Mapping

from absl import app, flags

from sleep_jax.evaluate import cycles, retention
from sleep_jax.schedule import events
from sleep_jax.storage import metric_writer, workdir

COLUMNS = (
  ('acc', 'ACC'),
  ('bwt', 'BWT'),
  ('prior', 'prior'),
  ('la', 'LA'),
  ('harm_of_sleep', 'harm of cycle'),
  ('cost_to_new', 'cost to new'),
  ('damage_awake', 'damage awake'),
  ('night_cpu_seconds', 'CPU-seconds of a night'),
)
TEXT_COLUMNS = (
  ('start_text', 'start of texts'),
  ('la_text', 'LA of texts'),
  ('acc_text', 'ACC of texts'),
)
_STUDIES = ('seeding', 'dream', 'ten_dreams', 'small/table1', 'small/table3')
_STUDY = flags.DEFINE_enum('study', 'seeding', _STUDIES, 'The study.')
_FOLDER = flags.DEFINE_string('folder', '', 'Folder with the logs of the rows.')
_OUT = flags.DEFINE_string('out', '', 'Output path without .md and .json.')
_ROWS = flags.DEFINE_bool('rows', False, 'Only print the names of the rows.')
_SEED = re.compile(r'seed_(\d+)')


def read(
  folder: workdir.Folder, strategies: Mapping[str, str]
) -> dict[str, list[dict]]:
  """Returns one summary per finished seed, by row.

  Rows without a finished seed are left out.

  Args:
    folder: see the top of this file.
    strategies: row -> its strategy.
  """
  found = {}
  for row, strategy in strategies.items():
    logs = {
      int(_SEED.search(str(path.relative_to(folder / row)))[1]): path
      for shape in ('seed_*.jsonl', f'seed_*/{strategy}/metrics.jsonl')
      for path in (folder / row).glob(shape)
    }
    runs = [{'seed': seed, **summary(logs[seed])} for seed in sorted(logs)]
    runs = [run for run in runs if run.pop('finished')]
    if runs:
      found[row] = runs
  return found


def summary(log: workdir.Folder) -> dict:
  """Returns the metrics of a run from its log, and whether it is finished."""
  rows = metric_writer.read(log)
  evaluations = [row for row in rows if row['kind'] == 'evaluation']
  if any('birth' in row['scores'] for row in evaluations):
    raise ValueError(
      f'{log} was written by version 0.1 of sleep_jax, whose metrics use '
      "'birth' for 'pretrain': use revision 292e568 to read it."
    )
  nights = [row for row in rows if row['kind'] == 'night']
  # With dreams on, a cycle has a night of consolidation and one of dreams.
  seconds = {}
  for night in nights:
    seconds[night['cycle']] = (
      seconds.get(night['cycle'], 0) + night['cpu_seconds']
    )
  later = list(seconds.values())[1:]
  # Only the initial and the very last evaluation have second scores.
  last = evaluations[-1] if evaluations else {'moment': events.INITIAL}
  return {
    'finished': last['moment'] != events.INITIAL and 'second_scores' in last,
    **retention.summarize(evaluations),
    'night_cpu_seconds': statistics.median(later) if later else None,
  }


def strategies_of(study: str) -> dict[str, str]:
  """Returns the first strategy of each row of a study, by row."""
  module = importlib.import_module(f'configs.{study.replace("/", ".")}')
  return {row: module.get_config(row).strategies[0] for row in module.names()}


def differences(runs: list[dict], whole: list[dict], key: str):
  """Returns mean and half of the 95 % interval over the common seeds."""
  base = {run['seed']: run[key] for run in whole}
  return cycles.mean_and_interval(
    run[key] - base[run['seed']] for run in runs if run['seed'] in base
  )


def markdown(found: dict[str, list[dict]]) -> str:
  """Returns the table of `read`'s result."""
  has_texts = any(
    run.get('acc_text') is not None for runs in found.values() for run in runs
  )
  columns = (*COLUMNS, *TEXT_COLUMNS) if has_texts else COLUMNS
  key, title = TEXT_COLUMNS[-1] if has_texts else COLUMNS[0]
  titles = [
    'row',
    'seeds',
    *(title for _, title in columns),
    f'{title} minus first row',
  ]
  lines = ['| ' + ' | '.join(titles) + ' |', '|---' * len(titles) + '|']
  first = next(iter(found))
  for row, runs in found.items():
    cells = [f'`{row}`', str(len(runs))]
    cells += [_format(*cycles.mean_and_interval(r[name] for r in runs), name)
              for name, _ in columns]  # fmt: skip
    difference = differences(runs, found[first], key)
    cells.append('' if row == first else _format(*difference, key))
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _format(mean, half, key):
  if mean is None:
    return ''
  digits = 1 if key == 'night_cpu_seconds' else 3
  spread = '' if half is None else f' ± {half:.{digits}f}'
  return f'{mean:.{digits}f}{spread}'


def main(argv):
  del argv
  known = strategies_of(_STUDY.value)
  if _ROWS.value:
    print('\n'.join(known))
    return
  found = read(workdir.path(_FOLDER.value), known)
  if not found:
    raise app.UsageError(
      f'--folder={_FOLDER.value}: expected a finished row of '
      f'configs/{_STUDY.value}.py, found none. '
      f'Run launch/rows.sh {_STUDY.value} first.'
    )
  table = markdown(found)
  print(table)
  if _OUT.value:
    workdir.write_text(workdir.path(_OUT.value + '.md'), table)
    workdir.write_json(workdir.path(_OUT.value + '.json'), found)


if __name__ == '__main__':
  app.run(main)
