"""The table of a study of rows: one row per part that is changed.

python -m benchmarks.rows --study=seeding --folder=runs/seeding \
  --out=runs/seeding/table

Reads the logs of every row that is there, in the order of `configs/STUDY.py`,
in a folder of runs (`ROW/seed_0/sleep/metrics.jsonl`) or of results
(`ROW/seed_0.jsonl`); writes the table as markdown and as JSON. Differences from
the first row are paired by seed. CPU-seconds are of a night: the median over
all but the first, in which programs are compiled.
"""

import importlib
import re
import statistics

from absl import app, flags

from sleep_jax.evaluate import cycles, retention
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
_STUDY = flags.DEFINE_enum(
  'study', 'seeding', ('seeding', 'dream', 'ten_dreams'), 'Which.'
)
_FOLDER = flags.DEFINE_string('folder', '', 'Where the rows were run.')
_OUT = flags.DEFINE_string('out', '', 'Written to, .md and .json.')
_ROWS = flags.DEFINE_bool('rows', False, 'Only say which rows there are.')
_SEED = re.compile(r'seed_(\d+)')


def read(folder: workdir.Folder, names: list[str]) -> dict[str, list[dict]]:
  """Row -> one summary per finished seed, of the rows that have any."""
  found = {}
  for row in names:
    logs = {
      int(_SEED.search(str(path.relative_to(folder / row)))[1]): path
      for shape in ('seed_*.jsonl', 'seed_*/sleep/metrics.jsonl')
      for path in (folder / row).glob(shape)
    }
    runs = [{'seed': seed, **summary(logs[seed])} for seed in sorted(logs)]
    runs = [run for run in runs if run['acc'] is not None]
    if runs:
      found[row] = runs
  return found


def summary(log: workdir.Folder) -> dict:
  """The numbers of a life, from its log."""
  rows = metric_writer.read(log)
  evaluations = [row for row in rows if row['kind'] == 'evaluation']
  nights = [row for row in rows if row['kind'] == 'night']
  # In a dreaming life a day has a night that consolidates and one of dreams.
  each = {}
  for night in nights:
    each[night['cycle']] = each.get(night['cycle'], 0) + night['cpu_seconds']
  later = list(each.values())[1:]
  return {
    **retention.summarize(evaluations),
    'night_cpu_seconds': statistics.median(later) if later else None,
  }


def names(study: str) -> list[str]:
  return importlib.import_module(f'configs.{study}').names()


def differences(runs: list[dict], whole: list[dict], key: str):
  """Mean and half its 95 % interval over seeds that both have."""
  base = {run['seed']: run[key] for run in whole}
  return cycles.mean_and_interval(
    run[key] - base[run['seed']] for run in runs if run['seed'] in base
  )


def markdown(found: dict[str, list[dict]]) -> str:
  titles = ['row', 'seeds', *(title for _, title in COLUMNS), 'ACC less first']
  lines = ['| ' + ' | '.join(titles) + ' |', '|---' * len(titles) + '|']
  first = next(iter(found))
  for row, runs in found.items():
    cells = [f'`{row}`', str(len(runs))]
    cells += [_shown(*cycles.mean_and_interval(r[key] for r in runs), key)
              for key, _ in COLUMNS]  # fmt: skip
    less = differences(runs, found[first], 'acc')
    cells.append('' if row == first else _shown(*less, 'acc'))
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _shown(mean, half, key):
  if mean is None:
    return ''
  digits = 1 if key == 'night_cpu_seconds' else 3
  spread = '' if half is None else f' ± {half:.{digits}f}'
  return f'{mean:.{digits}f}{spread}'


def main(argv):
  del argv
  known = names(_STUDY.value)
  if _ROWS.value:
    print('\n'.join(known))
    return
  found = read(workdir.path(_FOLDER.value), known)
  if not found:
    raise app.UsageError(
      f'--folder={_FOLDER.value}: no row of configs/{_STUDY.value}.py is '
      f'finished there. Run launch/rows.sh {_STUDY.value} first.'
    )
  table = markdown(found)
  print(table)
  if _OUT.value:
    workdir.write_text(workdir.path(_OUT.value + '.md'), table)
    workdir.write_json(workdir.path(_OUT.value + '.json'), found)


if __name__ == '__main__':
  app.run(main)
