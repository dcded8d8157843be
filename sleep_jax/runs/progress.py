"""Shows the progress of each phase and estimates when it ends.

A terminal gets one line that is redrawn. A file, a pipe or a notebook gets
plain lines, at most one every `LINES` seconds. The first step of a phase may
compile, so the time left is estimated from the steps after it.
"""

import io
import shutil
import sys
import time
from collections.abc import Callable
from typing import Self, TextIO

from sleep_jax.report import text_format

REDRAW = 0.2  # Seconds between two drawings on a terminal.
LINES = 10.0  # Minimum seconds between two plain lines.
SILENCE = 60.0  # Seconds after which a plain line is printed in any case.


class Progress:
  """Prints messages and the progress of phases to one stream."""

  def __init__(
    self,
    stream: TextIO | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Initializes the output.

    Args:
      stream: standard error by default.
      clock: returns seconds; for tests.
    """
    self.stream = stream or sys.stderr
    self.clock = clock
    self.is_terminal = self.stream.isatty()
    self._drawn = False

  def say(self, text: str) -> None:
    """Prints one line."""
    self._clear()
    print(text, file=self.stream, flush=True)

  def phase(self, name: str, total: int, *, start: int = 0) -> 'Phase':
    """Returns a phase, to be used as a context manager.

    Args:
      name: shown to the user.
      total: number of units (steps, updates, probes).
      start: units done before, in a run that resumes.
    """
    return Phase(self, name, total, start)

  def draw(self, text: str) -> None:
    """Redraws the progress line of a terminal."""
    width = shutil.get_terminal_size().columns - 1
    self._clear()
    self.stream.write(text[:width])
    self.stream.flush()
    self._drawn = True

  def _clear(self) -> None:
    if self._drawn:
      self.stream.write('\r\x1b[2K')
      self._drawn = False


def silent() -> Progress:
  """Returns a `Progress` that shows nothing."""
  return Progress(io.StringIO())


class Phase:
  """One phase of a run."""

  def __init__(self, progress: Progress, name: str, total: int, start: int):
    self.name, self.total, self.done = name, total, start
    self._progress = progress
    self._numbers: dict[str, float] = {}
    self._began = self._shown = progress.clock()
    self._pace_start: tuple[float, int] | None = None  # Time, units done.
    self._shown_done = start

  def __enter__(self) -> Self:
    if not self._progress.is_terminal:
      resumed = f', from {self.done}' if self.done else ''
      self._progress.say(f'{self.name}: {self.total} to do{resumed}')
    return self

  def __exit__(self, error_type, error, trace) -> None:
    took = text_format.duration(self._progress.clock() - self._began)
    if error_type is None:
      end = f'done in {took}'
    else:
      end = f'stopped at {self.done}/{self.total} after {took}'
    self._progress.say(f'{self.name}: {end}{self._suffix()}')

  def advance(self, num: int = 1, **numbers: float) -> None:
    """Adds finished units.

    Args:
      num: number of units.
      **numbers: shown after the progress, for example loss=1.2.
    """
    self.done += num
    self._numbers = {k: float(v) for k, v in numbers.items()} or self._numbers
    now = self._progress.clock()
    self._pace_start = self._pace_start or (now, self.done)
    if self._progress.is_terminal:
      if now - self._shown >= REDRAW:
        self._shown = now
        self._progress.draw(self._line())
    elif self._is_line_due(now):
      self._shown, self._shown_done = now, self.done
      self._progress.say(self._line())

  def eta(self) -> float | None:
    """Returns the seconds left, or None before they can be estimated."""
    since, done = self._pace_start or (0, self.done)
    if self.done == done:
      return None
    pace = (self._progress.clock() - since) / (self.done - done)
    return pace * max(self.total - self.done, 0)

  def _is_line_due(self, now: float) -> bool:
    waited = now - self._shown
    a_tenth = 10 * (self.done - self._shown_done) >= self.total
    unfinished = self.done < self.total  # The end has a line of its own.
    return unfinished and waited >= LINES and (a_tenth or waited >= SILENCE)

  def _line(self) -> str:
    percent = 100 * self.done // max(self.total, 1)
    eta = self.eta()
    left = '' if eta is None else f', {text_format.duration(eta)} left'
    return (
      f'{self.name}: {self.done}/{self.total} ({percent} %){left}'
      f'{self._suffix()}'
    )

  def _suffix(self) -> str:
    return ''.join(f', {k} {v:.4g}' for k, v in self._numbers.items())
