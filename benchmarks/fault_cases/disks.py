"""Disks that fill, signals, two processes, read-only folders, wrong clocks.

Each case disturbs a run or a chat and then continues it by the same command.
It survives if the end equals that of an undisturbed run bit by bit, if whatever
was refused has a message that names the fault, and if there is no traceback.
"""

import dataclasses
import pathlib
import random
import re
import subprocess
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.fault_cases import endings, kills, processes, scenarios

MAX_WORKERS = 8
_SIZES = 20
_BEGUN = r'experience 1[^\n]*: \d+ to do'


@dataclasses.dataclass(frozen=True)
class Case:
  """One disturbed run.

  Attributes:
    name: unique.
    scenario: which run.
    kind: heading in the table.
    act: disturbs and continues the run; returns what happened.
    draw: number from 0 to 1, of a moment or a size.
  """

  name: str
  scenario: str
  kind: str
  act: Callable[['Attempt'], str]
  draw: float = 0.0


@dataclasses.dataclass
class Attempt:
  """A case that is under way.

  Attributes:
    case: what is done.
    context: shared by all cases.
    home: folder of the case; the work directory is in it.
    ended: the processes that have ended.
    why: what was wrong.
  """

  case: Case
  context: kills.Context
  home: pathlib.Path
  ended: list[processes.Ended] = dataclasses.field(default_factory=list)
  why: list[str] = dataclasses.field(default_factory=list)

  @property
  def scenario(self) -> scenarios.Scenario:
    return scenarios.SCENARIOS[self.case.scenario]

  @property
  def seconds(self) -> float:
    """Time of the undisturbed run."""
    return self.context.references[self.case.scenario].seconds

  def start(self, *flags: str, **options: Any) -> processes.Process:
    """Starts the command, with more flags."""
    (arguments,) = self.scenario.commands(self.home)
    return kills.start(
      self.scenario, [*arguments, *flags], self.home, self.context.cache,
      **options,
    )  # fmt: skip

  def end(self, process: processes.Process) -> processes.Ended:
    """Waits for the end of a process."""
    self.ended.append(process.end())
    return self.ended[-1]

  def run(self, *flags: str, **options: Any) -> processes.Ended:
    """Runs the command to its end."""
    return self.end(self.start(*flags, **options))

  def refused(self, ended: processes.Ended, pattern: str) -> None:
    """Notes a fault if a process did not end with a message."""
    if not ended.code and self.case.scenario != 'chat':
      self.why.append('not refused')
    if not re.search(pattern, ended.text, re.IGNORECASE):
      self.why.append(f'expected {pattern!r}: {ended.last_lines}')

  def finish(self) -> None:
    """Continues to the end, which must be that of an undisturbed run."""
    ended = self.run()
    if ended.code:
      self.why.append(f'exit status {ended.code}: {ended.last_lines}')
    expected = self.context.references[self.case.scenario].ending
    found = endings.read(scenarios.work(self.home))
    self.why += endings.differences(expected, found)[:8]


def cases() -> list[Case]:
  """Returns all cases; the same at every call."""
  from benchmarks.fault_cases import disturbances as d

  rng = random.Random(26)
  found = []
  for number in range(_SIZES):
    # A chat that goes on after an error is answered by another model.
    other = number % 5 == 4
    scenario = 'session' if other else ('nights', 'dreams')[number % 2]
    part = (number + rng.random()) / _SIZES
    found.append(
      Case(f'disk_{number:02d}', scenario, 'full disk', d.full_disk, part)
    )
  for kind, act, moments in (
    ('SIGTERM, --grace=60', d.long_grace, 4),
    ('SIGTERM, --grace=0.01', d.short_grace, 4),
    ('SIGINT', d.one_interrupt, 4),
    ('SIGINT twice', d.two_interrupts, 3),
    ('SIGHUP', d.hangup, 1),
  ):
    for number in range(moments):
      draw = (number + rng.random()) / moments
      name = f'{kind.lower().replace(", --", "_").replace(" ", "_")}_{number}'
      scenario = ('nights', 'dreams')[number % 2]
      found.append(Case(name, scenario, kind, act, draw))
  found += [
    Case('two_runs', 'nights', 'two processes', d.two_processes),
    Case('two_sessions', 'session', 'two processes', d.two_processes),
    Case('two_chats', 'chat', 'two processes', d.two_processes),
    Case('second_goes_back', 'nights', 'two processes', d.second_goes_back),
    Case('workdir_read_only', 'nights', 'read-only', d.read_only, 0.0),
    Case('workdir_read_only_later', 'nights', 'read-only', d.read_only, 0.7),
    Case('chat_read_only', 'chat', 'read-only', d.read_only, 0.0),
    Case('chat_read_only_later', 'chat', 'read-only', d.read_only, 0.7),
    Case('days_read_only', 'days', 'read-only', d.days_read_only),
    Case('days_unreadable', 'days', 'read-only', d.days_unreadable),
    Case('model_unreadable', 'chat', 'read-only', d.model_unreadable),
    Case('workdir_of_another_user', 'days', 'read-only', d.other_user),
    Case('workdir_is_a_file', 'days', 'read-only', d.work_is_file),
  ]
  for kind, act, moments in (
    ('clock set back a year', d.clock_back, 3),
    ('clock jumps back while running', d.clock_jumps, 2),
    ('files from the future', d.future_files, 2),
    ('clock at 1970', d.clock_at_zero, 1),
  ):
    for number in range(moments):
      draw = (number + rng.random()) / moments
      name = f'{kind.replace(" ", "_")}_{number}'
      scenario = ('nights', 'days', 'chat')[number % 3]
      found.append(Case(name, scenario, kind, act, draw))
  rng.shuffle(found)
  return found


def prepare(
  home: pathlib.Path, cache: pathlib.Path, names: set[str], workers: int
) -> kills.Context:
  """Runs the scenarios without a disturbance."""
  return kills.prepare(home, cache, names, workers)


def attempt(case: Case, context: kills.Context) -> dict[str, Any]:
  """Runs one case; returns its row."""
  with tempfile.TemporaryDirectory(prefix='faults_') as folder:
    home = pathlib.Path(folder)
    under_way = Attempt(case, context, home)
    under_way.scenario.prepare(home)
    try:
      outcome = case.act(under_way)
    finally:
      for line in pathlib.Path('/proc/mounts').read_text().splitlines():
        if line.split()[1].startswith(folder):
          subprocess.run(['umount', '-l', line.split()[1]], check=False)
    why, ended = under_way.why, under_way.ended
    left = endings.leftovers(scenarios.work(home))
  traces = [e.last_lines for e in ended if e.has_trace]
  return {
    'name': case.name, 'scenario': case.scenario, 'kind': case.kind,
    'outcome': outcome, 'survived': not (why or traces),
    'differences': why, 'traces': traces, 'leftovers': left[:8],
    'output': ended[0].text[-1500:] if why or traces else '',
    'messages': [_error(e) for e in ended if e.code][:3],
    'seconds': round(sum(e.seconds for e in ended), 1),
  }  # fmt: skip


def _error(ended: processes.Ended) -> str:
  """Returns the last lines of a process that did not end normally."""
  return ended.text.strip()[-300:]
