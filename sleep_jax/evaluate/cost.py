"""Cost: what a strategy spent, counted where it is spent.

Totals are plain numbers that travel with the checkpoint, so a run that was
interrupted reports what all its parts spent. Time counts only inside
`running`: what is evaluated or drawn for the reader is no cost of learning.
"""

import contextlib
import time
from collections.abc import Iterator

COUNTS = ('tokens_read', 'tokens_generated', 'steps')
TIMES = ('seconds', 'cpu_seconds')
SIZES = ('added_parameters', 'stored_bytes')


class Cost:
  """Totals of one run.

  Attributes:
    tokens_read, tokens_generated: tokens trained on and sampled.
    steps: optimizer steps, awake and asleep.
    seconds, cpu_seconds: wall time, and processor time of all threads.
    added_parameters, stored_bytes: sizes as they stand now.
  """

  def __init__(self, totals: dict[str, float] | None = None):
    """Continues from `totals` of an earlier part of the run, if any."""
    names = (*COUNTS, *TIMES, *SIZES)
    unknown = set(totals or {}) - set(names)
    if unknown:
      raise ValueError(
        f'Unknown costs {sorted(unknown)}; known are {", ".join(names)}.'
      )
    self._totals = {**dict.fromkeys(names, 0), **(totals or {})}
    self._since: tuple[float, float] | None = None

  def add(self, **counts: int) -> None:
    """Adds to tokens_read, tokens_generated or steps."""
    self._check(counts, COUNTS)
    for name, count in counts.items():
      self._totals[name] += int(count)

  def hold(self, **sizes: int) -> None:
    """Sets added_parameters or stored_bytes to what they are now."""
    self._check(sizes, SIZES)
    self._totals.update({name: int(size) for name, size in sizes.items()})

  @contextlib.contextmanager
  def running(self) -> Iterator['Cost']:
    """Time passes inside; `totals` may be asked for at any moment of it."""
    if self._since is not None:
      raise RuntimeError('The clock already runs: a second would count twice.')
    self._since = (time.perf_counter(), time.process_time())
    try:
      yield self
    finally:
      self._totals = self.totals()
      self._since = None

  def totals(self) -> dict[str, float]:
    """All totals so far, ready for JSON and for `Cost(totals)`."""
    totals = dict(self._totals)
    if self._since is not None:
      totals['seconds'] += time.perf_counter() - self._since[0]
      totals['cpu_seconds'] += time.process_time() - self._since[1]
    return totals

  def spent_since(self, totals: dict[str, float]) -> dict[str, float]:
    """Times by name, in seconds, since an earlier answer of `totals`."""
    now = self.totals()
    return {name: now[name] - totals[name] for name in TIMES}

  def _check(self, given: dict[str, int], names: tuple[str, ...]) -> None:
    unknown = set(given) - set(names)
    if unknown:
      raise ValueError(
        f'Unknown {sorted(unknown)}; known here are {", ".join(names)}.'
      )
