"""Builds the runs of a study from its config: programs, schedule, files."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import ml_collections

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.learner import programs as programs_lib
from sleep_jax.model import config as model_config
from sleep_jax.objectives import judges
from sleep_jax.runs import (
  compatibility,
  context,
  day_records,
  divergence,
  expert_history,
  inputs,
  loop,
  question_start,
  run_plan,
)
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import processes, profiling, sharding
from sleep_jax.schedule import capacity, events
from sleep_jax.sleep import sender_settings
from sleep_jax.storage import checkpoint_reading, metric_writer, workdir
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.strategies import pretrain, registry
from sleep_jax.strategies import strategy as strategy_lib

PRETRAIN = 'pretrain'
_SLEEP = 'sleep'  # Not imported: its source concerns its own runs only.

Inputs = inputs.RunInputs


class RunFactory:
  """Makes every object that a run needs.

  Attributes:
    levels: of the model.
    restore_cycle: cycle to which the runs go back first; None once they have.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    plain: dict[str, Any],
    placement: sharding.Placement,
    *,
    progress: progress_lib.Progress,
    stop: Callable[[], bool],
    profile: profiling.Profile,
    folder: workdir.Folder,
    own_folder: workdir.Folder,
    programs: dict[Any, programs_lib.Programs] | None = None,
  ):
    """Collects what all runs share.

    Args:
      config: of the study.
      plain: the same, as JSON returns it.
      placement: mesh and sharding rules.
      progress, stop, profile: see `context.Tools`.
      folder: work directory of the study.
      own_folder: where this process writes metrics; the same in the first
        process.
      programs: programs of earlier runs, by strategy, seed and rate, which are
        used again; new ones are added. None builds them for each run.
    """
    self._config, self._plain, self._placement = config, plain, placement
    self._progress, self._stop, self._profile = progress, stop, profile
    self._folder, self._own_folder = folder, own_folder
    self._cache = programs
    self.restore_cycle: int | None = None
    self.levels = tuple(
      model_config.make_level(level) for level in plain['levels']
    )
    self._plan = functools.partial(run_plan.make, plain, self.levels)
    self._new_steps = functools.partial(run_plan.wake_steps, plain, self.levels)

  def initial_shapes(self, made: Inputs) -> state_lib.InitialModel:
    """Returns shapes and shardings of the initial model."""
    return self.programs(self.pretrain_strategy(0), made).initial_shapes()

  @contextlib.contextmanager
  def open_run(
    self,
    strategy: strategy_lib.Strategy,
    made: Inputs,
    folder: workdir.Folder,
    *,
    rate: float | None = None,
    num_experiences: int | None = None,
    on_cycle: Callable[[dict[str, Any]], None] = lambda record: None,
  ) -> Iterator[loop.Run]:
    """Opens the checkpoints and metrics of one run; yields the run.

    Args:
      strategy: of the run.
      made: its inputs.
      folder: its folder in the work directory.
      rate: learning rate, if it is tuned.
      num_experiences: length of the run; None runs the whole stream.
      on_cycle: called with the record after each evaluation.
    """
    config = self._config
    steps = self.day_steps(made, folder)[:num_experiences]
    budget = self._night_budget(strategy, made, folder, is_opened=True)
    name = f'{config.name}_{strategy.name}_{made.seed}'
    metrics = self._own_folder / folder.relative_to(self._folder)
    writers = config.writers if processes.is_first() else ()
    with (
      contextlib.closing(self.checkpoints(folder)) as checkpoints,
      metric_writer.MetricWriter(metrics, writers=writers, name=name) as writer,
      contextlib.closing(self._profile),
    ):
      yield loop.Run(
        context.RunContext(
          self.programs(strategy, made, rate), made.stream,
          made.initial_model,
          strategy.evaluator(config, made.evaluator, made.stream),
          context.Tools(
            progress=self._progress, writer=writer, checkpoints=checkpoints,
            stop=self._stop, on_cycle=on_cycle, profile=self._profile,
          ),
          plan=self._plan(strategy, steps, budget),
          day_steps=steps, night_budget=budget,
          advice=divergence.advice(self._plain, strategy, rate),
          key=jax.random.key(made.seed),
          guard_tolerance=config.guard.tolerance if config.guard.on else None,
          save_seconds=config.checkpoint.every_seconds,
          num_samples=config.evaluate_samples,
          ability=made.ability, own_texts=made.own_texts,
          questions=question_start.make(
            config, made.base_model, made.stream.tokenizer
          ),
        )
      )  # fmt: skip

  def plan(
    self, strategy: strategy_lib.Strategy, made: Inputs
  ) -> tuple[events.Event, ...]:
    """Returns all events of a run."""
    folder = self._folder / f'seed_{made.seed}' / strategy.name
    budget = self._night_budget(strategy, made, folder)
    return self._plan(strategy, self.day_steps(made, folder), budget)

  def day_steps(self, made: Inputs, folder: workdir.Folder) -> tuple[int, ...]:
    """Returns the wake steps of each day.

    A day that a run has begun keeps its steps, whatever its file is now, so
    that no event before it moves.

    Args:
      made: inputs of the run.
      folder: of the run.
    """
    saved = self._progress_in(folder) or {}
    kept = saved.get('day_steps', ())[: saved.get('begun')]
    return (*kept, *self._new_steps(made.stream.experiences)[len(kept) :])

  def num_finished(self, strategy: strategy_lib.Strategy, made: Inputs) -> int:
    """Returns how many days a run has learned, with their nights."""
    if not (progress := self._latest_progress(made.seed, strategy)):
      return 0
    ahead = self.plan(strategy, made)[progress['event'] :]
    days = [event.experience for event in ahead if event.kind != events.SAVE]
    return min(days, default=len(made.stream.experiences) + 1) - 1

  def audit(self, made: Inputs) -> list[tuple[capacity.LevelSchedule, ...]]:
    """Returns the schedule of each strategy that sleeps; at least one.

    Raises:
      ConfigError: a bank has too few slots for the nights to come.
    """
    overflow = sender_settings.overflow(
      self._plain, events.sleepers(self.levels)
    )
    schedules = []
    for strategy in self.strategies():
      if not strategy.sleeps:
        continue
      progress = self._latest_progress(made.seed, strategy) or {}
      history = progress.get('ledger', ())
      schedules.append(
        capacity.audit(
          self.levels, self.plan(strategy, made), overflow=overflow,
          done=progress.get('event', 0),
          in_use=expert_history.num_experts(history, len(self.levels)),
        )
      )  # fmt: skip
    if not schedules:
      plan = events.make_events(
        self.levels, num_experiences=len(made.stream.experiences),
        steps=self._new_steps(made.stream.experiences),
      )  # fmt: skip
      schedules.append(capacity.audit(self.levels, plan, overflow=overflow))
    return schedules

  def _night_budget(
    self,
    strategy: strategy_lib.Strategy,
    made: Inputs,
    folder: workdir.Folder,
    *,
    is_opened: bool = False,
  ) -> int | None:
    """Returns the updates of nights that a run takes, see `run_plan`."""
    if not strategy.takes_night_updates:
      return None
    home = folder.parent / _SLEEP
    own, beside = map(self._progress_in, (folder, home))
    (sleeping,) = self._make_strategies((_SLEEP,))
    planned = self._plan(sleeping, self.day_steps(made, home))
    budget = run_plan.night_budget(own, beside, len(planned))
    if is_opened and own is None:
      self._progress.say(run_plan.describe_budget(strategy.name, budget))
    return budget

  def _latest_progress(
    self, seed: int, strategy: strategy_lib.Strategy
  ) -> dict[str, Any] | None:
    """Returns the progress from which a run will continue, if there is any."""
    return self._progress_in(self._folder / f'seed_{seed}' / strategy.name)

  def _progress_in(self, folder: workdir.Folder) -> dict[str, Any] | None:
    """Returns the same of the run in a folder."""
    return checkpoint_reading.latest_progress(
      str(folder / 'checkpoints'), self.restore_cycle
    )

  def pretrain_strategy(self, steps: int) -> strategy_lib.Strategy:
    """Returns the strategy that pretrains for `steps` steps."""
    # Where the blocks' own MLPs are the levels, pretraining trains all of them.
    deep = self._config.model.arrangement == 'depth'
    return pretrain.make(steps, num_levels=len(self.levels) if deep else 1)

  def strategies(self) -> list[strategy_lib.Strategy]:
    """Returns the strategies of one seed, in order.

    Raises:
      ConfigError: a strategy is tuned, and there is no stream to tune it on.
    """
    strategies = self._make_strategies(self._config.strategies)
    several = len(self._config.tune.learning_rates) > 1
    if several and self._config.data.dataset == 'jsonl':
      for strategy in strategies:
        if strategy.tuned:
          raise errors.ConfigError(
            f'{strategy.name} is tuned on a second stream, which the jsonl '
            'dataset does not have: give config.tune.learning_rates one rate.'
          )
    return strategies

  def _make_strategies(
    self, names: Iterable[str]
  ) -> list[strategy_lib.Strategy]:
    # Those that learn awake, and the slowest one.
    num_levels = model_config.num_awake(self.levels) + 1
    return [
      strategy
      for name in names
      for strategy in registry.make(name, num_levels=num_levels)
    ]

  def programs(
    self,
    strategy: strategy_lib.Strategy,
    made: Inputs,
    rate: float | None = None,
  ) -> programs_lib.Programs:
    """Returns the programs of a run, compiled at their first use."""
    key = strategy.name, made.seed, rate
    if self._cache is not None and key in self._cache:
      return self._cache[key]
    strategy.check(stream := made.stream)
    judged, tokenizer = self._config.consolidate.imitation, stream.tokenizer
    made_programs = programs_lib.Programs(
      self._config, made.model, strategy, self._placement,
      templates=stream.templates, bos=tokenizer.bos, eos=tokenizer.eos,
      dream_templates=stream.dream_templates,
      task=next(iter(stream.tasks.values()), None),
      judge=judges.make(judged.judge, tokenizer), learning_rate=rate,
    )  # fmt: skip
    # Pretraining exists with several numbers of steps.
    if self._cache is not None and strategy.name != PRETRAIN:
      self._cache[key] = made_programs
    return made_programs

  def checkpoints(self, folder: workdir.Folder) -> checkpoints_lib.Checkpoints:
    """Opens the checkpoints of a run."""
    return checkpoints_lib.Checkpoints(
      str(folder / 'checkpoints'),
      config=compatibility.kept(
        self._plain, pretraining=folder.name == PRETRAIN,
        section=compatibility.section(folder),
      ),
      keep=self._config.checkpoint.keep,
      disk_budget_bytes=self._config.checkpoint.disk_budget_bytes,
      # Those of the work directory have been compared, or accepted.
      bound=compatibility.without_rates,
    )  # fmt: skip

  def progress_of(self, seed: int, name: str) -> dict[str, Any] | None:
    """Returns the progress of a run's latest checkpoint; None without one."""
    folder = self._folder / f'seed_{seed}' / name / 'checkpoints'
    return checkpoint_reading.latest_progress(str(folder))

  def num_begun(
    self, seed: int, days: Sequence[day_records.Record], last: int | None = None
  ) -> tuple[int, dict[str, int]]:
    """Returns how many entries of the records a checkpoint depends on.

    Args:
      seed: of the runs.
      days: records of the pretraining text and of the days.
      last: cycle to which the runs go back first.

    Returns:
      The number; and of the strategies of this study that read all days from
      their first step, the number of days that each has begun with.
    """
    if not days:
      return 0, {}
    num = int(self.progress_of(seed, PRETRAIN) is not None)
    complete: dict[str, int] = {}
    # The records also belong to strategies that are left out this time.
    existing = {run.name for run in (self._folder / f'seed_{seed}').iterdir()}
    for strategy in self._make_strategies(registry.names()):
      name = strategy.name
      if not (progress := name in existing and self.progress_of(seed, name)):
        continue
      # A checkpoint of an earlier version has no steps: they were all equal.
      steps = events.steps_per_experience(self.levels, self._config.wake.steps)
      planned = progress.get('day_steps') or [steps] * (len(days) - 1)
      if strategy.sources is not strategy_lib.sequential_sources:
        num = max(num, 1 + len(planned))
        complete[name] = len(planned)
        continue
      done = self._plan(strategy, planned)[: progress['event']]
      begun = [e.experience for e in done if last is None or e.cycle <= last]
      num = max(num, 1 + max(begun, default=0))
    ours = {strategy.name for strategy in self.strategies()}
    return num, {name: n for name, n in complete.items() if name in ours}
