"""Kills a process at a random moment; the same command continues.

The end must equal that of a run without an interruption, bit by bit. Half of
the moments are uniform over the time of the whole run; the others are drawn
inside a phase, which is found in the output or on disk.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import random
import re
import signal
import tempfile
from typing import Any

from benchmarks.fault_cases import endings, processes, scenarios

# Cases per scenario, and phases of it in which a process is killed.
_CASES = {
  'nights': (12, ('pretraining', 'wake', 'night', 'evaluation', 'save')),
  'merges': (9, ('merge', 'save', 'night')),
  'dreams': (9, ('dream', 'night', 'save')),
  'tuning': (5, ('trial', 'edit')),
  'import': (4, ('wake',)),
  'imported': (4, ('reading', 'save')),
  'days': (6, ('save', 'wake', 'evaluation')),
  'chat': (7, ('answer', 'night', 'save')),
  'session': (4, ('night', 'wake')),
}
# Phase -> what is printed when it begins, and which time it is meant.
_BEGINS = {
  'pretraining': (r'pretrain: \d+ to do', 1),
  'wake': (r'experience 2[^\n]*: \d+ to do', 1),
  'night': (r'night \d+[^\n]*: \d+ to do', 2),
  'evaluation': (r'experience \d+[^\n]*: done', 1),
  'merge': (r'experience 3[^\n]*: done', 1),
  'dream': (r'night 1[^\n]*: done', 1),
  'trial': (r'sft: experience 1[^\n]*: \d+ to do', 2),
  'edit': (r'seal', 1),
  'reading': (r'', 1),
  'answer': (r'> ', 2),
}
_SAVE = 'save'
_SAVES = 20  # Checkpoints; one of them is interrupted.
_SAVED = tuple(
  f'{folder}/*/checkpoints/*/*tmp*'
  for folder in ('work/seed_0', 'work/run/seed_0', 'imported/seed_0')
)
MAX_WORKERS = 8
_DELAY = 1.5  # Seconds: a phase is left within this time, or nearly so.


@dataclasses.dataclass(frozen=True)
class Case:
  """One interrupted run.

  Attributes:
    name: unique.
    scenario: which run.
    phase: in which it is killed; '' for a uniform moment.
    draw: number from 0 to 1: the moment in the run, or in the phase.
    again: whether the continued run is killed too, at the moment `draw`.
  """

  name: str
  scenario: str
  phase: str
  draw: float
  again: bool


def cases() -> list[Case]:
  """Returns all cases; the same at every call."""
  rng, found = random.Random(25), []
  for scenario, (num, phases) in _CASES.items():
    for number in range(num):
      uniform = number % 2 == 0
      # Uniform moments are spread: one in each part of the run.
      part = (number // 2 + rng.random()) / ((num + 1) // 2)
      phase = '' if uniform else phases[number // 2 % len(phases)]
      draw = part if uniform else rng.random()
      name = f'{scenario}_{number:02d}'
      found.append(Case(name, scenario, phase, draw, number % 5 == 4))
  # Mixed, so that the first few are of different kinds.
  rng.shuffle(found)
  return found


@dataclasses.dataclass(frozen=True)
class Reference:
  """The end of a run that nothing interrupts.

  Attributes:
    ending: what it leaves on disk.
    seconds: that it takes, with programs that are compiled already.
  """

  ending: endings.Ending
  seconds: float


@dataclasses.dataclass(frozen=True)
class Context:
  """What the cases share.

  Attributes:
    cache: folder of compiled programs.
    references: by scenario.
  """

  cache: pathlib.Path
  references: dict[str, Reference]


def prepare(
  home: pathlib.Path, cache: pathlib.Path, names: set[str], workers: int
) -> Context:
  """Runs scenarios without interruption, twice: the ends must be equal.

  Raises:
    RuntimeError: a run fails, or two runs differ.
  """
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    made = pool.map(lambda name: _reference(home / name, cache, name), names)
    return Context(cache, dict(zip(names, made, strict=True)))


def _reference(home, cache, name) -> Reference:
  found = []
  for number in range(2):
    folder = home / str(number)
    folder.mkdir(parents=True)
    scenario = scenarios.SCENARIOS[name]
    scenario.prepare(folder)
    ended = run(scenario, folder, cache)
    if ended[-1].code or any(e.has_trace for e in ended):
      raise RuntimeError(f'{name} fails uninterrupted: {ended[-1].text}')
    seconds = sum(e.seconds for e in ended)
    found.append(endings.read(scenarios.work(folder)))
  if changed := endings.differences(*found):
    raise RuntimeError(f'{name} is not deterministic: {changed}')
  return Reference(found[0], seconds)


def run(
  scenario: scenarios.Scenario, home: pathlib.Path, cache: pathlib.Path
) -> list[processes.Ended]:
  """Runs all commands of a scenario that are left, to their ends."""
  found = []
  for arguments in scenario.commands(home):
    found.append(start(scenario, arguments, home, cache).end())
    if found[-1].code:
      break
  return found


def start(scenario, arguments, home, cache, **options) -> processes.Process:
  """Starts one command of a scenario."""
  log = home / f'log_{len(list(home.glob("log_*.txt"))):02d}.txt'
  return processes.Process(
    arguments, log, cache=cache, stdin=scenario.script(home), **options
  )


def attempt(case: Case, context: Context) -> dict[str, Any]:
  """Runs one case; returns its row."""
  for share in (1.0, 0.7, 0.5, 0.3):
    # On a machine that is less busy now, the moment comes earlier.
    row = _attempt(dataclasses.replace(case, draw=share * case.draw), context)
    if row['killed']:
      break
  return row


def _attempt(case: Case, context: Context) -> dict[str, Any]:
  """Kills the run of a case once or twice and continues it to its end."""
  reference = context.references[case.scenario]
  scenario = scenarios.SCENARIOS[case.scenario]
  with tempfile.TemporaryDirectory(prefix='faults_') as folder:
    home = pathlib.Path(folder)
    scenario.prepare(home)
    where, ended = [], []
    for _ in range(1 + case.again):
      at, before = _kill(case, scenario, home, context.cache, reference.seconds)
      where += [at] if at else []
      ended += before
    ended += run(scenario, home, context.cache)
    found = endings.read(scenarios.work(home))
    changed = endings.differences(reference.ending, found)
    left = endings.leftovers(scenarios.work(home))
  traces = [e.last_lines for e in ended if e.has_trace]
  survived = not (changed or traces or ended[-1].code) and bool(where)
  return {
    'name': case.name, 'scenario': case.scenario,
    'phase': case.phase or 'any', 'killed': where,
    'survived': survived, 'code': ended[-1].code,
    'differences': changed[:8] if where else ['it had ended before'],
    'traces': traces, 'leftovers': left[:8],
    'output': '' if survived else ended[-1].text[-1500:],
    'seconds': round(sum(e.seconds for e in ended), 1),
  }  # fmt: skip


def _kill(case, scenario, home, cache, seconds):
  """Starts the commands and kills one; returns where, and how others ended.

  The place is '' if all of them had ended before.
  """
  ended, passed = [], 0.0
  for arguments in scenario.commands(home):
    process = start(scenario, arguments, home, cache)
    is_reached = _Phase(case, process, home)
    if not case.phase:
      moment = case.draw * seconds - passed
      is_reached = functools.partial(_is_after, process, moment)
    if process.wait_for(is_reached):
      process.send(signal.SIGKILL)
      killed = process.end()
      lines = killed.text.strip().splitlines() or ['the start']
      return f'{killed.seconds:.1f} s, after: {lines[-1]}'[:160], ended
    ended.append(process.end())
    passed += ended[-1].seconds
  return '', ended


def _is_after(process: processes.Process, seconds: float) -> bool:
  return process.seconds() >= seconds


class _Phase:
  """Whether a process has come to the moment of a case inside a phase."""

  def __init__(self, case, process, home):
    self._case, self._process, self._home = case, process, home
    self._began: float | None = None
    self._seen: set[str] = set()  # Temporary names of checkpoints.

  def __call__(self) -> bool:
    now = self._process.seconds()
    if self._began is None and self._has_begun():
      self._began = now
    if self._began is None:
      return False
    limit = 0.0 if self._case.phase == _SAVE else _DELAY
    return now - self._began >= self._case.draw * limit

  def _has_begun(self) -> bool:
    if self._case.phase == _SAVE:
      # One of the first checkpoints, while it is written.
      for pattern in _SAVED:
        with contextlib.suppress(FileNotFoundError):  # Renamed meanwhile.
          self._seen |= {path.name for path in self._home.glob(pattern)}
      return len(self._seen) > self._case.draw * _SAVES
    pattern, times = _BEGINS[self._case.phase]
    return len(re.findall(pattern, self._process.text())) >= times
