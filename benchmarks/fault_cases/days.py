"""Days that change between two starts: the same end, or a clear refusal.

Runs in this process, and all cases share compiled programs. A run is stopped at
one of four moments, days are changed, and the run goes on. `day_table` says
what is right:

- SAME: the end equals, bit by bit, that of an unbroken run of the final days.
- REFUSED: the message matches a pattern and has the choices, nothing on disk
  has changed, and with the old days again the run ends as an unbroken one.
- ACCEPTED: refused as above, and with --accept_changed_days the learned arrays
  equal those of an unbroken run of other days, which the case names.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.fault_cases import endings

MAX_WORKERS = 1
SAME, REFUSED, ACCEPTED = 'same', 'refused', 'accepted'
# What a refusal of changed days offers.
CHOICES = ('Restore', '--restore_cycle', '--accept_changed_days', '--workdir')

Change = Callable[[pathlib.Path], None]  # Changes the folder of a case.


@dataclasses.dataclass(frozen=True)
class Case:
  """A change of the days of a run.

  Attributes:
    name: unique.
    scenario: which days, see `day_table.FORMS`.
    moment: at which the run was stopped, see `_MOMENTS`.
    change: what is done to the days.
    right: SAME, REFUSED or ACCEPTED.
    message: pattern, if it is refused.
    days: for ACCEPTED, changes the days to those of the unbroken run.
    choices: whether the refusal offers the choices of changed days.
  """

  name: str
  scenario: str
  moment: str
  change: Change
  right: str
  message: str = ''
  days: Change | None = None
  choices: bool = True


# Moment -> pattern of the phase at whose first step the run is stopped.
_MOMENTS = {
  'before': None,
  'half the first day': 'begin .*experience 1',
  'between': r'end .*night 1\b',
  'half a day': 'begin .*experience 2',
  'in a night': r'begin .*night 2\b',
  'after the end': '',
}
# Fields that depend on how many days there were when they were written.
_FREE = ('day_steps', 'second_scores', 'gates')


@dataclasses.dataclass
class Context:
  """What the cases share.

  Attributes:
    home: folder for runs that were stopped, and for unbroken ones.
    programs: compiled programs by scenario.
    ends: by scenario and days.
  """

  home: pathlib.Path
  programs: dict[str, dict[Any, Any]] = dataclasses.field(default_factory=dict)
  ends: dict[Any, endings.Ending] = dataclasses.field(default_factory=dict)


def cases() -> list[Any]:
  """Returns all cases."""
  from benchmarks.fault_cases import day_table, talks

  return [*day_table.cases(), *talks.CASES]


def prepare(
  home: pathlib.Path, cache: pathlib.Path, names: set[str], workers: int
) -> Context:
  """Returns an empty context; compiled programs are kept in `cache`."""
  import jax

  del names, workers
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  home.mkdir(parents=True, exist_ok=True)
  return Context(home)


def attempt(case: Any, context: Context) -> dict[str, Any]:
  """Runs one case; returns its row."""
  from sleep_jax import errors

  outcome, message, why = '', '', []
  with tempfile.TemporaryDirectory(prefix='faults_') as folder:
    home = pathlib.Path(folder)
    try:
      if isinstance(case, Case):
        outcome, message, why = _attempt(case, context, home)
      else:
        outcome, message, why = case.attempt(case, context, home)
    except errors.SleepJaxError as error:
      outcome, message = 'refused', str(error)
      why = [f'refused, expected {case.right}: {error}']
    except Exception as error:
      outcome = 'traceback'
      why = [f'{type(error).__name__}: {error}']
  return {
    'name': case.name, 'scenario': case.scenario, 'moment': case.moment,
    'right': case.right, 'outcome': outcome, 'survived': not why,
    'differences': [w[:600] for w in why],
    'message': message.replace(folder, '.')[:600],
  }  # fmt: skip


def _attempt(case, context, home) -> tuple[str, str, list[str]]:
  """Returns what happened, the message, and what is wrong with it."""
  _stop(case, context, home)
  before = _listing(home / 'work')
  old = home / 'old'
  shutil.copytree(home / 'days', old)
  case.change(home / 'days')
  if case.right == SAME:
    run(case.scenario, context, home)
    wrong = endings.differences(
      _unbroken(case.scenario, context, home / 'days'),
      endings.read(home / 'work', _FREE),
    )
    return 'the same end', '', wrong
  message, why = _refusal(case, context, home)
  if _listing(home / 'work') != before:
    why.append('the refused start changed the work directory')
  if case.right == ACCEPTED:
    run(case.scenario, context, home, accept_changed_days=True)
    if case.days is not None:
      case.days(old)
      expected = _unbroken(case.scenario, context, old)
      found = endings.read(home / 'work', _FREE)
      why += endings.differences(
        learned_arrays(expected), learned_arrays(found)
      )
    run(case.scenario, context, home)  # The next start needs no flag.
    return 'accepted', message, why
  shutil.rmtree(home / 'days')
  shutil.copytree(old, home / 'days')
  run(case.scenario, context, home)
  why += endings.differences(
    _unbroken(case.scenario, context, old), endings.read(home / 'work', _FREE)
  )
  return 'refused; with the old days the same end', message, why


def _refusal(case, context, home) -> tuple[str, list[str]]:
  """Starts a run that is refused; returns the message and what is wrong."""
  from sleep_jax import errors

  try:
    run(case.scenario, context, home)
  except errors.SleepJaxError as error:
    message = str(error)
  else:
    return '', ['not refused']
  why = []
  if not re.search(case.message, message, re.DOTALL):
    why.append(f'expected {case.message!r}: {message}')
  if case.choices and any(choice not in message for choice in CHOICES):
    why.append(f'choices are missing: {message}')
  return message, why


def run(
  form: str,
  context: Context,
  home: pathlib.Path,
  phase: str | None = '',
  **options: Any,
) -> None:
  """Runs a study on the days of a folder, with relative paths.

  Args:
    form: of the days.
    context: with programs, which are shared.
    home: its folders `days` and `work` are used.
    phase: the run is stopped at the first step of it; '': not at all.
    **options: of the study.
  """
  from benchmarks.fault_cases import day_table
  from sleep_jax.runs import context as context_lib
  from sleep_jax.runs import study

  config = day_table.config(form)
  progress, has_begun = _watched(phase)
  programs = context.programs.setdefault(form, {})
  with contextlib.chdir(home):
    made = study.Study(
      config, 'work', programs=programs, progress=progress, stop=has_begun,
      **options,
    )  # fmt: skip
    with contextlib.suppress(*[context_lib.Interrupted] if phase else []):
      made.run(show_schedule=False)


def _watched(phase):
  """Returns a silent progress, and whether it has come to a phase."""
  from sleep_jax.runs import progress as progress_lib

  shown, seen = progress_lib.silent(), []
  begin = shown.phase

  @contextlib.contextmanager
  def watch(name: str, *rest: Any, **more: Any) -> Iterator[Any]:
    seen.append(f'begin {name}')
    with begin(name, *rest, **more) as bar:
      yield bar
    seen.append(f'end {name}')

  shown.phase = watch  # type: ignore[method-assign]
  return shown, lambda: bool(phase) and any(re.search(phase, s) for s in seen)


def _stop(case: Case, context: Context, home: pathlib.Path) -> None:
  """Copies a run that was stopped at the moment of a case; runs it once."""
  from benchmarks.fault_cases import day_table

  phase = _MOMENTS[case.moment]
  kept = context.home / f'{case.scenario} {case.moment}'
  if not kept.exists():
    (kept / 'work').mkdir(parents=True)
    day_table.write(case.scenario, kept / 'days')
    if phase is not None:
      run(case.scenario, context, kept, phase)
  shutil.copytree(kept, home, dirs_exist_ok=True)


def _unbroken(form: str, context: Context, days: pathlib.Path):
  """Returns the end of an unbroken run of days, which is run once."""
  text = [
    (str(p.relative_to(days)), p.read_bytes())
    for p in sorted(days.rglob('*'))
    if p.is_file()
  ]
  key = form, hashlib.sha256(repr(text).encode()).hexdigest()
  if key not in context.ends:
    with tempfile.TemporaryDirectory(prefix='faults_') as folder:
      home = pathlib.Path(folder)
      shutil.copytree(days, home / 'days')
      run(form, context, home)
      context.ends[key] = endings.read(home / 'work', _FREE)
  return context.ends[key]


def learned_arrays(ending: endings.Ending) -> endings.Ending:
  """Returns the arrays of the last cycle: what was learned."""
  number = max(int(n) for n in re.findall(r'/cycle_(\d+)/', ' '.join(ending)))
  return {
    name: value
    for name, value in ending.items()
    if f'/cycle_{number}/' in name and not name.endswith('/progress')
  }


def _listing(folder: pathlib.Path) -> dict[str, str]:
  """Returns file -> hash of its content, without caches of tokens."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file() and 'tokens' not in path.relative_to(folder).parts
  }


def rewrite(name: str, old: str, new: str) -> Change:
  """Returns a change that replaces text in a file."""
  return functools.partial(_rewrite, name, old, new)


def _rewrite(name, old, new, days):
  text = (days / name).read_text()
  assert old in text
  (days / name).write_text(text.replace(old, new))
  os.utime(days / name)
