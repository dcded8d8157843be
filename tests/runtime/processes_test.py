"""Several processes live as one does, whatever becomes of them in between."""

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

from sleep_jax.runs import study
from sleep_jax.runtime import processes
from sleep_jax.storage import checkpoint_reading
from tests import town

pytestmark = pytest.mark.usefixtures('one_device')
one_device = town.one_device

ROOT = pathlib.Path(__file__).parents[2]
# A file of its own: a process reads its config as anybody's does.
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
  """A town whose days leave more to learn than rounding."""
  c = town.config()
  c.wake.steps = 12
  return c


def _start(home, workdir, *, num, devices, configs=('spread',), **flags):
  """All processes of a run, and what each says."""
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
  """Exit codes and what was said, by process."""
  found = []
  for process, log in started:
    code = process.wait(seconds)
    log.seek(0)
    found.append((code, log.read()))
  return found


def _until(log, said, process):
  """Waits until a process has said something."""
  path = pathlib.Path(log.name)
  while said not in path.read_text():
    assert process.poll() is None, path.read_text()
    time.sleep(0.1)


def _rows(folder):
  """The numbers of a life, less what is timed."""
  path = folder / 'seed_0' / 'sleep' / 'metrics.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  return [(row['event'], row['kind'], row.get('loss')) for row in rows]


def test_stopped_and_gone_on_elsewhere_they_live_as_one(home):
  """Two processes of two devices, told to stop; then four of one."""
  study.Study(config(), str(home / 'whole')).run()
  pair = _start(home, 'run', num=2, devices=2)
  _until(pair[0][1], 'night 1: ', pair[0][0])
  pair[1][0].send_signal(signal.SIGTERM)  # To one of them.
  for code, said in _ended(pair):
    assert code == 128 + signal.SIGTERM and 'saved' in said, said
  four = _start(home, 'run', num=4, devices=1, configs=('rows',))
  for code, said in _ended(four):
    assert code == 0, said
  assert (home / 'run' / 'report.html').exists()
  for (*where, loss), (*there, same) in zip(
    _rows(home / 'run'), _rows(home / 'whole'), strict=True
  ):
    assert where == there
    assert loss is same is None or np.isclose(loss, same, rtol=1e-4)
  ours, theirs = (
    checkpoint_reading.latest_weights(
      str(home / name / 'seed_0/sleep/checkpoints')
    )[0]
    for name in ('run', 'whole')
  )
  for path, leaf in theirs['params'].items():
    np.testing.assert_allclose(ours['params'][path], leaf, atol=1e-4)


def test_who_lost_another_says_so(home):
  pair = _start(home, 'lost', num=2, devices=1)
  _until(pair[0][1], 'birth: ', pair[0][0])
  pair[1][0].kill()
  (code, said), _ = _ended(pair, 90)
  assert code == 1
  assert 'one of them was lost' in said and 'Traceback' not in said


def test_another_config_is_refused(home):
  pair = _start(home, 'two', num=2, devices=1, configs=('spread', 'rows'))
  for code, said in _ended(pair, 90):
    assert code == 1 and 'have another config than process 0' in said
  assert not (home / 'two' / 'config.json').exists()


def test_who_cannot_be_reached_is_said_soon(home):
  flags = dict(coordinator='localhost:1', coordinator_timeout=2, processes=2)
  started = _start(home, 'alone', num=1, devices=1, process=1, **flags)
  ((code, out),) = _ended(started, 60)
  assert code == 1 and 'Nobody answers' in out and 'Traceback' not in out


@pytest.mark.parametrize(
  'coordinator, num, index, said',
  [
    ('localhost', 1, 0, 'expected HOST:PORT'),
    ('localhost:1', 1, 5, 'expected 0 to 1 - 1'),
    ('localhost:1', None, None, 'needs --processes and --process too'),
    ('', 2, None, 'no --coordinator'),
  ],
)
def test_numbers_and_addresses_that_cannot_be_are_refused(
  coordinator, num, index, said
):
  with pytest.raises(ValueError, match=said):
    processes.start(coordinator, num, index, timeout=1)
