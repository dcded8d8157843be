"""Runs a comparison: what every unit needs, the units, and their results.

The initial model of a seed is made once and shared by its units. The learning
rate of a tuned strategy is chosen once, with the first seed. Everything has a
folder whose name has the hash of its config and sources, so a unit continues
from what it saved itself, and from nothing else.
"""

import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.compare import (
  kinds,
  pool,
  result_files,
  settings,
  sources,
  units,
)
from sleep_jax.report import text_format
from sleep_jax.storage import provenance
from sleep_jax.strategies import registry

_COMMAND = (sys.executable, '-m', 'sleep_jax.compare.job')


class Comparison:
  """All units of one config in one work directory.

  Attributes:
    units: of the config, in the order in which they are run.
    results: unit -> content of its file, as far as there is one.
  """

  def __init__(
    self,
    plain: dict[str, Any],
    folder: pathlib.Path,
    *,
    say: Callable[[str], None] = print,
    command: Sequence[str] = _COMMAND,
  ):
    """Reads the results that are there.

    Args:
      plain: the config, as JSON returns it.
      folder: of results, page and working files.
      say: shows one line.
      command: of a job's process.

    Raises:
      ConfigError: seeds, orders or strategies are missing, or unknown.
      WorkdirError: a result is of another config or of other sources.
    """
    self._plain, self._folder = plain, folder
    self._say, self._command = say, tuple(command)
    self._options = settings.options(plain)
    self.units = units.plan(
      plain['strategies'], plain['seeds'], self._options['orders']
    )
    self._tuned = {name: self._is_tuned(name) for name in plain['strategies']}
    hashes = {name: sources.revision(name) for name in plain['strategies']}
    self._shared_sources = sources.revision()
    self._data = settings.data_digest(plain)
    self._revision = provenance.revision()
    self.expected = {}
    for unit in self.units:
      tuned = self._tuned[unit.strategy]
      config = settings.dependent(plain, unit, tuned=tuned, data=self._data)
      self.expected[unit] = {
        'config': config, 'key': settings.key(config),
        'sources': hashes[unit.strategy],
      }  # fmt: skip
    self._results_folder = folder / result_files.FOLDER
    self.results = result_files.read(self._results_folder, self.expected)
    self._begun: dict[str, float] = {}

  def run(
    self,
    chosen: Sequence[units.Unit],
    make_pool: Callable[..., pool.Pool],
    *,
    on_result: Callable[[], None] = lambda: None,
  ) -> bool:
    """Runs units without a final result; returns whether all have ended.

    Args:
      chosen: units of the comparison.
      make_pool: makes a pool from its keyword arguments `peak`, `on_start` and
        `on_end`.
      on_result: called after each new result.

    Raises:
      UsageError: no unit can be run: the config has a wrong value, or the data
        cannot be read.
    """
    waiting = [unit for unit in chosen if not self._is_done(unit)]
    if not waiting:
      return True
    by_name = {unit.name: unit for unit in waiting}

    def on_start(started: pool.Job, slot) -> None:
      self._begun[started.name] = time.monotonic()
      self._say(f'{started.name}: begins on {slot.name}')

    def on_end(ended: pool.Job, outcome: pool.Outcome) -> None:
      self._tell(ended.name, outcome)
      if ended.name in by_name and outcome.get('error') != 'Interrupted':
        self._add(by_name[ended.name], outcome)
        on_result()

    made = make_pool(peak=self._peak(), on_start=on_start, on_end=on_end)
    if not made.run([self._check_job(waiting)]):
      return False
    checked = made.outcomes[kinds.CHECK]
    if checked['status'] == 'failed':
      raise errors.UsageError(
        f'No unit was run: {checked["reason"]} ({checked["error"]})'
      )
    reasons = checked['reasons']
    for unit in waiting:
      if unit.strategy in reasons:
        self._add(unit, {
          'status': result_files.SKIPPED, 'runs': [],
          'reason': reasons[unit.strategy],
        })  # fmt: skip
    left = [unit for unit in waiting if unit.strategy not in reasons]
    on_result()
    return made.run(self._jobs(left))

  def _jobs(self, left: Sequence[units.Unit]) -> list[pool.Job]:
    """Returns the jobs of units, each after the jobs that it needs."""
    jobs: dict[str, pool.Job] = {}

    def add(made: pool.Job) -> str:
      jobs.setdefault(made.name, made)
      return made.name

    for unit in left:
      needs = []
      if settings.shares_initial_model(self._plain):
        needs.append(add(self._initial_job(unit.seed, unit.strategy)))
      copies: list[tuple[str, str]] = []
      home = self._unit_folder(unit)
      if self._tuned[unit.strategy]:
        tune = self._tune_job(unit.strategy)
        if settings.shares_initial_model(self._plain):
          add(self._initial_job(self._plain['seeds'][0], unit.strategy))
        needs.append(add(tune))
        copies = [
          (str(tune.folder / 'run' / chosen), str(home / 'run' / chosen))
          for name in self._run_names(unit.strategy)
          for chosen in (f'tuning/{name}/chosen.json',)
        ]
      config = settings.of_study(
        self._plain, seed=unit.seed, strategy=unit.strategy, order=unit.order,
        restore=self._restore(unit.seed),
      )  # fmt: skip
      add(self._job(unit.name, kinds.UNIT, home, config, needs, copies))
    return [*jobs.values()]

  def _check_job(self, waiting: Sequence[units.Unit]) -> pool.Job:
    names = dict.fromkeys(unit.strategy for unit in self.units)
    config = settings.of_study(self._plain, seed=waiting[0].seed, strategy='')
    config['strategies'] = [*names]
    return self._job(
      kinds.CHECK, kinds.CHECK, self._work('check', config), config
    )

  def _is_done(self, unit: units.Unit) -> bool:
    result = self.results.get(unit)
    return result is not None and result_files.is_final(result)

  def _initial_job(self, seed: int, strategy: str) -> pool.Job:
    config = settings.of_study(self._plain, seed=seed, strategy=strategy)
    # No rate is chosen, whatever the strategy is.
    config['tune']['learning_rates'] = config['tune']['learning_rates'][:1]
    return self._job(
      f'initial model {seed}', kinds.INITIAL, self._initial_folder(seed), config
    )

  def _tune_job(self, strategy: str) -> pool.Job:
    seed = self._plain['seeds'][0]
    config = settings.of_study(
      self._plain, seed=seed, strategy=strategy, restore=self._restore(seed)
    )
    unit = units.Unit(strategy, seed, 0)
    needs = []
    if settings.shares_initial_model(self._plain):
      needs = [f'initial model {seed}']
    values = settings.dependent(self._plain, unit, tuned=True, data=self._data)
    folder = self._work(
      f'tune_{strategy}', [values, sources.revision(strategy)]
    )
    return self._job(f'rate of {strategy}', kinds.TUNE, folder, config, needs)

  def _job(self, name, kind, folder, config, needs=(), copies=()) -> pool.Job:
    content = {
      'kind': kind, 'config': config, 'folder': str(folder / 'run'),
      'copies': [*copies],
    }  # fmt: skip
    return pool.Job(
      name, tuple(needs), self._command, content, folder, kind == kinds.UNIT
    )

  def _restore(self, seed: int) -> str:
    if not settings.shares_initial_model(self._plain):
      return ''
    return str(self._initial_folder(seed) / 'run')

  def _initial_folder(self, seed: int) -> pathlib.Path:
    config = settings.of_study(self._plain, seed=seed, strategy='')
    values = [
      settings.pretrained_with(config), self._shared_sources, self._data
    ]  # fmt: skip
    return self._work(f'initial_{seed}', values)

  def _unit_folder(self, unit: units.Unit) -> pathlib.Path:
    expected = self.expected[unit]
    return self._work(
      unit.file_name.removesuffix('.json'),
      [expected['key'], expected['sources']],
    )

  def _work(self, name: str, values: Any) -> pathlib.Path:
    return self._folder / 'work' / f'{name}_{settings.key(values)}'

  def _is_tuned(self, name: str) -> bool:
    several = len(self._plain['tune']['learning_rates']) > 1
    return several and any(s.tuned for s in self._strategies(name))

  def _run_names(self, name: str) -> list[str]:
    """Returns the runs of a strategy whose rate is tuned."""
    return [s.name for s in self._strategies(name) if s.tuned]

  def _strategies(self, name: str):
    return registry.make(name, num_levels=len(self._plain['levels']))

  def _peak(self) -> int:
    """Returns the most memory that a unit needed, or the config's estimate."""
    known = [result.get('peak_bytes', 0) for result in self.results.values()]
    estimate = int(self._options['memory_gib'] * 2**30)
    return max([estimate, *known])

  def _add(self, unit: units.Unit, outcome: pool.Outcome) -> None:
    """Writes the result of a unit."""
    result = {
      'unit': {'strategy': unit.strategy, 'seed': unit.seed,
               'order': unit.order},
      'study': self._plain['name'], 'revision': self._revision,
      **self.expected[unit], **outcome,
    }  # fmt: skip
    self.results[unit] = result
    result_files.write(self._results_folder, unit, result)

  def _tell(self, name: str, outcome: pool.Outcome) -> None:
    spent = time.monotonic() - self._begun.get(name, time.monotonic())
    text = f'{name}: {outcome["status"]} after {text_format.duration(spent)}'
    if outcome['status'] == 'failed':
      text += f': {outcome["error"]}: {outcome["reason"][:300]}'
    for run in outcome.get('runs', ()):
      final = run['summary'].get('acc')
      if final is not None:
        text += f', {run["strategy"]}: final accuracy {final:.3f}'
    self._say(text)
