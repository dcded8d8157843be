"""Runs one job of a comparison in a process of its own.

python -m sleep_jax.compare.job FILE

The file is JSON: 'kind' ('check', 'initial', 'tune' or 'unit'), 'config' of a
study, its 'folder', and 'out', where the outcome is written. Each job is a
study of its own, so an interrupted one continues from its checkpoints.
"""

import hashlib
import json
import os
import pathlib
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from sleep_jax.compare import kinds

# Of an evaluation, large and not used by tables or plots.
_DROPPED = ('gates', 'second_scores')


def main(path: str) -> int:
  """Runs the job of a file; returns the exit status."""
  job = json.loads(pathlib.Path(path).read_text())
  if job.get('core') is not None:
    # Before JAX starts: its thread pools have a thread per usable core.
    os.sched_setaffinity(0, {job['core']})
  from sleep_jax import errors
  from sleep_jax.runs import context
  from sleep_jax.runtime import signals
  from sleep_jax.storage import workdir

  stopped: list[int] = []
  outcome: dict[str, Any]
  try:
    with signals.listen(stopped, 0):
      outcome = work(job, lambda: bool(stopped))
  except (context.Interrupted, errors.InUseError) as reason:
    print(reason, file=sys.stderr)
    return kinds.INTERRUPTED
  except Exception as error:
    if isinstance(error, errors.SleepJaxError):
      print(f'error: {error}', file=sys.stderr)
    else:
      import traceback

      traceback.print_exc()
    outcome = {
      'status': 'failed', 'error': type(error).__name__, 'reason': str(error),
    }  # fmt: skip
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  outcome = {'status': 'finished', 'runs': [], **outcome, 'peak_bytes': peak}
  workdir.write_json(pathlib.Path(job['out']), outcome)
  return 0


def work(job: dict[str, Any], stop: Callable[[], bool]) -> dict[str, Any]:
  """Returns the outcome of a job.

  Args:
    job: content of its file.
    stop: returns whether the job is asked to stop.

  Raises:
    Interrupted: it was; what it did is saved.
  """
  import jax
  import ml_collections

  from sleep_jax.runs import study
  from sleep_jax.runtime import host_memory
  from sleep_jax.storage import compile_cache

  config = ml_collections.ConfigDict(job['config'])
  host_memory.configure(keep_freed_blocks=not config.pretrain.base_model)
  compile_cache.start(config.compile_cache)
  if job['kind'] == kinds.CHECK:
    return {'reasons': _reasons(config, job['folder'])}
  for source, target in job.get('copies', ()):
    # A rate that was chosen for all units of a strategy.
    pathlib.Path(target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
  made = study.Study(config, job['folder'], stop=stop)
  runs = made.run(prepare_only=job['kind'] != kinds.UNIT)
  return {
    'runs': [_short(run) for run in runs],
    'data': _data(config, job['folder']),
    'backend': jax.default_backend(),
  }


def _reasons(config: Any, folder: str) -> dict[str, str]:
  """Returns why strategies cannot run on this dataset.

  Raises:
    ConfigError: none can, so that the config is at fault.
  """
  from sleep_jax import errors
  from sleep_jax.runs import study

  reasons, names = {}, tuple(config.strategies)
  for name in names:
    config.strategies = [name]
    try:
      study.Study(config, folder).check()
    except errors.ConfigError as error:
      reasons[name] = str(error)
  if len(reasons) == len(names):
    raise errors.ConfigError(next(iter(reasons.values())))
  return reasons


def _short(run: dict[str, Any]) -> dict[str, Any]:
  """Returns the part of the record of a run that tables and plots use."""
  evaluations = [
    {k: v for k, v in row.items() if k not in _DROPPED}
    for row in run['evaluations']
  ]
  names = ('strategy', 'seed', 'status', 'summary', 'days', 'cost')
  return {name: run[name] for name in names} | {'evaluations': evaluations}


def _data(config: Any, folder: str) -> str:
  """Returns one digest of all texts and questions that were read, in any order.

  Args:
    config: of the study.
    folder: its work directory.
  """
  from sleep_jax.runs import inputs

  (file,) = sorted(pathlib.Path(folder).glob('seed_*/days.json'))
  digests = sorted(row['digest'] for row in json.loads(file.read_text()))
  dataset = inputs.read_dataset(config, pathlib.Path(folder), config.seeds[0])
  sets = (dataset.probes, dataset.template_probes, dataset.open_probes)
  probes = [*dataset.guard, *(p for s in sets for x in s.values() for p in x)]
  asked = sorted([probe.prompt, probe.answer] for probe in probes)
  text = ' '.join(digests) + json.dumps(asked)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


if __name__ == '__main__':
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  sys.exit(main(sys.argv[1]))
