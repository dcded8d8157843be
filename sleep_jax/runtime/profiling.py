"""Records profiler traces of a few program calls, and measures compile time.

A trace shows each phase under its own name (`wake`, `rehearse`, `seed`, ...).
The first call of each program is not traced, because it compiles.
"""

import collections
import pathlib

import jax
from jax import monitoring

_COMPILE_EVENT = '/jax/core/compile/backend_compile_duration'


class Profile:
  """Traces `num` calls of each kind of program.

  Args:
    folder: folder for the traces; each kind gets a subfolder.
    num: number of calls to trace per kind; 0 traces nothing.
  """

  def __init__(self, folder: str, num: int):
    self._folder, self._num = pathlib.Path(folder), num
    self._calls: dict[str, int] = collections.Counter()
    self._tracing = ''

  def record_call(self, kind: str) -> None:
    """Counts a finished call of a program; starts or stops a trace if due.

    Args:
      kind: kind of the program. Its results must be on the host already, so
        that the trace holds whole calls.
    """
    self._calls[kind] += 1
    if self._tracing and (
      self._tracing != kind or self._calls[kind] > self._num
    ):
      self.close()
    if self._calls[kind] == 1 and self._num:
      jax.profiler.start_trace(str(self._folder / kind))
      self._tracing = kind

  def close(self) -> None:
    """Stops the current trace, if any, and writes it."""
    if self._tracing:
      jax.profiler.stop_trace()
    self._tracing = ''


class CompileTimer:
  """Context manager that sums the seconds spent compiling in `seconds`."""

  def __enter__(self) -> 'CompileTimer':
    self.seconds = 0.0
    monitoring.register_event_duration_secs_listener(self._listen)
    return self

  def __exit__(self, *_) -> None:
    monitoring.unregister_event_duration_listener(self._listen)

  def _listen(self, name: str, seconds: float, **_) -> None:
    if name == _COMPILE_EVENT:
      self.seconds += seconds
