"""Finds what a machine has free: cores, accelerators and memory.

A slot runs one job at a time: a core of a CPU, to which the job is pinned, or
one GPU. A unit on one core gives the same numbers on every machine, and its
CPU-seconds compare whatever else the machine does.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping

_PROC = pathlib.Path('/proc')
_CGROUP = pathlib.Path('/sys/fs/cgroup')
_IDLE = 0.5  # Share of the time that a free core is idle.
_ONE_THREAD = {
  'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
  'NPROC': '1', 'JAX_NUM_CPU_DEVICES': '1',
}  # fmt: skip
_ASK = (
  'import jax, json; print(json.dumps('
  '[jax.default_backend(), len(jax.local_devices())]))'
)


@dataclasses.dataclass(frozen=True)
class Slot:
  """A place for one job at a time.

  Attributes:
    name: for messages.
    core: to which the job is pinned; None leaves it free.
    env: environment variables of the job.
  """

  name: str
  core: int | None = None
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


def slots(most: int = 0) -> list[Slot]:
  """Returns the slots of this machine, at least one.

  Args:
    most: upper bound of their number; 0: none.
  """
  backend, num = _backend()
  if backend == 'gpu':
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else [str(n) for n in range(num)]
    found = [Slot(f'GPU {n}', env={'CUDA_VISIBLE_DEVICES': n}) for n in names]
  elif backend == 'cpu':
    found = [Slot(f'core {n}', n, _ONE_THREAD) for n in free_cores()]
  else:  # All chips of a TPU belong to one process.
    found = [Slot(backend)]
  return found[:most] if most else found


def free_cores(seconds: float = 1.0) -> list[int]:
  """Returns the cores that this process may use and that are mostly idle.

  Args:
    seconds: how long they are watched.

  Returns:
    Their numbers; if all are busy, the one that is idle most.
  """
  allowed = sorted(os.sched_getaffinity(0))
  before = _idle_ticks()
  time.sleep(seconds)
  after = _idle_ticks()
  idle = {}
  for core in allowed:
    (idle_0, all_0), (idle_1, all_1) = before[core], after[core]
    idle[core] = (idle_1 - idle_0) / max(all_1 - all_0, 1)
  free = [core for core in allowed if idle[core] >= _IDLE]
  return free or [max(allowed, key=lambda core: idle[core])]


def free_bytes() -> int:
  """Returns the memory that new processes can use, in bytes.

  It is the smaller of what the system and the control group of this process
  have left.
  """
  fields = _fields((_PROC / 'meminfo').read_text())
  free = fields['MemAvailable'] * 1024
  try:
    limit = (_CGROUP / 'memory.max').read_text().strip()
    used = int((_CGROUP / 'memory.current').read_text())
    statistics = _fields((_CGROUP / 'memory.stat').read_text())
  except (OSError, ValueError):
    return free
  if limit == 'max':
    return free
  # Pages of files that were read are given back when memory is short.
  return min(free, int(limit) - used + statistics.get('inactive_file', 0))


def resident_bytes(pid: int) -> int:
  """Returns the resident memory of a process, 0 if it has ended."""
  try:
    status = (_PROC / str(pid) / 'status').read_text()
  except OSError:
    return 0
  return _fields(status).get('VmRSS', 0) * 1024


def fits(free: int, peak: int, resident: list[int]) -> bool:
  """Returns whether one more job fits into memory.

  Args:
    free: bytes that are free now.
    peak: bytes that a job may use at most.
    resident: bytes that each running job uses now; the rest up to its peak is
      kept for it.
  """
  return free - sum(max(0, peak - used) for used in resident) >= peak


def _backend() -> tuple[str, int]:
  """Returns JAX's default backend and its number of devices.

  Another process asks, because this one must not occupy a GPU.
  """
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return 'cpu', 1
  ran = subprocess.run(
    [sys.executable, '-c', _ASK], capture_output=True, text=True, check=True
  )
  backend, num = json.loads(ran.stdout.splitlines()[-1])
  return backend, num


def _idle_ticks() -> dict[int, tuple[int, int]]:
  """Returns core -> ticks that it was idle, and all ticks, since the start."""
  found = {}
  for line in (_PROC / 'stat').read_text().splitlines():
    name, *values = line.split()
    if name.startswith('cpu') and name[3:].isdigit():
      ticks = [int(value) for value in values]
      found[int(name[3:])] = (ticks[3] + ticks[4], sum(ticks[:8]))
  return found


def _fields(text: str) -> dict[str, int]:
  """Returns the first number of each line by the word before it."""
  found = {}
  for line in text.splitlines():
    words = line.replace(':', ' ').split()
    if len(words) > 1 and words[1].isdigit():
      found[words[0]] = int(words[1])
  return found
