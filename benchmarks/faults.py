"""Interrupts runs, changes days and writes odd rows: is anything lost?

    python -m benchmarks.faults [--only=kills,disks,days,rows] [--cases=N]

Each part has a list of cases. A case survives if it ends as the same run does
without the fault, bit by bit, or if the fault is refused with a message that
names it; a traceback, or a silent difference, is a failure. Rows are written to
PART.json under --output as they come, and a case that is there, of the same
revision, is not run again. README.md there has the tables.

`kills` and `disks` start processes, about 20 s each; `days` and `rows` run in
this one.
"""

import concurrent.futures
import importlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import traceback
import warnings
from typing import Any

from absl import app, flags, logging

from benchmarks.fault_cases import processes, tables

PARTS = ('kills', 'disks', 'days', 'rows')
_ONLY = flags.DEFINE_list('only', list(PARTS), 'Parts to run.')
_CASES = flags.DEFINE_integer('cases', 0, 'Cases of each part; 0: all.', 0)
_NAMES = flags.DEFINE_list('names', [], 'Only the cases with these names.')
_RERUN = flags.DEFINE_bool('rerun', False, 'Run cases again that are there.')
_WORKERS = flags.DEFINE_integer(
  'workers', os.cpu_count() or 1, 'Processes at once.', 1
)
_OUTPUT = flags.DEFINE_string(
  'output', str(processes.ROOT / 'docs' / 'results' / 'faults'),
  'Folder of the results.',
)  # fmt: skip
_CACHE = flags.DEFINE_string(
  'cache', '', 'Folder of compiled programs; it makes a second run faster.'
)


def main(argv):
  del argv
  unknown = set(_ONLY.value) - set(PARTS)
  if unknown:
    raise app.UsageError(f'--only: expected {PARTS}, found {sorted(unknown)}.')
  output = pathlib.Path(_OUTPUT.value)
  output.mkdir(parents=True, exist_ok=True)
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  logging.set_verbosity(logging.ERROR)
  for text in ('Sharding info not provided', 'Some donated buffers were not'):
    warnings.filterwarnings('ignore', text)
  failed = False
  for part in PARTS:
    if part in _ONLY.value:
      failed |= run(part, output)
  tables.write(output)
  raise SystemExit(int(failed))


def run(part: str, output: pathlib.Path) -> bool:
  """Runs the cases of a part that are left; returns whether one failed."""
  module = importlib.import_module(f'benchmarks.fault_cases.{part}')
  file, revision = output / f'{part}.json', _revision()
  known = json.loads(file.read_text()) if file.exists() else []
  is_exact = revision.isalnum() and revision != 'unknown'
  known = {
    row['name']: row for row in known if row['revision'] == revision
  } if is_exact and not _RERUN.value else {}  # fmt: skip
  cases = module.cases()[: _CASES.value or None]
  if _NAMES.value:
    cases = [c for c in module.cases() if c.name in _NAMES.value]
  order = [case.name for case in module.cases()]
  with tempfile.TemporaryDirectory(prefix='faults_') as folder:
    home = pathlib.Path(folder)
    cache = pathlib.Path(_CACHE.value or home / 'compiled').absolute()
    left = [case for case in cases if case.name not in known]
    scenarios = {case.scenario for case in left}
    context = module.prepare(home, cache, scenarios, _WORKERS.value)
    workers = min(_WORKERS.value, module.MAX_WORKERS)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
      jobs = {pool.submit(module.attempt, c, context): c for c in left}
      for job in concurrent.futures.as_completed(jobs):
        row = {**_without_paths(_row(jobs[job], job)), 'revision': revision}
        known[row['name']] = row
        rows = sorted(known.values(), key=lambda r: order.index(r['name']))
        file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + '\n')
        print(tables.line(part, row), flush=True)
  rows = [known[case.name] for case in cases]
  survived = sum(row['survived'] for row in rows)
  print(f'{part}: {survived} of {len(rows)} survived', flush=True)
  return survived < len(rows)


def _row(case: Any, job: concurrent.futures.Future) -> dict[str, Any]:
  """Returns the row of a case, also if the campaign itself failed."""
  try:
    return job.result()
  except Exception:
    return {
      'name': case.name, 'scenario': case.scenario, 'kind': 'campaign',
      'phase': 'campaign', 'moment': '', 'right': '', 'killed': [],
      'outcome': 'the campaign failed', 'survived': False, 'message': '',
      'differences': [traceback.format_exc()[-600:]],
    }  # fmt: skip


def _without_paths(row: dict[str, Any]) -> dict[str, Any]:
  """Returns a row whose temporary folders are FOLDER, and files relative."""
  home = re.escape(json.dumps(tempfile.gettempdir())[1:-1])
  text = re.sub(rf'{home}/faults_\w+', 'FOLDER', json.dumps(row))
  return json.loads(text.replace(json.dumps(f'{processes.ROOT}/')[1:-1], ''))


def _revision() -> str:
  """Returns the last revision of the sources, with '+' if they are changed.

  Rows of '+' or 'unknown' may be of other sources and are never taken over.
  """
  sources = ('sleep_jax', 'configs', 'benchmarks/fault_cases')

  def ask(*words):
    return subprocess.run(
      ['git', *words, '--', *sources], cwd=processes.ROOT, capture_output=True,
      text=True,
    ).stdout.strip()  # fmt: skip

  changed = '+' if ask('status', '--porcelain') else ''
  return (ask('log', '-1', '--format=%h') or 'unknown') + changed


if __name__ == '__main__':
  app.run(main)
