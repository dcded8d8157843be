"""What is done to a run: fills its disk, sends signals, and so on."""

import os
import pathlib
import resource
import signal
import subprocess
import time

from benchmarks.fault_cases import disks, kills, scenarios

Attempt = disks.Attempt
_FULL = r'disk is full|no space left|cannot be written'
_KILOBYTES = 1100  # That a run needs; more than the largest disk has.
# Root reads everything, unless it gives up that right.
_BOUND = ('setpriv', '--bounding-set=-dac_override,-dac_read_search')
_YEAR = 365 * 86400
# Moves the clock of a process, from its start or after some seconds.
_CLOCK = """
import os, time
_time, _began = time.time, time.monotonic()
_by, _after = float(os.environ['CLOCK_BY']), float(os.environ['CLOCK_AFTER'])
def _now():
  return _time() + (_by if time.monotonic() - _began >= _after else 0)
time.time = _now
time.time_ns = lambda: int(_now() * 10**9)
"""


def full_disk(it: Attempt) -> str:
  """Runs on a disk that is too small; then the disk gets larger."""
  kilobytes = 40 + int(it.case.draw * _KILOBYTES)
  work = scenarios.work(it.home)
  work.mkdir()
  if not _mount(work, f'size={kilobytes}k'):
    # Without the right to mount, no file may be larger.
    limit = kilobytes * 40
    set_limit = lambda: resource.setrlimit(
      resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)
    )
    ended = it.run(setup=set_limit)
    how = f'files of at most {limit} bytes'
  else:
    ended = it.run()
    how = f'disk of {kilobytes} kB'
    _mount(work, 'remount,size=64m')
  failed = ended.code or 'error:' in ended.text
  if failed:
    it.refused(ended, _FULL)
  it.finish()
  return f'{how}: {"refused" if failed else "large enough"}'


def long_grace(it: Attempt) -> str:
  """SIGTERM with time to save."""
  return _signalled(it, signal.SIGTERM, 1, '--grace=60')


def short_grace(it: Attempt) -> str:
  """SIGTERM without time to save."""
  return _signalled(it, signal.SIGTERM, 1, '--grace=0.01')


def one_interrupt(it: Attempt) -> str:
  return _signalled(it, signal.SIGINT, 1)


def two_interrupts(it: Attempt) -> str:
  return _signalled(it, signal.SIGINT, 2)


def hangup(it: Attempt) -> str:
  """The terminal is closed."""
  return _signalled(it, signal.SIGHUP, 1)


def _signalled(it: Attempt, number: int, times: int, *flags: str) -> str:
  process = it.start(*flags)
  # Not while the interpreter starts.
  at = max(1.0, it.case.draw * it.seconds)
  process.wait_for(lambda: process.seconds() >= at)
  for _ in range(times):
    process.send(number)
    time.sleep(0.05)
  ended = it.end(process)
  if ended.code not in (0, 128 + number, -number):
    it.why.append(f'exit status {ended.code}, expected {128 + number}')
  it.finish()
  return f'at {at:.1f} s: exit status {ended.code}'


def two_processes(it: Attempt) -> str:
  """One of two processes on the same folder is refused, and says why.

  A run or a chat holds its folder from the start, so it is the second. A
  session holds it while it learns a day or a night, so it may be the first.
  """
  first = it.start()
  first.wait_for(lambda: _is_at_work(it, first))
  second = it.start()
  both = {second: it.end(second), first: it.end(first)}
  refused = [process for process, ended in both.items() if ended.code]
  if len(refused) != 1:
    it.why.append(f'{len(refused)} of 2 were refused')
  for process in refused:
    other = first if process is second else second
    it.refused(both[process], f'is in use by process {other.process.pid}')
  if first in refused and it.case.scenario != 'session':
    it.why.append('the first was refused')
  it.finish()
  names = ['the first' if p is first else 'the second' for p in refused]
  seconds = [both[process].seconds for process in refused]
  return f'{", ".join(names)} refused after {max(seconds, default=0):.1f} s'


def second_goes_back(it: Attempt) -> str:
  """A second process that would delete checkpoints of the first."""
  first = it.start()
  first.wait_for(lambda: 'experience 2' in first.text())
  it.refused(it.run('--restore_cycle=1'), r'is in use by process \d+')
  if it.end(first).code:
    it.why.append(f'the first failed: {it.ended[-1].last_lines}')
  it.finish()
  return 'refused'


