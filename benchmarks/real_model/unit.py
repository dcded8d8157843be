"""One unit of the study: days, nights and questions of one strategy and seed.

Everything found so far is kept in the unit's folder, so a unit that was killed
continues. What a phase cost is not known if it was killed meanwhile; it is then
marked as interrupted.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import ml_collections

import sleep_jax
from benchmarks.real_model import ability, facts, measuring, recall, subjects
from benchmarks.real_model import types as study_types
from sleep_jax import errors
from sleep_jax.storage import provenance, workdir


@dataclasses.dataclass(frozen=True)
class Unit:
  """What is run.

  Attributes:
    form: 'a' (rows), 'b' (conversations) or 'c' (pages).
    strategy: 'sleep' or a baseline.
    seed: of the facts and of the run.
    split: of names and values.
    num_days, facts_per_day: see `facts.days`.
    model: pretrained model, folder or name.
  """

  form: str
  strategy: str
  seed: int
  split: str
  num_days: int
  facts_per_day: int
  model: str

  @property
  def name(self) -> str:
    """Of its file of results."""
    return f'{self.split}_{self.form}_{self.strategy}_{self.seed}'

  def days(self) -> list[study_types.Day]:
    """Returns what is taught."""
    return facts.days(
      self.seed, self.num_days, self.facts_per_day, split=self.split
    )


def run(
  unit: Unit,
  config: ml_collections.ConfigDict,
  *,
  out: pathlib.Path,
  folder: pathlib.Path,
  any_revision: bool = False,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Runs a unit, or what is left of it, and writes its results.

  Args:
    unit: what is run.
    config: of days and nights; its section `ability` says what is measured at
      the start and the end.
    out: folder of the files of results.
    folder: work directory of all units.
    any_revision: whether results of another revision of the code, or of code
      that was not committed, count as done.
    say: shows one line.

  Returns:
    The results, as its file has them.

  Raises:
    ConfigError: the strategy cannot be studied here.
    WorkdirError: the unit was begun with another revision, or its file of
      results is of another unit, config or revision.
  """
  subjects.check(unit.strategy, len(config.levels))
  plain = json.loads(config.to_json_best_effort())
  about = {
    'unit': dataclasses.asdict(unit), 'key': _key(unit, plain),
    'revision': provenance.revision(), 'config': plain,
  }  # fmt: skip
  file = out / f'{unit.name}.json'
  if (done := _done(file, about, any_revision)) is not None:
    say(f'{unit.name}: done, see {file}')
    return done
  home = folder / f'{unit.name}_{about["key"]}'
  found = _Progress(home / 'progress.json', about, any_revision)
  # Two models may share the tokenizer and the sets on which they are measured.
  first = folder / 'first' / _short_hash(unit.model)
  _Runner(unit, config, found, home, first, say).run()
  out.mkdir(parents=True, exist_ok=True)
  # Without line breaks: most of it are single answers.
  workdir.write_text(file, json.dumps(found.results) + '\n')
  say(f'{unit.name}: written to {file}')
  return found.results


def _key(unit: Unit, plain: dict[str, Any]) -> str:
  """Returns a short hash of all that decides what is computed."""
  return _short_hash(
    json.dumps([dataclasses.asdict(unit), plain], sort_keys=True)
  )


