"""The table of configs/seeding.py: one row per part that is left out.

python -m benchmarks.seeding --folder=runs/seeding --out=runs/seeding/table

Reads the `summary.json` of every row that is there, in the order of the
config; writes the table as markdown and as JSON. Differences from the first
row are paired by seed. CPU-seconds are of a night: the median over all but the
first, in which programs are compiled.
"""

import json
import pathlib
import statistics

from absl import app, flags

from configs import seeding
from sleep_jax.evaluate import retention

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
_FOLDER = flags.DEFINE_string('folder', '', 'Where the rows were run.')
_OUT = flags.DEFINE_string('out', '', 'Written to, .md and .json.')
_ROWS = flags.DEFINE_bool('rows', False, 'Only say which rows there are.')


def read(folder: pathlib.Path) -> dict[str, list[dict]]:
  """Row -> one summary per seed, of the rows that have finished seeds."""
  found = {}
  for row in names():
    path = folder / row / 'summary.json'
    if path.exists():
      runs = json.loads(path.read_text())['strategies'].get('sleep', [])
      for run in runs:
        log = folder / row / f'seed_{run["seed"]}' / 'sleep' / 'metrics.jsonl'
        run['night_cpu_seconds'] = night_cpu_seconds(log)
      if runs:
        found[row] = runs
  return found


def night_cpu_seconds(log: pathlib.Path) -> float | None:
  """Median of a life's nights, the first left out; None without a second."""
  rows = map(json.loads, log.read_text().splitlines())
  nights = [row['cpu_seconds'] for row in rows if row['kind'] == 'night']
  return statistics.median(nights[1:]) if nights[1:] else None


def names() -> list[str]:
  teachers = seeding.get_config().consolidate.teachers
  return list(seeding.rows(*teachers))


def differences(runs: list[dict], whole: list[dict], key: str):
  """Mean and half its 95 % interval over seeds that both have."""
  base = {run['seed']: run[key] for run in whole}
  return retention.spread(
    run[key] - base[run['seed']] for run in runs if run['seed'] in base
  )


def markdown(found: dict[str, list[dict]]) -> str:
  titles = ['row', 'seeds', *(title for _, title in COLUMNS), 'ACC less full']
  lines = ['| ' + ' | '.join(titles) + ' |', '|---' * len(titles) + '|']
  for row, runs in found.items():
    cells = [f'`{row}`', str(len(runs))]
    cells += [_shown(*retention.spread(r[key] for r in runs), key)
              for key, _ in COLUMNS]  # fmt: skip
    less = differences(runs, found.get('full', []), 'acc')
    cells.append('' if row == 'full' else _shown(*less, 'acc'))
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
  if _ROWS.value:
    print('\n'.join(names()))
    return
  found = read(pathlib.Path(_FOLDER.value))
  if not found:
    raise app.UsageError(
      f'--folder={_FOLDER.value}: no row of configs/seeding.py is finished '
      'there. Run launch/seeding.sh first.'
    )
  table = markdown(found)
  print(table)
  if _OUT.value:
    pathlib.Path(_OUT.value + '.md').write_text(table)
    pathlib.Path(_OUT.value + '.json').write_text(json.dumps(found, indent=1))


if __name__ == '__main__':
  app.run(main)
