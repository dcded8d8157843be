"""Measures what a phase costs: CPU time, time, compiling and peak memory."""

import contextlib
import pathlib
import re
import time
from collections.abc import Iterator
from typing import Any

from sleep_jax.runtime import profiling

_PROC = pathlib.Path('/proc/self')
_RESET_PEAK = '5'  # See proc(5), clear_refs.


@contextlib.contextmanager
def measure(cost: dict[str, Any]) -> Iterator[None]:
  """Fills `cost` with what the body cost.

  Args:
    cost: gets 'cpu_seconds' (of all threads), 'seconds', 'compile_seconds' and
      'peak_bytes' (resident memory of this process; 0 where Linux does not
      tell).
  """
  _reset_peak()
  start, cpu = time.monotonic(), time.process_time()
  with profiling.CompileTimer() as compiling:
    yield
  cost.update(
    cpu_seconds=time.process_time() - cpu,
    seconds=time.monotonic() - start,
    compile_seconds=compiling.seconds,
    peak_bytes=peak_bytes(),
  )


def peak_bytes() -> int:
  """Returns the largest resident memory since the last reset, in bytes."""
  try:
    status = (_PROC / 'status').read_text()
  except OSError:
    return 0
  found = re.search(r'^VmHWM:\s+(\d+) kB', status, re.MULTILINE)
  return int(found[1]) * 1024 if found else 0


def _reset_peak() -> None:
  try:
    (_PROC / 'clear_refs').write_text(_RESET_PEAK)
  except OSError:
    pass  # The peak is then that of the process so far.
