"""A study: strategies side by side, from one initial model, over several seeds.

Everything that can be checked is checked before anything is computed. Every run
starts or continues, and the report is written again after each evaluation.
"""

import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.config import checks as config_checks
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.learner import programs as programs_lib
from sleep_jax.runs import (
  ability_start,
  compatibility,
  coverage,
  day_records,
  export_forecast,
  hf_start,
  inputs,
  loop,
  results,
  rewinding,
  run_factory,
  schedule_text,
  stdin_days,
  study_days,
  tuning,
)
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import processes, profiling, sharding
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import lock, provenance, workdir

Inputs = inputs.RunInputs


class Study:
  """All runs in one work directory."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    restore_cycle: int | None = None,
    profile: int = 0,
    accept_changed_days: bool = False,
    accept_changed_rates: bool = False,
    days: Sequence[str] | None = None,
    progress: progress_lib.Progress | None = None,
    programs: dict[Any, programs_lib.Programs] | None = None,
  ):
    """Checks the config and opens the work directory.

    Args:
      config: see configs/base.py.
      folder: work directory; created if it is missing.
      stop: returns whether the study is asked to stop.
      restore_cycle: cycle to which all runs that completed it are rewound.
      profile: number of wake steps, and of rounds of a night, to trace.
      accept_changed_rates: continue although rates or clips have changed.
      accept_changed_days: continue although learned days have changed.
      days: files of the days to come; None: those of `config.data.extra_days`.
      progress: shows progress; None prints to standard error.
      programs: compiled programs of other studies of the same config and model,
        by strategy, seed and rate; new ones are added.

    Raises:
      ConfigError, WorkdirError, StorageError: the config or the work directory
        cannot be used.
    """
    self._config, self._restore_cycle = config, restore_cycle
    first = processes.is_first()
    self._progress = progress or progress_lib.Progress()
    if not first:
      self._progress = progress_lib.silent()
    self._plain = json.loads(config.to_json_best_effort())
    config_checks.check(self._plain)
    self._placement = sharding.make(**config.mesh)
    self.folder = workdir.path(folder)
    self._changed_rates = compatibility.check_workdir(
      self.folder, self._plain, accept_rates=accept_changed_rates
    )
    processes.check_same(json.dumps(self._plain), 'config')
    if profile and workdir.in_bucket(self.folder):
      raise errors.ConfigError(
        f'--profile={profile} writes to a disk, and {self.folder} is in a '
        'bucket: choose a --workdir on disk.'
      )
    # Only the first process writes files that are not arrays; what the others
    # write is discarded.
    self._own = self.folder
    if not first:
      self._own = workdir.path(tempfile.mkdtemp(prefix='sleep_jax_'))
    self._receive = functools.partial(stdin_days.receive, stop=stop)
    self._results = results.Results(self.folder, config.name, self._plain)
    self._factory = run_factory.RunFactory(
      config, self._plain, self._placement, progress=self._progress, stop=stop,
      profile=profiling.Profile(str(self._own / 'profile'), profile),
      folder=self.folder, own_folder=self._own, programs=programs,
    )  # fmt: skip
    self._days = study_days.StudyDays(
      config, self.folder, self._factory, accept=accept_changed_days,
      restore_cycle=restore_cycle, days=days,
    )  # fmt: skip
    self._factory.restore_cycle = restore_cycle

  def run(
    self,
    *,
    awake_only: bool = False,
    show_schedule: bool = True,
    prepare_only: bool = False,
  ) -> list[dict[str, Any]]:
    """Runs what is left; returns one record per strategy and seed.

    Args:
      awake_only: stop before the nights of the last experience.
      show_schedule: show when each level is updated and sleeps.
      prepare_only: make initial models and choose rates, run no strategy.
    """
    with (
      lock.hold(self.folder),
      jax.set_mesh(self._placement.mesh),
      workdir.explain_full_disk(self.folder),
    ):
      schedule = self._receive_and_check()
      if show_schedule:
        self._progress.say(f'Schedule of strategies that sleep:\n{schedule}')
        if self._notice:
          self._progress.say(self._notice)
      else:
        for line in self._reading:
          self._progress.say(line)
      self._results.provenance = compatibility.with_changes(
        self.folder, provenance.describe(self._plain), self._changed_rates
      )
      for line in self._changed_rates:
        self._progress.say(f'accepted: {line}')
      workdir.write_json(self._own / 'config.json', self._plain)
      workdir.write_json(self._own / 'about.json', self._results.provenance)
      if self._restore_cycle is not None:
        rewinding.rewind(
          self.folder, self._restore_cycle,
          open_run=self._factory.checkpoints, but=run_factory.PRETRAIN,
        )  # fmt: skip
        self._days.restore_cycle = self._factory.restore_cycle = None
      for seed in self._config.seeds:
        self._run_seed(int(seed), awake_only, prepare_only)
      self._results.write()
    return self._results.runs

  def change_runs(self, change: Callable[[loop.Run], None]) -> None:
    """Applies a function to every run, which changes its latest checkpoint."""
    with lock.hold(self.folder), jax.set_mesh(self._placement.mesh):
      for seed in self._config.seeds:
        made, _ = self._days.open(int(seed))
        made = dataclasses.replace(
          made, initial_model=self._factory.initial_shapes(made)
        )
        for strategy in self._factory.strategies():
          folder = self.folder / f'seed_{seed}' / strategy.name
          with self._factory.open_run(strategy, made, folder) as run:
            change(run)

  def check(self) -> str:
    """Checks everything before anything is computed; returns the schedule.

    How much of each day is read follows it. Builds the stream of every seed,
    and lays out every state on the mesh as shapes alone.

    Raises:
      ConfigError, StorageError: something cannot be read, or does not fit.
    """
    config, schedules = self._config, []
    for seed in config.seeds:
      made, _ = self._days.open(int(seed))
      schedules += self._factory.audit(made)
      ability_start.check(config, made)
    first, *_ = self._factory.strategies()
    steps = self._factory.day_steps(
      made, self.folder / f'seed_{made.seed}' / first.name
    )
    batch = made.stream.experiences[0].batch(0)
    with jax.set_mesh(self._placement.mesh):
      self._placement.shardings(batch, prefix='batch/')
      initial_model = self._factory.initial_shapes(made)
      for strategy in self._factory.strategies():
        self._factory.programs(strategy, made).check(initial_model)
    self._reading = self._describe_reading(made, steps)
    self._notice = self._export_notice(made)
    text = schedule_text.describe(self._plain, self._factory.levels, schedules)
    return '\n'.join([text, *self._reading])

  def _export_notice(self, made: Inputs) -> str:
    """Returns why a pretrained model will have no exact export, or ''."""
    names = [s.name for s in self._factory.strategies() if s.sleeps]
    has_begun = any(self._factory.progress_of(made.seed, n) for n in names)
    if made.base_model is None or not names or has_begun:
      return ''  # Of a run that has begun, these fields cannot be changed.
    return export_forecast.notice(self._plain)

  def _describe_reading(
    self, made: Inputs, steps: tuple[int, ...]
  ) -> list[str]:
    """Returns what to know about the rows of the days that are not learned yet.

    The report gets the numbers of all days.
    """
    found = [s for s in self._factory.strategies() if s.reads_days]
    if not found:
      return stream_lib.notes(made.stream)
    days = coverage.days(
      made.stream, steps, self._plain, self._factory.levels,
      sleeps=any(s.sleeps for s in found),
    )  # fmt: skip
    self._results.days = coverage.rows(days)
    finished = min(self._factory.num_finished(s, made) for s in found)
    return [
      *stream_lib.notes(made.stream), *coverage.lines(days[finished:])
    ]  # fmt: skip

  def _receive_and_check(self) -> str:
    """Receives a day from standard input if it is named; then as `check`."""
    data = self._config.data
    named = [data.path, data.get('extra_days', '')]
    day = None
    if any(map(stdin_days.is_named, named)):
      if processes.is_first():
        self._progress.say('reading a day from standard input')
        day = self._receive(self.folder)
      processes.wait_for_all('stdin')
    try:
      return self.check()
    except errors.DataError as error:
      if day is None:
        raise
      raise stdin_days.refuse(
        day, day.with_suffix('.refused'), error
      ) from error

  def is_finished(self) -> bool:
    """Whether every run has come to the end of its schedule."""
    for seed in self._config.seeds:
      made, _ = self._days.open(int(seed))
      for strategy in self._factory.strategies():
        progress = self._factory.progress_of(seed, strategy.name)
        plan = self._factory.plan(strategy, made)
        if progress is None or progress['event'] < len(plan):
          return False
    return True

  def _run_seed(self, seed: int, awake_only: bool, prepare_only: bool) -> None:
    made, found = self._days.open(seed)
    for line in found.changes:
      self._progress.say(f'accepted: {line}')
    day_records.write(self._own / f'seed_{seed}', found.records)
    if not (self.folder / f'seed_{seed}' / 'tokenizer').exists():
      made.stream.tokenizer.save(str(self._own / f'seed_{seed}' / 'tokenizer'))
    made = dataclasses.replace(made, initial_model=self._first_model(made))
    batches = self._config.evaluate.held_out_batches
    made = inputs.with_evaluator(self._config, made, batches)
    made = ability_start.with_ability(
      self._config, made, self.folder, has_end=self._days.has_end
    )
    for strategy in self._factory.strategies():
      rate = None
      if strategy.tuned:
        rate = tuning.choose_rate(
          self._config, strategy, made, self._factory, folder=self.folder,
          own_folder=self._own, progress=self._progress,
        )  # fmt: skip
      if prepare_only:
        continue
      add = functools.partial(
        self._results.add, strategy.name, seed, rate=rate,
        days=[day_records.label(record) for record in found.records[1:]],
      )  # fmt: skip
      until = None
      if awake_only:
        plan = self._factory.plan(strategy, made)
        until = events.end_of_waking(plan)
      folder = self.folder / f'seed_{seed}' / strategy.name
      with self._factory.open_run(
        strategy, made, folder, rate=rate, on_cycle=add
      ) as run:
        _, record = run.run(until)
      add(record, status='under way' if awake_only else 'finished')

  def _first_model(self, made: Inputs) -> state_lib.InitialModel:
    """Returns the initial model, without arrays that nothing will read."""
    first, *others = self._factory.strategies()
    begun = self._factory.progress_of(made.seed, first.name) is not None
    shared = others or (first.tuned and not begun)  # By the rates it tries.
    if shared or ability_start.compares(self._config, made):
      return self._initial_model(made)
    if begun:
      return self._factory.initial_shapes(made)
    return dataclasses.replace(self._initial_model(made), is_spare=True)

  def _initial_model(self, made: Inputs) -> state_lib.InitialModel:
    """Pretrains the initial model, or reads one that exists.

    Without pretraining text, a base model or another run to start from, the
    initial model is untrained.
    """
    home = inputs.initial_model_folder(self._config, self.folder, made.seed)
    here = home.parent == self.folder
    if made.base_model is not None:
      return hf_start.load_initial_model(
        made, self._factory.initial_shapes(made), self._plain, self._placement,
        None if here else home, progress=self._progress,
        writes=any(s.sleeps for s in self._factory.strategies()),
      )  # fmt: skip
    steps = self._config.pretrain.steps if made.stream.pretrain else 0
    held_out = made.stream.held_out
    batches = self._config.evaluate.held_out_batches
    if held_out is not None and batches:
      evaluator = evaluator_lib.HeldOutEvaluator(made.model, held_out, batches)
      made = dataclasses.replace(made, evaluator=evaluator)
    strategy = self._factory.pretrain_strategy(steps)
    folder = home / run_factory.PRETRAIN
    if here:
      with self._factory.open_run(strategy, made, folder) as run:
        state, _ = run.run()
    else:
      theirs = compatibility.check_fits(home, self._plain)
      saved = checkpoints_lib.Checkpoints(
        str(folder / 'checkpoints'),
        config=compatibility.kept(theirs, pretraining=True),
      )
      saved.progress('cycles', 0)
      shapes = self._factory.programs(strategy, made).abstract(None)
      state = saved.restore('cycles', 0, shapes)
      saved.close()
      self._progress.say(f'initial model: restored from {folder}')
    return state_lib.InitialModel(weights=state.weights, replay=state.replay)
