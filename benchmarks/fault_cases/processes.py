"""Starts, watches and kills the processes of a case."""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[2]
_PERIOD = 0.002  # Seconds between two looks at a process.
_LIMIT = 600.0  # Seconds after which a process is said to hang.
# Text that no command prints, whatever happens to it.
_TRACES = re.compile(
  r'Traceback \(most recent call last\)|Exception ignored|never awaited|'
  r'Task was destroyed|Fatal Python error|Segmentation fault'
)


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a process ended.

  Attributes:
    code: exit status; negative: the signal that ended it.
    text: standard output and standard error.
    seconds: that it took.
  """

  code: int
  text: str
  seconds: float

  @property
  def has_trace(self) -> bool:
    """Whether it printed a traceback or a message of the interpreter."""
    return bool(_TRACES.search(self.text))

  @property
  def last_lines(self) -> str:
    return ' | '.join(self.text.strip().splitlines()[-3:])[-400:]


class Process:
  """A command in a process of its own, with its output in a file."""

  def __init__(
    self,
    arguments: Sequence[str],
    log: pathlib.Path,
    *,
    cache: pathlib.Path,
    stdin: str = '',
    environment: Mapping[str, str] = {},
    prefix: Sequence[str] = (),
    setup: Callable[[], None] | None = None,
  ):
    """Starts the command.

    Args:
      arguments: of the interpreter.
      log: file for its output.
      cache: folder of compiled programs, shared by all cases.
      stdin: what it reads.
      environment: additional variables.
      prefix: command that runs it, such as setpriv and its flags.
      setup: called in the child before the command starts.
    """
    text = log.with_suffix('.stdin')
    text.write_text(stdin)
    self._log, self._began = log, time.monotonic()
    with open(log, 'wb') as output, open(text, 'rb') as given:
      self.process = subprocess.Popen(
        [*prefix, 'nice', sys.executable, *arguments], cwd=ROOT, stdout=output,
        stderr=subprocess.STDOUT, stdin=given, preexec_fn=setup,
        env=os.environ | _environment(cache) | environment,
      )  # fmt: skip

  def text(self) -> str:
    """Returns what it has printed so far."""
    return self._log.read_text(errors='replace')

  def seconds(self) -> float:
    """Returns the seconds since it started."""
    return time.monotonic() - self._began

  def wait_for(self, is_reached: Callable[[], bool]) -> bool:
    """Waits until a moment; returns False if the process ended before."""
    while self.process.poll() is None:
      if is_reached():
        return True
      if self.seconds() > _LIMIT:
        return False
      time.sleep(_PERIOD)
    return False

  def send(self, number: int = signal.SIGKILL) -> None:
    """Sends a signal; does nothing if the process has ended."""
    self.process.send_signal(number)

  def end(self) -> Ended:
    """Waits for the end; a process that hangs is killed."""
    try:
      self.process.wait(_LIMIT)
    except subprocess.TimeoutExpired:
      self.process.kill()
      self.process.wait()
    return Ended(self.process.returncode, self.text(), self.seconds())


def _environment(cache: pathlib.Path) -> dict[str, str]:
  return {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '1',
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    'PYTHONUNBUFFERED': '1',
    'PYTHONPATH': str(ROOT),
  }
