"""Counts the cost of a run: tokens, optimizer steps, time and memory.

Totals are plain numbers that are saved with the checkpoint, so an interrupted
run reports the sum over all its parts. Time counts only inside `measure_time`:
evaluating and drawing the report are not costs of learning.
"""

import contextlib
import time
from collections.abc import Iterator

from sleep_jax.evaluate import flops

COUNTS = ('tokens_read', 'tokens_generated', 'tokens_forward', 'steps')
TIMES = ('seconds', 'cpu_seconds')
SIZES = (
  'added_parameters', 'stored_bytes', 'question_tokens', flops.PER_TOKEN
)  # fmt: skip


class Cost:
  """Accumulates the totals of one run.

  The totals are:
    tokens_read, tokens_generated: tokens trained on and tokens sampled.
    tokens_forward: read without a backward pass: by teachers, as prompts of
      samples, and in reviews.
    steps: optimizer steps, awake and asleep.
    seconds, cpu_seconds: wall time, and processor time of all threads.
    added_parameters, stored_bytes: current sizes.
    question_tokens: read before each question at present, on average.
    flops_per_token: of a forward pass.
  """

  def __init__(self, totals: dict[str, float] | None = None):
    """Initializes the totals.

    Args:
      totals: result of `totals()` of an earlier part of the run; None starts
        from 0.

    Raises:
      ValueError: `totals` has an unknown name.
    """
    names = (*COUNTS, *TIMES, *SIZES)
    unknown = set(totals or {}) - set(names)
    if unknown:
      raise ValueError(
        f'Unknown costs {sorted(unknown)}: expected names from '
        f'{", ".join(names)}.'
      )
    self._totals = {**dict.fromkeys(names, 0), **(totals or {})}
    self._start: tuple[float, float] | None = None

  def add(self, **counts: int) -> None:
    """Adds to some of `COUNTS`."""
    self._check(counts, COUNTS)
    for name, count in counts.items():
      self._totals[name] += int(count)

  def set_sizes(self, **sizes: int) -> None:
    """Sets some of `SIZES` to their current values."""
    self._check(sizes, SIZES)
    self._totals.update({name: int(size) for name, size in sizes.items()})

  @contextlib.contextmanager
  def measure_time(self) -> Iterator['Cost']:
    """Measures time inside the context; `totals` may be called within it.

    Raises:
      RuntimeError: if time is already being measured.
    """
    if self._start is not None:
      raise RuntimeError(
        'measure_time is already active: a nested call would count time '
        'twice. Leave the outer context first.'
      )
    self._start = (time.perf_counter(), time.process_time())
    try:
      yield self
    finally:
      self._totals = self.totals()
      self._start = None

  def totals(self) -> dict[str, float]:
    """Returns all totals so far, ready for JSON and for `Cost(totals)`."""
    totals = dict(self._totals)
    if self._start is not None:
      totals['seconds'] += time.perf_counter() - self._start[0]
      totals['cpu_seconds'] += time.process_time() - self._start[1]
    return totals

  def times_since(self, totals: dict[str, float]) -> dict[str, float]:
    """Returns the times, in seconds, since `totals` was returned earlier."""
    now = self.totals()
    return {name: now[name] - totals[name] for name in TIMES}

  def _check(self, values: dict[str, int], names: tuple[str, ...]) -> None:
    unknown = set(values) - set(names)
    if unknown:
      raise ValueError(
        f'Unknown costs {sorted(unknown)}: expected names from '
        f'{", ".join(names)}.'
      )