def _short_hash(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def _done(file, about, any_revision) -> dict[str, Any] | None:
  """Returns the results that a file has; refuses to replace others."""
  if not file.exists():
    return None
  found = json.loads(file.read_text())
  if found['key'] != about['key']:
    lines = [
      line
      for name in ('unit', 'config')
      for line in workdir.differences(found.get(name), about[name], name)
    ]
    raise errors.WorkdirError(
      f'{file} has results of another unit or config:\n  '
      + '\n  '.join(lines[:5])
      + '\nMove it away, or choose another --out.'
    )
  if not any_revision and not _same_code(found['revision'], about['revision']):
    raise errors.WorkdirError(
      f'{file} is of revision {found["revision"]}, and this is '
      f'{about["revision"]}: move it away to run the unit again, or add '
      '--any_revision to count it as done.'
    )
  return found


def _same_code(begun: str, now: str) -> bool:
  """Whether two revisions are one; code that was not committed has no name."""
  return begun == now and now != 'unknown' and not now.endswith('-dirty')


class _Progress:
  """The results so far, on disk after every change."""

  def __init__(self, file: pathlib.Path, about, any_revision: bool):
    self._file = file
    self._kinds: set[str] = set()  # Of the phases that this process has run.
    self.results: dict[str, Any] = about
    if file.exists():
      self.results = json.loads(file.read_text())
      self._note_revision(about['revision'], any_revision)
    file.parent.mkdir(parents=True, exist_ok=True)

  def _note_revision(self, now: str, any_revision: bool) -> None:
    """Notes that another revision continues the unit, if that is accepted."""
    begun = self.results['revision']
    if _same_code(begun, now):
      return
    if not any_revision:
      raise errors.WorkdirError(
        f'{self._file.parent} was begun with revision {begun}, and this is '
        f'{now}: add --any_revision to continue it, or delete the folder to '
        'begin again.'
      )
    later = self.results.setdefault('later_revisions', [])
    if now not in later:
      later.append(now)

  def place(self, *path: str) -> dict[str, Any]:
    """Returns the part of the results at a path; makes it if it is missing."""
    return functools.reduce(
      lambda part, key: part.setdefault(key, {}), path, self.results
    )

  def phase(self, path: tuple[str, ...], work: Callable[[], Any]) -> Any:
    """Returns the result of a phase, which is computed unless it is known.

    Args:
      path: of the phase in the results.
      work: computes it; its result goes to JSON.
    """
    *parents, name = path
    known = self.place(*parents)
    if name in known and 'result' in known[name]:
      return known[name]['result']
    cost: dict[str, Any] = {
      'interrupted': name in known, 'first': name not in self._kinds
    }  # fmt: skip
    self._kinds.add(name)
    known[name] = dict(cost)
    self.save()
    with measuring.measure(cost):
      result = work()
    known[name] = {'cost': cost, 'result': result}
    self.save()
    return result

  def save(self) -> None:
    """Writes the results."""
    workdir.write_json(self._file, self.results)


class _Runner:
  """Runs one unit."""

  def __init__(self, unit, config, found, home, first, say):
    self._unit, self._config, self._found = unit, config, found
    self._home, self._first, self._say = home, first, say
    self._days = unit.days()

  def run(self) -> None:
    """Runs what is left."""
    unit = self._unit
    self._initial()
    subject = subjects.make(
      unit.strategy, unit.model, self._home / 'learner',
      ability.without(self._config), unit.seed,
    )  # fmt: skip
    for day in self._days:
      self._day(subject, day)
    self._final(subject)

  def _initial(self) -> None:
    """Asks and measures the pretrained model."""
    found = self._found

    def work():
      first = sleep_jax.load(self._unit.model, verbose=False)
      closed = self._ask(first, self._days)
      unknown = recall.ask(first, self._never_told(), self._unit.form)
      return {
        'recall': recall.summary(closed),
        'never_told': recall.never_told(unknown, self._days),
        'answers': closed,
      }

    def in_context():
      first = sleep_jax.load(self._unit.model, verbose=False)
      answers = self._ask(first, self._days, in_context=True)
      return {'recall': recall.summary(answers), 'answers': answers}

    self._show('initial', found.phase(('initial', 'closed'), work))
    self._show('in context', found.phase(('initial', 'context'), in_context))
    found.phase(('ability', 'initial'), lambda: self._ability().initial())

  def _day(self, subject: subjects.Subject, day: study_types.Day) -> None:
    """Teaches a day, asks in the evening, and again after its night."""
    form, number = self._unit.form, day.number
    told = self._days[:number]
    phase = lambda name, work: self._found.phase(
      ('days', str(number), name), work
    )

    def ask():
      answers = self._ask(subject.open(), told)
      return {
        'recall': recall.summary(answers),
        'corrections': recall.corrections(answers, told),
        'answers': answers,
      }

    phase('wake', lambda: subject.wake(number, recall.rows_of(day, form)))
    self._show(f'evening {number}', phase('evening', ask))
    if subject.sleeps:
      phase('night', lambda: [_short(n) for n in subject.sleep(number)])
      self._show(f'morning {number}', phase('morning', ask))

  def _final(self, subject: subjects.Subject) -> None:
    """Asks about the never told, and measures what the model can still do."""

    def unknown():
      answers = recall.ask(subject.open(), self._never_told(), self._unit.form)
      return recall.never_told(answers, self._days) | {'answers': answers}

    found = self._found.phase(('final', 'never_told'), unknown)
    self._say(f'{self._unit.name}: never told: {found["learned"]} of '
              f'{found["questions"]}')  # fmt: skip
    self._found.phase(
      ('ability', 'final'), lambda: self._ability().final(subject.open())
    )

  def _ask(self, learner, told, *, in_context: bool = False):
    form = self._unit.form
    return recall.ask(
      learner, recall.questions_of(told, form), form,
      told if in_context else None,
    )  # fmt: skip

  def _never_told(self):
    unit = self._unit
    return facts.never_told(unit.seed, self._days, split=unit.split)

  def _ability(self) -> ability.Ability:
    first = sleep_jax.load(self._unit.model, verbose=False)
    return ability.Ability(self._config, first, self._first)

  def _show(self, label: str, found) -> None:
    score = found['recall']
    self._say(
      f'{self._unit.name}: {label}: exact {score["exact"]:.2f}, contained '
      f'{score["contained"]:.2f} of {score["questions"]}'
    )


def _short(night: dict[str, Any]) -> dict[str, Any]:
  """Returns the parts of a night's record that are reported."""
  names = ('night', 'accepted', 'reason', 'phase', 'guard', 'cpu_seconds')
  return {name: night.get(name) for name in names}