def _is_at_work(it: Attempt, process) -> bool:
  return 'experience 1' in process.text() or '\n> ' in process.text()


def read_only(it: Attempt) -> str:
  """The disk of the work directory is read-only, at first or later."""
  work = scenarios.work(it.home)
  work.mkdir()
  if not _mount(work, 'size=64m'):
    return 'not tried: no right to mount'
  if it.case.draw:
    process = it.start()
    at = it.case.draw * it.seconds
    if process.wait_for(lambda: process.seconds() >= at):
      process.send(signal.SIGKILL)
    process.end()
  _mount(work, 'remount,ro')
  it.refused(it.run(), 'read-only|cannot be written')
  _mount(work, 'remount,rw')
  it.finish()
  return 'refused'


def days_read_only(it: Attempt) -> str:
  """Days on a read-only disk are read as any others."""
  days = it.home / 'days'
  bind = ['mount', '--bind', days, days]
  if subprocess.run(bind, stderr=subprocess.DEVNULL).returncode:
    return 'not tried: no right to mount'
  subprocess.run(['mount', '-o', 'remount,ro,bind', days], check=True)
  it.finish()
  return 'the same end'


def days_unreadable(it: Attempt) -> str:
  """A file of days that the user may not read."""
  return _unreadable(it, it.home / 'days' / 'day_9.jsonl', r'day_9\.jsonl')


def model_unreadable(it: Attempt) -> str:
  """A model that the user may not read."""
  file = it.home / 'llama' / 'model.safetensors'
  return _unreadable(it, file, r'model\.safetensors')


def _unreadable(it: Attempt, file: pathlib.Path, pattern: str) -> str:
  file.chmod(0)
  it.refused(it.run(prefix=_bound()), pattern)
  file.chmod(0o644)
  it.finish()
  return 'refused'


def other_user(it: Attempt) -> str:
  """A work directory into which the user may not write."""
  scenarios.work(it.home).mkdir(mode=0o555)
  it.refused(it.run(prefix=_bound()), 'cannot be written')
  scenarios.work(it.home).chmod(0o755)
  it.finish()
  return 'refused'


def work_is_file(it: Attempt) -> str:
  """The work directory is a file."""
  scenarios.work(it.home).write_text('x')
  it.refused(it.run(), 'work')
  if scenarios.work(it.home).read_text() != 'x':
    it.why.append('the file was changed')
  scenarios.work(it.home).unlink()
  it.finish()
  return 'refused'


def clock_back(it: Attempt) -> str:
  """Killed in a year from now, continued today."""
  _kill_at(it, environment=_clock(it, _YEAR))
  it.finish()
  return 'the same end'


def clock_jumps(it: Attempt) -> str:
  """The clock is set back by a day while the process runs."""
  at = it.case.draw * it.seconds
  it.run(environment=_clock(it, -86400, at))
  it.finish()
  return f'after {at:.1f} s: the same end'


def future_files(it: Attempt) -> str:
  """All files of a killed run are of a year from now."""
  _kill_at(it)
  later = time.time() + _YEAR
  for path in it.home.rglob('*'):
    os.utime(path, (later, later))
  it.finish()
  return 'the same end'


def clock_at_zero(it: Attempt) -> str:
  """A machine without a clock, which begins in 1970."""
  _kill_at(it, environment=_clock(it, 60 - time.time()))
  it.run(environment=_clock(it, 60 - time.time()))
  it.finish()
  return 'the same end'


def _kill_at(it: Attempt, **options) -> None:
  process = it.start(**options)
  at = max(0.4, it.case.draw) * it.seconds
  process.wait_for(lambda: process.seconds() >= at)
  process.send(signal.SIGKILL)
  process.end()


def _clock(it: Attempt, by: float, after: float = 0) -> dict[str, str]:
  """Returns the environment of a process with another clock."""
  folder = it.home / 'clock'
  folder.mkdir(exist_ok=True)
  (folder / 'sitecustomize.py').write_text(_CLOCK)
  return {
    'CLOCK_BY': str(by),
    'CLOCK_AFTER': str(after),
    'PYTHONPATH': f'{folder}{os.pathsep}{kills.processes.ROOT}',
  }


def _mount(folder: pathlib.Path, options: str) -> bool:
  """Mounts a disk in memory; returns whether that is possible."""
  command = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder]
  return not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


def _bound() -> tuple[str, ...]:
  return _BOUND if os.geteuid() == 0 else ()
