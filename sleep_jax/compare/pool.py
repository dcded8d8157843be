"""Runs jobs in processes, at most one per slot and as many as fit in memory.

A job waits for the jobs that it needs; if one of them failed, it fails too.
Another failure leaves the others alone. Asked to stop, the pool lets every job
save first.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.compare import kinds, machine
from sleep_jax.storage import workdir

Outcome = dict[str, Any]
_POLL = 0.1  # Seconds.
_TAIL = 400  # Characters of a log that a reason quotes.


@dataclasses.dataclass(frozen=True)
class Job:
  """One process.

  Attributes:
    name: for messages; different for every job.
    needs: names of jobs that must have finished.
    command: of the process; the path of the job's file is appended.
    content: of the job's file, see `compare.job`.
    folder: of the job's file, its log and its outcome.
    counted: whether the memory that it needs is that of a unit.
  """

  name: str
  needs: tuple[str, ...]
  command: tuple[str, ...]
  content: Mapping[str, Any]
  folder: pathlib.Path
  counted: bool = True


@dataclasses.dataclass
class _Running:
  job: Job
  slot: machine.Slot
  process: subprocess.Popen


class Pool:
  """Runs jobs until all have ended.

  Attributes:
    outcomes: of the jobs that have ended, by name.
    peak: bytes that a unit needs, as far as known; 0: nothing is known, and one
      job runs at a time.
  """

  def __init__(
    self,
    slots: Sequence[machine.Slot],
    *,
    peak: int = 0,
    free_bytes: Callable[[], int] = machine.free_bytes,
    stop: Callable[[], bool] = lambda: False,
    on_start: Callable[[Job, machine.Slot], None] = lambda job, slot: None,
    on_end: Callable[[Job, Outcome], None] = lambda job, outcome: None,
  ):
    """Starts nothing yet.

    Args:
      slots: where jobs run.
      peak: see above.
      free_bytes: returns the free memory of the machine.
      stop: returns whether the pool is asked to stop.
      on_start, on_end: called with each job.
    """
    self._free, self.peak = [*slots], peak
    self._free_bytes, self._stop = free_bytes, stop
    self._on_start, self._on_end = on_start, on_end
    self._running: list[_Running] = []
    self.outcomes: dict[str, Outcome] = {}

  def run(self, jobs: Sequence[Job]) -> bool:
    """Runs jobs in this order; returns whether all have ended.

    Raises:
      OutOfMemoryError: not even one job fits into memory.
    """
    waiting = [*jobs]
    try:
      while waiting or self._running:
        if self._stop():
          return False
        self._collect()
        waiting = self._without_lost(waiting)
        ready = [
          job for job in waiting if all(n in self.outcomes for n in job.needs)
        ]
        if ready and self._free and self._has_memory(ready[0]):
          waiting.remove(ready[0])
          self._start(ready[0])
        else:
          time.sleep(_POLL)
      return True
    finally:
      self._end_all()

  def _without_lost(self, waiting: list[Job]) -> list[Job]:
    """Fails the jobs that need one that failed; returns the others."""
    kept = []
    for job in waiting:
      lost = [
        name
        for name in job.needs
        if self.outcomes.get(name, {}).get('status') == 'failed'
      ]
      if lost:
        reason = f'{lost[0]} failed: {self.outcomes[lost[0]]["reason"]}'
        self._finish(job, _failure('NeededJobFailed', reason))
      else:
        kept.append(job)
    return kept

  def _has_memory(self, job: Job) -> bool:
    if not self.peak:
      return not self._running
    resident = [machine.resident_bytes(r.process.pid) for r in self._running]
    free = self._free_bytes()
    if machine.fits(free, self.peak, resident):
      return True
    if not self._running:
      raise errors.OutOfMemoryError(
        f'{job.name} needs up to {self.peak / 2**30:.2f} GiB of memory, and '
        f'{free / 2**30:.2f} GiB are free: end other processes, or, if it needs'
        ' less, set config.compare.memory_gib.'
      )
    return False

  def _start(self, job: Job) -> None:
    slot = self._free.pop(0)
    file = job.folder / 'job.json'
    out = job.folder / 'outcome.json'
    out.unlink(missing_ok=True)
    workdir.write_json(
      file, {**job.content, 'core': slot.core, 'out': str(out)}
    )
    with open(job.folder / 'log.txt', 'ab') as log:
      process = subprocess.Popen(
        [*job.command, str(file)], stdout=log, stderr=log,
        stdin=subprocess.DEVNULL, env={**os.environ, **slot.env},
        start_new_session=True,  # Ctrl-C reaches it through the pool alone.
      )  # fmt: skip
    self._running.append(_Running(job, slot, process))
    self._on_start(job, slot)

  def _collect(self) -> None:
    """Reads the outcomes of processes that have ended."""
    for running in [*self._running]:
      status = running.process.poll()
      if status is None:
        continue
      self._running.remove(running)
      self._free.append(running.slot)
      if status == kinds.INTERRUPTED:
        reason = _tail(running.job.folder) or 'it was stopped'
        self._finish(running.job, _failure('Interrupted', reason))
        continue
      out = running.job.folder / 'outcome.json'
      if out.exists():
        outcome = json.loads(out.read_text())
      else:
        outcome = _failure('Killed', _describe(status, running.job.folder))
      if running.job.counted:
        self.peak = max(self.peak, outcome.get('peak_bytes', 0))
      self._finish(running.job, outcome)

  def _finish(self, job: Job, outcome: Outcome) -> None:
    self.outcomes[job.name] = outcome
    self._on_end(job, outcome)

  def _end_all(self) -> None:
    """Lets the jobs that run save and end."""
    for running in self._running:
      running.process.terminate()
    for running in self._running:
      running.process.wait()


def _failure(error: str, reason: str) -> Outcome:
  return {'status': 'failed', 'error': error, 'reason': reason, 'runs': []}


def _describe(status: int, folder: pathlib.Path) -> str:
  """Says how a process ended that wrote no outcome."""
  if status < 0:
    more = ' (memory may have been short)' if status == -9 else ''
    return f'ended by signal {-status}{more}'
  return f'ended with status {status}: {_tail(folder)}'


def _tail(folder: pathlib.Path) -> str:
  text = (folder / 'log.txt').read_text(errors='replace').strip()
  return text[-_TAIL:]
