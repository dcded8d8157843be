"""Traces of a few steps, and how long compiling took.

A trace shows each phase under its own name (`wake`, `rehearse`, `seed`, ...).
The first call of a program compiles it and is left out.
"""

import collections
import pathlib

import jax
from jax import monitoring

_COMPILED = '/jax/core/compile/backend_compile_duration'


class Profile:
  """Traces `num` calls of each kind of program.

  Args:
    folder: where traces are written, one folder for each kind.
    num: calls traced; 0: none.
  """

  def __init__(self, folder: str, num: int):
    self._folder, self._num = pathlib.Path(folder), num
    self._calls: dict[str, int] = collections.Counter()
    self._tracing = ''

  def after(self, kind: str) -> None:
    """A program of a kind has been called, and its results have been seen."""
    self._calls[kind] += 1
    if self._tracing and (
      self._tracing != kind or self._calls[kind] > self._num
    ):
      self.close()
    if self._calls[kind] == 1 and self._num:
      jax.profiler.start_trace(str(self._folder / kind))
      self._tracing = kind

  def close(self) -> None:
    """Writes what is being traced."""
    if self._tracing:
      jax.profiler.stop_trace()
    self._tracing = ''


class Compiling:
  """Seconds of compiling, noted while it is used as `with`."""

  def __enter__(self) -> 'Compiling':
    self.seconds = 0.0
    monitoring.register_event_duration_secs_listener(self._listen)
    return self

  def __exit__(self, *_) -> None:
    monitoring.unregister_event_duration_listener(self._listen)

  def _listen(self, name: str, seconds: float, **_) -> None:
    if name == _COMPILED:
      self.seconds += seconds
