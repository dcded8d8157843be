"""A study: strategies side by side, from one birth, over several seeds.

Lays out the work directory, lets every life run (or go on), and writes the
report and `summary.json` again whenever there is something new to see.
"""

import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

from sleep_jax import (
  about, checkpoint, lifecycle, programs, progress, schedule, sharding,
  writers,
)  # fmt: skip
from sleep_jax import strategies as strategies_lib
from sleep_jax.data import streams, tokenizer
from sleep_jax.data.worlds import facts, intents, jsonl
from sleep_jax.evaluate import examiner, report, retention
from sleep_jax.model import config as model_config
from sleep_jax.model import transformer
from sleep_jax.strategies import birth

# What may differ between two parts of one run.
_FREE = ('strategies', 'seeds', 'checkpoint', 'writers', 'compile_cache')
# What a newborn depends on.
_BORN_OF = ('data', 'tokenizer', 'model', 'levels', 'birth', 'replay')
_WORLDS = {'facts': facts, 'intents': intents, 'jsonl': jsonl}


class Study:
  """Everything below one work directory.

  Args:
    config: see configs/base.py.
    workdir: made where it is missing.
    stop: whether someone asked to stop.
    restore_cycle: every life of this study goes back to this cycle first.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    restore_cycle: int | None = None,
  ):
    self._config, self._stop = config, stop
    self._restore_cycle = restore_cycle
    self.folder = pathlib.Path(workdir).expanduser().resolve()
    self._progress = progress.Progress()
    self._runs: dict[tuple[str, int], dict[str, Any]] = {}
    self._plain = json.loads(config.to_json_best_effort())
    claim(self.folder, self._plain)
    self._about = about.describe(self._plain)
    self._placement = sharding.make(**config.mesh)

  def run(self) -> list[dict[str, Any]]:
    """Runs what is left to run; returns one record per strategy and seed."""
    audit = self._audit()
    self._progress.say(audit)
    with jax.set_mesh(self._placement.mesh):
      for seed in self._config.seeds:
        self._seed(int(seed))
    self._draw()
    runs = list(self._runs.values())
    print(report.table(runs))
    print(f'report: {os.path.relpath(self.folder / "report.html")}')
    return runs

  def _audit(self) -> str:
    """Checks the schedule before anything is computed."""
    levels = self._levels()
    schedule.check(levels)
    plan = schedule.events(
      levels, num_experiences=self._num_experiences(), steps=self._steps()
    )
    return schedule.describe(schedule.audit(levels, plan))

  def _seed(self, seed):
    stream, model = self._make(seed)
    key = jax.random.key(seed)
    newborn = self._birth(stream, model, key, seed)
    judge = examiner.Examiner(
      model, stream, newborn.weights, **self._config.evaluate
    )
    for name in self._config.strategies:
      lives = strategies_lib.make(name, num_levels=model.config.num_levels)
      for kind in lives:
        rate = None
        if kind.tuned:
          rate = self._tuned(kind, model, newborn, key, seed)
        self._live(
          kind, stream, model, newborn, judge, key, seed,
          folder=self.folder / f'seed_{seed}' / kind.name, rate=rate,
          shown=True,
        )  # fmt: skip

  def _live(
    self, kind, stream, model, newborn, judge, key, seed, *, folder, rate,
    shown, num_experiences=None,
  ):  # fmt: skip
    config = self._config
    program = programs.Programs(
      config, model, kind, self._placement, stems=stream.stems,
      bos=stream.tokenizer.bos, eos=stream.tokenizer.eos, learning_rate=rate,
    )  # fmt: skip
    plan = kind.plan(
      model.config.levels, num_experiences or len(stream.experiences),
      self._steps(),
      config.consolidate.num_updates,
    )  # fmt: skip
    show = functools.partial(self._show, kind.name, seed, rate)
    with writers.Writers(
      folder, writers=config.writers, name=f'{config.name}_{kind.name}_{seed}'
    ) as writer:
      life = lifecycle.Life(
        program, stream, newborn, judge,
        lifecycle.Tools(
          progress=self._progress,
          writer=writer,
          checkpoints=self._checkpoints(folder),
          stop=self._stop,
          on_cycle=show if shown else lambda record: None,
        ),
        plan=tuple(plan),
        key=key,
        guard_tolerance=config.guard.tolerance if config.guard.on else None,
        save_seconds=config.checkpoint.every_seconds,
        num_samples=config.evaluate_samples,
      )  # fmt: skip
      state, record = life.run()
    if shown:
      self._show(kind.name, seed, rate, record, status='finished')
    return state, record

  def _birth(self, stream, model, key, seed):
    """Pretrains the core, or reads what an earlier start pretrained.

    Raises:
      FileNotFoundError: config.birth.restore holds no newborn of this seed.
    """
    restore = self._config.birth.restore
    home = pathlib.Path(restore).expanduser() if restore else self.folder
    folder = home / f'seed_{seed}' / 'birth'
    if restore and not (folder / 'checkpoints' / 'cycles' / 'cycle_0').exists():
      raise FileNotFoundError(
        f'config.birth.restore: {folder} holds no finished birth. Name the '
        f'work directory of a run that was born with seed {seed}.'
      )
    kind = birth.make(self._config.birth.steps)
    state, _ = self._live(
      kind, stream, model, None, None, key, seed, folder=folder, rate=None,
      shown=False,
    )  # fmt: skip
    return programs.Newborn(weights=state.weights, replay=state.replay)

  def _tuned(self, kind, model, newborn, key, seed) -> float:
    """The best learning rate by ACC on a validation stream.

    Chosen once a study, with its first seed and the first experiences of a
    stream that no strategy is measured on.
    """
    path = self.folder / 'tuning' / kind.name / 'chosen.json'
    if path.exists():
      return json.loads(path.read_text())['chosen']
    rates = [float(rate) for rate in self._config.tune.learning_rates]
    stream, _ = self._make(seed, validation=True)
    judge = examiner.Examiner(
      model, stream, newborn.weights,
      **(self._config.evaluate.to_dict() | {'held_out_batches': 0}),
    )  # fmt: skip
    found = {}
    for rate in rates:
      _, record = self._live(
        kind, stream, model, newborn, judge, key, seed,
        folder=path.parent / f'rate_{rate:g}', rate=rate, shown=False,
        num_experiences=self._config.tune.experiences,
      )  # fmt: skip
      found[rate] = retention.summarize(record['evaluations'])['acc']
    chosen = max(found, key=lambda rate: found[rate] or 0.0)
    self._progress.say(f'{kind.name}: learning rate {chosen:g} of {found}')
    _write_whole(path, {'chosen': chosen, 'acc': found})
    return chosen

  def _make(self, seed, *, validation=False):
    """World, tokens and model of a seed."""
    config = self._config
    data = config.data.to_dict()
    name, path = data.pop('world'), data.pop('path')
    if name not in _WORLDS:
      raise ValueError(
        f'data.world is {name!r}: expected one of {tuple(_WORLDS)}.'
      )
    settings = data.pop('settings')
    if name != 'facts':
      settings['path'] = path
    world = _WORLDS[name].make(
      seed=seed, stream_seed=seed + 1 if validation else None, **settings
    )
    kind = dict(config.tokenizer)
    folder = self.folder / f'seed_{seed}' / 'tokenizer'
    if (folder / 'tokenizer.json').exists():
      words = tokenizer.load(str(folder))
    else:
      words = tokenizer.make(texts=[row.text for row in world.birth], **kind)
      words.save(str(folder))
    stream = streams.build(
      world, words, seed=seed, cache_dir=str(self.folder / 'tokens'), **data
    )
    levels = [dataclasses.asdict(level) for level in self._levels()]
    made = model_config.make(
      config.model, levels, vocab_size=words.vocab_size
    )
    return stream, transformer.Transformer(made)

  def _checkpoints(self, folder):
    settings = self._config.checkpoint
    born = folder.name == 'birth'
    kept = {
      key: value
      for key, value in self._plain.items()
      if (key in _BORN_OF if born else key not in _FREE)
    }
    if born:
      kept['birth'] = {k: v for k, v in kept['birth'].items() if k != 'restore'}
    made = checkpoint.Checkpoints(
      str(folder / 'checkpoints'), config=kept, keep=settings.keep,
      disk_budget_bytes=settings.disk_budget_bytes,
    )  # fmt: skip
    if self._restore_cycle is not None and not born:
      made.rewind(self._restore_cycle)
    return made

  def _levels(self):
    return tuple(
      model_config.Level(**level) for level in self._config.to_dict()['levels']
    )

  def _steps(self):
    return schedule.steps_per_experience(self._levels(), self._config.wake.steps)

  def _num_experiences(self):
    stream, _ = self._make(int(self._config.seeds[0]))
    return len(stream.experiences)

  def _show(self, name, seed, rate, record, status='under way'):
    summary = retention.summarize(record['evaluations'], record['cost'])
    if rate is not None:
      summary['learning_rate'] = rate
    last = record['evaluations'][-1] if record['evaluations'] else {}
    self._runs[name, seed] = {
      'strategy': name, 'seed': seed, 'status': status,
      'summary': {'seed': seed, **summary, **_stems(record['evaluations'])},
      'second_scores': last.get('second_scores'), **record,
    }  # fmt: skip
    self._draw()

  def _draw(self):
    """Writes summary.json and report.html, whole or not at all."""
    runs = list(self._runs.values())
    by_name: dict[str, list] = {}
    for run in runs:
      if run['status'] == 'finished':
        by_name.setdefault(run['strategy'], []).append(run['summary'])
    _write_whole(
      self.folder / 'summary.json',
      {'study': self._config.name, 'strategies': _with_joint(by_name)},
    )
    report.write(
      runs, str(self.folder / 'report.html'), study=self._config.name,
      config=self._plain, about=self._about,
    )  # fmt: skip


def claim(folder: pathlib.Path, config: dict[str, Any]) -> None:
  """Makes a work directory this config's own, or finds that it is.

  Raises:
    ValueError: it belongs to another config; names what differs.
    OSError: it cannot be written to.
  """
  path = folder / 'config.json'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise OSError(
      f'The work directory {folder} cannot be written to ({error.strerror}): '
      'choose another --workdir.'
    ) from error
  if path.exists():
    old = json.loads(path.read_text())
    differing = sorted(
      key
      for key in {*old, *config} - set(_FREE)
      if old.get(key) != config.get(key)
    )
    if differing:
      raise ValueError(
        f'The work directory {folder} belongs to another config; they differ '
        f'in {", ".join(differing)}. Choose another --workdir, or run with '
        'the config of its config.json.'
      )
  _write_whole(path, config)


def _with_joint(by_name: dict[str, list]) -> dict[str, list]:
  """Adds 'joint', the better of its budgets by ACC; both stay."""
  budgets = [name for name in by_name if name.startswith('joint_')]
  if budgets:
    best = max(
      budgets,
      key=lambda name: retention.spread(r['acc'] for r in by_name[name])[0]
      or 0.0,
    )
    by_name = by_name | {'joint': by_name[best]}
  return by_name


def _stems(evaluations) -> dict[str, float | None]:
  """ACC and prior in the wordings that the stems use."""
  matrix = retention.r_matrix(evaluations, 'stem_scores')
  last = evaluations[-1]['stem_scores'] if evaluations else {}
  return {
    'prior_stems': last.get('birth'),
    'acc_stems': retention.acc(matrix) if matrix.size else None,
  }


def _write_whole(path: pathlib.Path, value: Any) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  new = path.with_name(path.name + '.new')
  new.write_text(json.dumps(value, indent=1) + '\n')
  new.replace(path)
