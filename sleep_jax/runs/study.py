"""A study: strategies side by side, from one birth, over several seeds.

Checks everything that can be checked before anything is computed, lets every
life run (or go on), and writes the report and `summary.json` again whenever
there is something new to see.
"""

import contextlib
import dataclasses
import functools
import json
import os
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from sleep_jax.config import checks as config_checks
from sleep_jax.evaluate import evaluator, retention
from sleep_jax.learner import initial_state, programs
from sleep_jax.model import config as config_lib
from sleep_jax.objectives import judges
from sleep_jax.report import report
from sleep_jax.runs import compatibility, hf_start, inputs, loop, progress
from sleep_jax.runtime import processes, profiling, sharding
from sleep_jax.schedule import capacity, events
from sleep_jax.schedule import checks as schedule_checks
from sleep_jax.sleep import settings, settings_checks
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import metric_writer, provenance, workdir
from sleep_jax.strategies import pretrain, registry, strategy

_PRETRAIN = 'pretrain'


class Study:
  """Everything below one work directory.

  Args:
    config: see configs/base.py.
    workdir: made where it is missing.
    stop: whether someone asked to stop.
    restore_cycle: every life that came so far goes back to this cycle first.
    profile: wake steps, and rounds of a night, to trace.

  Raises:
    ValueError, OSError: the config or the work directory is not sound.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    restore_cycle: int | None = None,
    profile: int = 0,
  ):
    self._config, self._stop = config, stop
    self._restore_cycle = restore_cycle
    quiet = None if processes.is_first() else open(os.devnull, 'w')
    self._progress = progress.Progress(quiet)
    self._runs: dict[tuple[str, int], dict[str, Any]] = {}
    self._plain = json.loads(config.to_json_best_effort())
    config_checks.check(self._plain)
    self._levels = tuple(
      config_lib.Level(**level) for level in self._plain['levels']
    )
    schedule_checks.check_periods(self._levels)
    self._steps = events.steps_per_experience(self._levels, config.wake.steps)
    self._placement = sharding.make(**config.mesh)
    self.folder = workdir.path(folder)
    workdir.check_config(self.folder, self._plain, ignored=compatibility.FREE)
    processes.check_same(json.dumps(self._plain), 'config')
    if profile and workdir.in_bucket(self.folder):
      raise ValueError(
        f'--profile={profile} writes to a disk, and {self.folder} is in a '
        'bucket: choose a --workdir on disk.'
      )
    # Where this process writes what is not an array: who is not the first
    # writes for nobody.
    self._own = self.folder
    if not processes.is_first():
      self._own = workdir.path(tempfile.mkdtemp(prefix='sleep_jax_'))
    self._profile = profiling.Profile(str(self._own / 'profile'), profile)

  def run(self) -> list[dict[str, Any]]:
    """Runs what is left to run; returns one record per strategy and seed."""
    with (
      jax.set_mesh(self._placement.mesh),
      workdir.explain_full_disk(self.folder),
    ):
      self._progress.say(self._check())
      self._about = provenance.describe(self._plain)
      workdir.write_json(self._own / 'config.json', self._plain)
      workdir.write_json(self._own / 'about.json', self._about)
      if self._restore_cycle is not None:
        self._go_back(self._restore_cycle)
      for seed in self._config.seeds:
        self._seed(int(seed))
      self._draw()
    runs = list(self._runs.values())
    if processes.is_first():
      print(report.table(runs))
      print(f'report: {workdir.display_path(self.folder / "report.html")}')
    return runs

  def forget(self, level: int, slot: int) -> None:
    """Switches an expert off in every life, where it stands.

    Raises:
      ValueError: see `Life.forget`.
    """
    with jax.set_mesh(self._placement.mesh):
      for seed in self._config.seeds:
        start = inputs.make(self._config, self.folder, int(seed))
        start = dataclasses.replace(
          start, initial_model=self._initial_shapes(start)
        )
        for kind in self._kinds():
          folder = self.folder / f'seed_{seed}' / kind.name
          self._live(
            kind, start, folder, act=lambda life: life.forget(level, slot)
          )

  def _check(self) -> str:
    """Finds what is wrong before anything is computed; returns the audit.

    Every seed's stream is built and every state is laid out on the mesh, as
    shapes alone.
    """
    config = self._config
    for seed in config.seeds:
      start = inputs.make(self._config, self.folder, int(seed))
    if config.guard.on and start.stream.guard is None:
      raise ValueError(
        f'config.guard.on: the world {config.data.dataset!r} has no probes for '
        'a guard. Set config.guard.on=False.'
      )
    plan = events.make_events(
      self._levels, num_experiences=len(start.stream.experiences),
      steps=self._steps,
    )  # fmt: skip
    night = settings_checks.make_settings(**self._plain['consolidate'])
    overflow = 'none' if night.into == settings.BASE else night.full
    rows = capacity.audit(self._levels, plan, overflow=overflow)
    batch = start.stream.experiences[0].batch(0)
    self._placement.shardings(batch, prefix='batch/')
    initial_model = self._initial_shapes(start)
    for kind in self._kinds():
      self._programs(kind, start).check(initial_model)
    return capacity.describe(rows)

  def _initial_shapes(
    self, start: inputs.RunInputs
  ) -> initial_state.InitialModel:
    """Shapes of a newborn."""
    return self._programs(self._pretrain_strategy(0), start).initial_shapes()

  def _seed(self, seed):
    start = inputs.make(self._config, self.folder, seed)
    if not (self.folder / f'seed_{seed}' / 'tokenizer').exists():
      start.stream.tokenizer.save(str(self._own / f'seed_{seed}' / 'tokenizer'))
    start = dataclasses.replace(start, initial_model=self._pretrain(start))
    start = inputs.with_evaluator(
      self._config, start, self._config.evaluate.held_out_batches
    )
    for kind in self._kinds():
      rate = self._tuned(kind, start) if kind.tuned else None
      folder = self.folder / f'seed_{seed}' / kind.name
      show = functools.partial(self._show, kind.name, seed, rate)
      _, record = self._live(kind, start, folder, rate=rate, show=show)
      show(record, status='finished')

  def _live(
    self,
    kind: strategy.Strategy,
    start: inputs.RunInputs,
    folder: workdir.Folder,
    *,
    rate: float | None = None,
    num_experiences: int | None = None,
    show: Callable[[dict[str, Any]], None] = lambda record: None,
    act: Callable[[loop.Run], Any] = loop.Run.run,
  ):
    """One life, from where it stands to its end, unless it is to act else."""
    config = self._config
    plan = kind.plan(
      self._levels, num_experiences or len(start.stream.experiences),
      self._steps, config.consolidate.num_updates,
      config.dream.order if config.dream.on else '',
    )  # fmt: skip
    name = f'{config.name}_{kind.name}_{start.seed}'
    record = self._own / folder.relative_to(self.folder)
    more = config.writers if processes.is_first() else ()
    with (
      contextlib.closing(self._checkpoints(folder)) as checkpoints,
      metric_writer.MetricWriter(record, writers=more, name=name) as writer,
      contextlib.closing(self._profile),
    ):
      life = loop.Run(
        self._programs(kind, start, rate),
        start.stream,
        start.initial_model,
        start.judge,
        loop.Tools(
          progress=self._progress, writer=writer, checkpoints=checkpoints,
          stop=self._stop, on_cycle=show, profile=self._profile,
        ),
        plan=tuple(plan),
        key=jax.random.key(start.seed),
        guard_tolerance=config.guard.tolerance if config.guard.on else None,
        save_seconds=config.checkpoint.every_seconds,
        num_samples=config.evaluate_samples,
      )  # fmt: skip
      return act(life)

  def _pretrain(self, start: inputs.RunInputs) -> initial_state.InitialModel:
    """Pretrains the core, or reads what an earlier start pretrained.

    Without birth text, who is neither restored nor hosted is born knowing
    nothing.
    """
    home = inputs.initial_model_folder(self._config, self.folder, start.seed)
    if start.base_model is not None:
      there = None if home.parent == self.folder else home
      self._progress.say(f'birth: reading {there or start.base_model.folder}')
      return hf_start.load_initial_model(
        start, self._initial_shapes(start), self._plain, self._placement, there
      )
    steps = self._config.pretrain.steps if start.stream.pretrain else 0
    batches = self._config.evaluate.held_out_batches
    if start.stream.held_out is not None and batches:
      reader = evaluator.HeldOutEvaluator(
        start.model, start.stream.held_out, batches
      )
      start = dataclasses.replace(start, judge=reader)
    kind = self._pretrain_strategy(steps)
    folder = home / _PRETRAIN
    if home.parent == self.folder:
      state, _ = self._live(kind, start, folder)
    else:
      theirs = compatibility.check_fits(home, self._plain)
      saved = checkpoints_lib.Checkpoints(
        str(folder / 'checkpoints'),
        config=compatibility.kept(theirs, born=True),
      )
      saved.progress('cycles', 0)
      shapes = self._programs(kind, start).abstract(None)
      state = saved.restore('cycles', 0, shapes)
      saved.close()
      self._progress.say(f'birth: restored from {folder}')
    return initial_state.InitialModel(
      weights=state.weights, replay=state.replay
    )

  def _pretrain_strategy(self, steps: int) -> strategy.Strategy:
    # Where the blocks' own MLPs are the levels, birth makes all of them.
    deep = self._config.model.arrangement == 'depth'
    return pretrain.make(steps, num_levels=len(self._levels) if deep else 1)

  def _tuned(self, kind: strategy.Strategy, start: inputs.RunInputs) -> float:
    """The best learning rate by ACC on a validation stream.

    Chosen once a study, with its first seed and the first experiences of a
    stream that no strategy is measured on.
    """
    tune = self._config.tune
    rates = [float(rate) for rate in tune.learning_rates]
    if len(rates) == 1:
      return rates[0]
    path = self.folder / 'tuning' / kind.name / 'chosen.json'
    if path.exists():
      return json.loads(path.read_text())['chosen']
    trial = inputs.make(self._config, self.folder, start.seed, validation=True)
    trial = inputs.with_evaluator(
      self._config,
      dataclasses.replace(trial, initial_model=start.initial_model),
      0,
    )
    found = {}
    for rate in rates:
      _, record = self._live(
        kind, trial, path.parent / f'rate_{rate:g}', rate=rate,
        num_experiences=min(tune.experiences, len(trial.stream.experiences)),
      )  # fmt: skip
      found[rate] = retention.summarize(record['evaluations'])['acc']
    chosen = max(found, key=lambda rate: found[rate] or 0.0)
    self._progress.say(f'{kind.name}: learning rate {chosen:g} of {found}')
    workdir.write_json(
      self._own / path.relative_to(self.folder),
      {'chosen': chosen, 'acc': found},
    )
    return chosen

  def _kinds(self) -> list[strategy.Strategy]:
    """The lives of one seed."""
    num_levels = len(self._levels)
    kinds = [
      kind
      for name in self._config.strategies
      for kind in registry.make(name, num_levels=num_levels)
    ]
    several = len(self._config.tune.learning_rates) > 1
    if several and self._config.data.dataset == 'jsonl':
      for kind in kinds:
        if kind.tuned:
          raise ValueError(
            f'{kind.name} is tuned on a second stream, which the jsonl world '
            'does not have: give config.tune.learning_rates one rate.'
          )
    return kinds

  def _programs(
    self, kind, start: inputs.RunInputs, rate=None
  ) -> programs.Programs:
    tokenizer = start.stream.tokenizer
    return programs.Programs(
      self._config, start.model, kind, self._placement,
      templates=start.stream.templates, bos=tokenizer.bos, eos=tokenizer.eos,
      dream_templates=start.stream.dream_templates,
      task=next(iter(start.stream.tasks.values()), None),
      judge=judges.make(self._config.consolidate.imitation.judge, tokenizer),
      learning_rate=rate,
    )  # fmt: skip

  def _checkpoints(self, folder):
    how = self._config.checkpoint
    return checkpoints_lib.Checkpoints(
      str(folder / 'checkpoints'),
      config=compatibility.kept(self._plain, born=folder.name == _PRETRAIN),
      keep=how.keep,
      disk_budget_bytes=how.disk_budget_bytes,
    )

  def _go_back(self, cycle: int) -> None:
    """All lives that came so far go back to a cycle, or none does."""
    lives = [
      self._checkpoints(folder.parent)
      for folder in sorted(self.folder.glob('seed_*/*/checkpoints'))
      if folder.parent.name != _PRETRAIN
    ]
    came = [max(life.available_cycles(), default=0) for life in lives]
    if max(came, default=0) < cycle:
      raise FileNotFoundError(
        f'--restore_cycle={cycle}: no life in {self.folder} has come further '
        f'than cycle {max(came, default=0)}.'
      )
    far = [life for life, last in zip(lives, came, strict=True)
           if last >= cycle]  # fmt: skip
    for life in far:
      life.progress('cycles', cycle)  # Raises where it is not kept any more.
    for life in far:
      life.rewind(cycle)
    for life in lives:
      life.close()

  def _show(self, name, seed, rate, record, status='under way'):
    summary = retention.summarize(record['evaluations'], record['cost'])
    if rate is not None:
      summary['learning_rate'] = rate
    last = record['evaluations'][-1] if record['evaluations'] else {}
    self._runs[name, seed] = {
      'strategy': name, 'seed': seed, 'status': status,
      'summary': {'seed': seed, **summary},
      'second_scores': last.get('second_scores'), **record,
    }  # fmt: skip
    self._draw()

  def _draw(self):
    """Writes summary.json and report.html, whole or not at all."""
    if not processes.is_first():
      return
    runs = list(self._runs.values())
    workdir.write_json(
      self.folder / 'summary.json',
      {'study': self._config.name, 'strategies': report.summaries(runs)},
    )
    report.write(
      runs, str(self.folder / 'report.html'), study=self._config.name,
      config=self._plain, about=self._about,
    )  # fmt: skip
