"""Compares runs on many devices and processes with the run on one device.

The run of configs/tiny.py (days, nights, rewarded dreams) is repeated with 2
and 4 processes, with a stop in a night and a restart on another mesh, after a
process was killed, and on eight simulated devices in every mesh. Each result is
the difference of its losses and final weights from those on one device. Results
that are already in the output file are not computed again.

python -m benchmarks.meshes --out=docs/results/tpu/meshes.json
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from sleep_jax.runtime import mesh as mesh_lib
from sleep_jax.storage import checkpoint_reading

ROOT = pathlib.Path(__file__).parents[1]
DEVICES = 8
_NAMES = 'where', 'ended', 'then'  # Fields that identify a case.
_NIGHT = 'night 1: '  # Start of a log line of a round of the first night.


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Processes and devices of a part of a run.

  Attributes:
    processes: number of processes.
    devices: number of devices per process.
    mesh: sizes of the mesh axes.
  """

  processes: int
  devices: int
  mesh: dict[str, int]

  def __str__(self):
    axes = ' '.join(f'{axis}={size}' for axis, size in self.mesh.items())
    return f'{self.processes} x {self.devices} devices, {axes}'


@dataclasses.dataclass(frozen=True)
class Case:
  """A run, which may be stopped by a signal to one process and continued.

  Attributes:
    first: where the run starts.
    ended: the signal, 'SIGTERM' or 'SIGKILL'; '' for a run without a stop.
    then: where the run continues after the signal.
  """

  first: Cluster
  ended: str = ''
  then: Cluster | None = None


def meshes(num: int) -> Iterator[dict[str, int]]:
  """Yields all meshes of `num` devices."""
  sizes = [n for n in range(1, num + 1) if not num % n]
  for shape in itertools.product(sizes, repeat=len(mesh_lib.AXES)):
    if math.prod(shape) == num:
      yield dict(zip(mesh_lib.AXES, shape, strict=True))


def cases() -> list[Case]:
  """Returns all cases."""
  whole = [Case(Cluster(1, DEVICES, mesh)) for mesh in meshes(DEVICES)]
  spread = dict(fsdp=2, sequence=2, tensor=2)
  rows, wide = dict(data=8), dict(fsdp=8)
  return [
    Case(Cluster(2, 4, spread)),
    Case(Cluster(4, 2, spread)),
    Case(Cluster(2, 4, wide), 'SIGTERM', Cluster(4, 2, rows)),
    Case(Cluster(4, 2, spread), 'SIGTERM', Cluster(1, 1, {})),
    Case(Cluster(2, 4, rows), 'SIGKILL', Cluster(1, 8, wide)),
    *whole,
  ]


def execute(case: Case, folder: pathlib.Path) -> dict[str, Any]:
  """Executes a run to its end; returns exit codes and the last log line."""
  folder.mkdir()
  if not case.ended:
    with _processes(case.first, folder, 'first') as processes:
      codes = [process.wait() for process in processes]
    if any(codes):
      raise RuntimeError((folder / 'first.0.log').read_text()[-9000:])
    return {'codes': codes}
  with _processes(case.first, folder, 'first') as processes:
    log = folder / 'first.0.log'
    while _NIGHT not in log.read_text():
      if processes[0].poll() is not None:
        raise RuntimeError(log.read_text()[-9000:])
      time.sleep(0.1)
    sent = time.perf_counter()
    processes[-1].send_signal(getattr(signal, case.ended))
    codes = [process.wait() for process in processes]
    seconds = time.perf_counter() - sent
  last_line = log.read_text().strip().splitlines()[-1]
  assert case.then is not None
  with _processes(case.then, folder, 'then') as processes:
    then = [process.wait() for process in processes]
  return {
    'codes': codes,
    'seconds_to_end': seconds,
    'said': last_line,
    'codes_then': then,
  }


@contextlib.contextmanager
def _processes(cluster, folder, name):
  """Starts the processes of a part of a run; their output goes to log files."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  distributed = [f'--coordinator=localhost:{port}']
  distributed += [
    f'--processes={cluster.processes}',
    '--coordinator_timeout=120',
  ]
  # Set all axes: the config of a continued run has another mesh.
  mesh = dict.fromkeys(mesh_lib.AXES, 1) | cluster.mesh
  with contextlib.ExitStack() as stack:
    processes = []
    for number in range(cluster.processes):
      log = stack.enter_context((folder / f'{name}.{number}.log').open('w'))
      processes.append(stack.enter_context(subprocess.Popen(
        [sys.executable, '-m', 'sleep_jax.main', '--config=configs/tiny.py',
         f'--workdir={folder / "run"}',
         f'--config.compile_cache={folder.parent / "compiled"}',
         *(f'--config.mesh.{axis}={size}' for axis, size in mesh.items()),
         *([*distributed, f'--process={number}']
           if cluster.processes > 1 else [])],
        cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        # Half of the time is spent in compilation. A device that waits for
        # others blocks a thread, possibly several. With as many threads as
        # devices (the default), all may wait for a device without a thread.
        env=os.environ | {
          'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '', 'NPROC': '64',
          'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2',
          'JAX_NUM_CPU_DEVICES': str(cluster.devices),
        },
      )))  # fmt: skip
    yield processes


def difference(folder: pathlib.Path, other: pathlib.Path) -> dict[str, Any]:
  """Returns how far the results of a run are from those of another one."""
  rows, expected_rows = _losses(folder), _losses(other)
  loss_differences = [
    abs(x - y) / max(abs(y), 1e-9)
    for (_, x), (_, y) in zip(rows, expected_rows, strict=True)
    if y is not None
  ]
  same = [a for a, _ in rows] == [b for b, _ in expected_rows]
  params, expected = (
    checkpoint_reading.latest_weights(str(x / 'run/seed_0/sleep/checkpoints'))[
      0
    ]['params']
    for x in (folder, other)
  )
  weights = max(
    float(np.max(np.abs(np.asarray(params[path]) - np.asarray(leaf))))
    for path, leaf in expected.items()
  )
  dreams, expected_dreams = (
    (x / 'run/seed_0/sleep/dreams.jsonl').read_text().splitlines()
    for x in (folder, other)
  )
  num_rewarded = lambda rows: sum(
    json.loads(row)['kept'] == 'rewarded' for row in rows
  )
  return {
    'same_events': same, 'loss': max(loss_differences), 'weights': weights,
    'dreams': len(dreams), 'rewarded': num_rewarded(dreams),
    'rewarded_on_one_device': num_rewarded(expected_dreams),
  }  # fmt: skip


def _losses(folder):
  lines = (folder / 'run/seed_0/sleep/metrics.jsonl').read_text().splitlines()
  rows = map(json.loads, lines)
  return [((row['event'], row['kind']), row.get('loss')) for row in rows]


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  out = pathlib.Path(parser.parse_args().out)
  out.parent.mkdir(parents=True, exist_ok=True)
  found = json.loads(out.read_text()) if out.exists() else []
  done = [{key: row.get(key) for key in _NAMES} for row in found]
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    one = home / 'one'
    execute(Case(Cluster(1, 1, {})), one)
    for number, case in enumerate(cases()):
      row: dict[str, Any] = {'where': str(case.first)}
      if case.then is not None:
        row |= {'ended': case.ended, 'then': str(case.then)}
      if {key: row.get(key) for key in _NAMES} in done:
        continue
      start = time.perf_counter()
      row |= execute(case, home / str(number))
      row['seconds'] = time.perf_counter() - start
      row |= difference(home / str(number), one)
      found.append(row)
      print(json.dumps(row), flush=True)
      out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()
