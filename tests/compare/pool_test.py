"""The pool runs jobs side by side, in memory, and survives their ends."""

import json
import sys
import time

import pytest

from sleep_jax import errors
from sleep_jax.compare import kinds, machine, pool

# Writes its outcome; `do` is Python that may end otherwise.
_SCRIPT = """
import json, os, pathlib, sys, time
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
begin = time.time()
exec(job['do'])
out = {'status': 'finished', 'runs': [], 'peak_bytes': 100, 'core': job['core'],
       'times': [begin, time.time()]}
pathlib.Path(job['out']).write_text(json.dumps(out))
"""


def _job(folder, name, do='', needs=()):
  (folder / name).mkdir(parents=True, exist_ok=True)
  return pool.Job(
    name, tuple(needs), (sys.executable, '-c', _SCRIPT), {'do': do},
    folder / name,
  )  # fmt: skip


def _slots(num):
  return [machine.Slot(f'core {n}', n) for n in range(num)]


def _pool(num=2, **options):
  options = {'peak': 100, 'free_bytes': lambda: 10_000} | options
  return pool.Pool(_slots(num), **options)


def _overlap(a, b):
  return a['times'][0] < b['times'][1] and b['times'][0] < a['times'][1]


def test_jobs_run_side_by_side_on_slots_of_their_own(tmp_path):
  made = _pool()
  jobs = [_job(tmp_path, name, 'time.sleep(1)') for name in 'ab']
  assert made.run(jobs)
  a, b = made.outcomes['a'], made.outcomes['b']
  assert _overlap(a, b) and {a['core'], b['core']} == {0, 1}


def test_no_two_jobs_run_while_the_memory_of_one_is_not_known(tmp_path):
  made = _pool(peak=0)
  assert made.run([_job(tmp_path, name, 'time.sleep(.3)') for name in 'abc'])
  a, b, c = (made.outcomes[name] for name in 'abc')
  assert not _overlap(a, b) and not _overlap(a, c)
  assert made.peak == 100


def test_no_more_jobs_run_than_fit_in_memory(tmp_path):
  made = _pool(peak=100, free_bytes=lambda: 150)
  # A real process is larger than 100 bytes: its peak is no estimate of more.
  made.peak = 2**40
  made._free_bytes = lambda: 2**40 + 2**39
  assert made.run([_job(tmp_path, name, 'time.sleep(.3)') for name in 'ab'])
  assert not _overlap(made.outcomes['a'], made.outcomes['b'])


def test_a_job_that_can_never_fit_is_an_error(tmp_path):
  made = _pool(peak=2**40)
  with pytest.raises(errors.OutOfMemoryError, match='needs up to 1024.00 GiB'):
    made.run([_job(tmp_path, 'a')])


def test_a_failure_is_recorded_and_the_others_complete(tmp_path):
  made = _pool()
  assert made.run(
    [
      _job(tmp_path, 'killed', 'os.kill(os.getpid(), 9)'),
      _job(tmp_path, 'crashed', 'raise ValueError("too bad")'),
      _job(tmp_path, 'needs', needs=['killed']),
      _job(tmp_path, 'whole'),
    ]
  )
  found = made.outcomes
  assert 'signal 9' in found['killed']['reason']
  assert 'too bad' in found['crashed']['reason']
  assert found['needs']['error'] == 'NeededJobFailed'
  assert found['whole']['status'] == 'finished'


def test_a_job_begins_after_those_that_it_needs(tmp_path):
  made = _pool()
  jobs = [
    _job(tmp_path, 'second', needs=['first']),
    _job(tmp_path, 'first', 'time.sleep(.3)'),
  ]
  assert made.run(jobs)
  first, second = made.outcomes['first'], made.outcomes['second']
  assert first['times'][1] <= second['times'][0]


def test_asked_to_stop_the_jobs_save_first(tmp_path):
  do = (
    'import signal\n'
    f'def end(*_): pathlib.Path("saved").write_text("x"); os._exit('
    f'{kinds.INTERRUPTED})\n'
    'os.chdir(pathlib.Path(job["out"]).parent)\n'
    'signal.signal(15, end)\n'
    'pathlib.Path("begun").write_text("x")\n'
    'time.sleep(60)'
  )
  begun = tmp_path / 'a' / 'begun'
  start = time.monotonic()
  made = _pool(stop=begun.exists)
  assert not made.run([_job(tmp_path, 'a', do), _job(tmp_path, 'b', do)])
  assert time.monotonic() - start < 30
  assert (tmp_path / 'a' / 'saved').exists() and made.outcomes == {}
  assert json.loads((tmp_path / 'a' / 'job.json').read_text())['do'] == do
