"""One life on one device, and on many: the same numbers, wherever it is lived.

The life of configs/tiny.py (days, nights, rewarded dreams) on one device; by 2
and 4 processes; stopped in a night and gone on with by others; after a
process was killed; and on eight pretend devices in every mesh. Of each: how far
its losses and its last weights are from those of one device. What stands in the
file already is not lived again.

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
_NAMES = 'where', 'ended', 'then'  # Of a case, in its row.
_NIGHT = 'night 1: '  # What is said of a round of it.


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a part of a life is lived.

  Attributes:
    processes: of so many,
    devices: each.
    mesh: sizes of the axes.
  """

  processes: int
  devices: int
  mesh: dict[str, int]

  def __str__(self):
    axes = ' '.join(f'{axis}={size}' for axis, size in self.mesh.items())
    return f'{self.processes} x {self.devices} devices, {axes}'


@dataclasses.dataclass(frozen=True)
class Case:
  """A life: where, and if it was ended by a signal to one, where it went on."""

  first: Place
  ended: str = ''  # 'SIGTERM' or 'SIGKILL'.
  then: Place | None = None


def meshes(num: int) -> Iterator[dict[str, int]]:
  """All meshes of so many devices."""
  sizes = [n for n in range(1, num + 1) if not num % n]
  for shape in itertools.product(sizes, repeat=len(mesh_lib.AXES)):
    if math.prod(shape) == num:
      yield dict(zip(mesh_lib.AXES, shape, strict=True))


def cases() -> list[Case]:
  whole = [Case(Place(1, DEVICES, mesh)) for mesh in meshes(DEVICES)]
  spread = dict(fsdp=2, sequence=2, tensor=2)
  rows, wide = dict(data=8), dict(fsdp=8)
  return [
    Case(Place(2, 4, spread)),
    Case(Place(4, 2, spread)),
    Case(Place(2, 4, wide), 'SIGTERM', Place(4, 2, rows)),
    Case(Place(4, 2, spread), 'SIGTERM', Place(1, 1, {})),
    Case(Place(2, 4, rows), 'SIGKILL', Place(1, 8, wide)),
    *whole,
  ]


def lived(case: Case, folder: pathlib.Path) -> dict[str, Any]:
  """Lives a life to its end; what was said where it was ended."""
  folder.mkdir()
  if not case.ended:
    with _started(case.first, folder, 'first') as processes:
      codes = [process.wait() for process in processes]
    if any(codes):
      raise RuntimeError((folder / 'first.0.log').read_text()[-9000:])
    return {'codes': codes}
  with _started(case.first, folder, 'first') as processes:
    log = folder / 'first.0.log'
    while _NIGHT not in log.read_text():
      if processes[0].poll() is not None:
        raise RuntimeError(log.read_text()[-9000:])
      time.sleep(0.1)
    sent = time.perf_counter()
    processes[-1].send_signal(getattr(signal, case.ended))
    codes = [process.wait() for process in processes]
    seconds = time.perf_counter() - sent
  said = log.read_text().strip().splitlines()[-1]
  assert case.then is not None
  with _started(case.then, folder, 'then') as processes:
    then = [process.wait() for process in processes]
  return {
    'codes': codes, 'seconds_to_end': seconds, 'said': said, 'codes_then': then
  }  # fmt: skip


@contextlib.contextmanager
def _started(place, folder, name):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  together = [f'--coordinator=localhost:{port}']
  together += [f'--processes={place.processes}', '--coordinator_timeout=120']
  # All axes: a life goes on on a mesh of which it knows nothing.
  mesh = dict.fromkeys(mesh_lib.AXES, 1) | place.mesh
  with contextlib.ExitStack() as stack:
    started = []
    for number in range(place.processes):
      log = stack.enter_context((folder / f'{name}.{number}.log').open('w'))
      started.append(stack.enter_context(subprocess.Popen(
        [sys.executable, '-m', 'sleep_jax.main', '--config=configs/tiny.py',
         f'--workdir={folder / "run"}',
         f'--config.compile_cache={folder.parent / "compiled"}',
         *(f'--config.mesh.{axis}={size}' for axis, size in mesh.items()),
         *([*together, f'--process={number}'] if place.processes > 1 else [])],
        cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        # Half the time is compiling. A device that waits for others holds a
        # thread, and may have several: with as few threads as devices (the
        # default) all may wait for one that has none.
        env=os.environ | {
          'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '', 'NPROC': '64',
          'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'TF_CPP_MIN_LOG_LEVEL': '2',
          'JAX_NUM_CPU_DEVICES': str(place.devices),
        },
      )))  # fmt: skip
    yield started


def apart(folder: pathlib.Path, other: pathlib.Path) -> dict[str, Any]:
  """How far one life's end is from another's."""
  ours, theirs = _numbers(folder), _numbers(other)
  far = [
    abs(x - y) / max(abs(y), 1e-9)
    for (_, x), (_, y) in zip(ours, theirs, strict=True)
    if y is not None
  ]
  same = [a for a, _ in ours] == [b for b, _ in theirs]
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
  kept = lambda rows: sum(json.loads(r)['kept'] == 'rewarded' for r in rows)
  return {
    'same_events': same, 'loss': max(far), 'weights': weights,
    'dreams': len(dreams), 'rewarded': kept(dreams),
    'rewarded_on_one_device': kept(expected_dreams),
  }  # fmt: skip


def _numbers(folder):
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
    lived(Case(Place(1, 1, {})), one)
    for number, case in enumerate(cases()):
      there = home / str(number)
      row: dict[str, Any] = {'where': str(case.first)}
      if case.then is not None:
        row |= {'ended': case.ended, 'then': str(case.then)}
      if {key: row.get(key) for key in _NAMES} in done:
        continue
      start = time.perf_counter()
      row |= lived(case, there)
      row['seconds'] = time.perf_counter() - start
      row |= apart(there, one)
      found.append(row)
      print(json.dumps(row), flush=True)
      out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()
