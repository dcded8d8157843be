"""A run of several processes gives the results of one, also after a restart."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from sleep_jax.runs import context, study
from sleep_jax.runtime import processes
from sleep_jax.storage import checkpoint_reading
from tests import tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

ROOT = pathlib.Path(__file__).parents[2]
# Written to a file, because the processes read their config from one.
CONFIG = """
from tests.runtime import processes_test


def get_config():
  c = processes_test.config()
  c.mesh = {mesh}
  return c
"""


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp('processes')
  for name, mesh in (('spread', dict(data=-1, fsdp=2, tensor=1)),
                     ('rows', dict(data=-1, fsdp=1, tensor=1))):  # fmt: skip
    (folder / f'{name}.py').write_text(CONFIG.format(mesh=mesh))
  return folder


def config():
  """The tiny config, with enough steps that losses exceed rounding errors."""
  c = tiny_study.config()
  c.wake.steps = 12
  return c


def _start(home, workdir, *, num, devices, configs=('spread',), **flags):
  """Starts all processes of a run; returns (process, log file) of each."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  flags = {
    'coordinator': f'localhost:{port}',
    'coordinator_timeout': 60,
  } | flags
  started = []
  for number in range(num):
    log = (home / f'{workdir}.{num}.{number}.log').open('w+')
    started.append((subprocess.Popen(
      [sys.executable, '-m', 'sleep_jax.main',
       f'--config={home / configs[number % len(configs)]}.py',
       f'--workdir={home / workdir}', f'--processes={num}',
       f'--process={number}',
       *(f'--{name}={value}' for name, value in flags.items())],
      cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
      env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)},
    ), log))  # fmt: skip
  return started


def _ended(started, seconds=300):
  """Waits for all processes; returns the exit code and log text of each."""
  found = []
  for process, log in started:
    code = process.wait(seconds)
    log.seek(0)
    found.append((code, log.read()))
  return found


def _wait_for_text(log, text, process):
  """Waits until the log of a process contains a text."""
  path = pathlib.Path(log.name)
  while text not in path.read_text():
    assert process.poll() is None, path.read_text()
    time.sleep(0.1)


def _rows(folder):
  """The events, kinds and losses of a run, without timings."""
  path = folder / 'seed_0' / 'sleep' / 'metrics.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [(row['event'], row['kind'], row.get('loss')) for row in rows]


def test_a_run_of_one_process_then_two_then_one_equals_one_of_one(home):
  """Two processes of two devices continue a day, and stop in its night."""
  study.Study(config(), str(home / 'whole')).run()
  checks = itertools.count()
  with pytest.raises(context.Interrupted):
    study.Study(
      config(), str(home / 'run'), stop=lambda: next(checks) == 8
    ).run()
  pair = _start(home, 'run', num=2, devices=2)
  _wait_for_text(pair[0][1], 'night 1: ', pair[0][0])
  pair[1][0].send_signal(signal.SIGTERM)  # Only one of them.
  ended = _ended(pair)
  for code, text in ended:
    assert code == 128 + signal.SIGTERM and 'saved' in text, text
  # They neither began again nor finished.
  assert 'continues from moment 0, step 5' in ended[0][1]
  assert 'night 1: stopped at' in ended[0][1]
  study.Study(config(), str(home / 'run')).run()
  assert (home / 'run' / 'report.html').exists()
  for (*event, loss), (*wanted_event, wanted_loss) in zip(
    _rows(home / 'run'), _rows(home / 'whole'), strict=True
  ):
    assert event == wanted_event
    assert loss is wanted_loss is None or np.isclose(
      loss, wanted_loss, rtol=1e-4
    )
  found, wanted = (
    checkpoint_reading.latest_weights(
      str(home / name / 'seed_0/sleep/checkpoints')
    )[0]
    for name in ('run', 'whole')
  )
  for path, leaf in wanted['params'].items():
    np.testing.assert_allclose(found['params'][path], leaf, atol=1e-4)


def test_error_says_that_another_process_was_lost(home):
  pair = _start(home, 'lost', num=2, devices=1)
  _wait_for_text(pair[0][1], 'pretrain: ', pair[0][0])
  pair[1][0].kill()
  (code, text), _ = _ended(pair, 90)
  assert code == 1
  assert 'one of them was lost' in text and 'Traceback' not in text


def test_processes_with_different_configs_stop(home):
  pair = _start(home, 'two', num=2, devices=1, configs=('spread', 'rows'))
  for code, text in _ended(pair, 90):
    assert code == 1 and 'have another config than process 0' in text
  assert not (home / 'two' / 'config.json').exists()


def test_unreachable_coordinator_is_reported_quickly(home):
  flags = dict(coordinator='localhost:1', coordinator_timeout=2, processes=2)
  started = _start(home, 'alone', num=1, devices=1, process=1, **flags)
  ((code, out),) = _ended(started, 60)
  assert code == 1 and 'Nothing answers' in out and 'Traceback' not in out


@pytest.mark.parametrize(
  'coordinator, num, index, message',
  [
    ('localhost', 1, 0, 'expected HOST:PORT'),
    ('localhost:1', 1, 5, 'expected 0 to 1 - 1'),
    ('localhost:1', None, None, 'needs --processes and --process too'),
    ('', 2, None, '--coordinator is not'),
  ],
)
def test_invalid_numbers_and_addresses_raise(coordinator, num, index, message):
  with pytest.raises(ValueError, match=message):
    processes.start(coordinator, num, index, timeout=1)
