"""A tiny study for tests of whole runs: two people a day, a few steps.

It has every part of a run (several levels, nights, probes, a guard), and is so
small that most of its time is compiling. A `TinyStudy` compiles each program
once for all of its runs.
"""

import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest

from configs import base
from sleep_jax import state as state_lib
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import facts
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.learner import programs as programs_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.objectives import judges
from sleep_jax.runs import (
  compatibility,
  context,
  divergence,
  inputs,
  loop,
  run_factory,
  study,
)
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import sharding
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoints, metric_writer
from sleep_jax.strategies import pretrain, registry
from tests import testing

NEVER = 1e9  # Seconds.
# Keys of a row of summary.json: accuracies and what is derived from them, all.
SCORES = ('prior_initial', 'prior', 'acc', 'la', 'bwt', 'fwt', 'forgetting')
SUMMARY_KEYS = {
  *SCORES, 'seed', 'harm_of_sleep', 'cost_to_new', 'damage_awake', 'seconds',
  'cpu_seconds', 'tokens_read', 'tokens_generated', 'added_parameters',
  'stored_bytes', 'flops',
}  # fmt: skip
Progress = progress_lib.Progress


def config(
  *periods: tuple[Any, Any], prompts: Sequence[str] = ('day',)
) -> ml_collections.ConfigDict:
  """Returns the base config with the facts dataset, made small by `shrink`.

  Args:
    *periods, prompts: see `shrink`.
  """
  c = shrink(base.get_config(), *periods, prompts=prompts)
  c.name = 'tiny'
  c.data.settings = dict(
    num_pretrain=8, num_days=2, people_per_day=2, attributes=2, values=4
  )
  return c


def shrink(
  c: ml_collections.ConfigDict,
  *periods: tuple[Any, Any],
  prompts: Sequence[str] = ('day',),
) -> ml_collections.ConfigDict:
  """Returns the config `c` with small sizes everywhere.

  Args:
    c: changed in place.
    *periods: (update, sleep) periods of all levels but the slowest.
    prompts: of the teachers that stay. With both, 'old' and 'day', a night
      takes twice as long to compile.
  """
  c.strategies = ('sleep',)
  c.data.update(context=14, max_prompt=12, prefix=8, batch_size=8)
  c.tokenizer.vocab_size = 512
  c.model.update(
    width=16, num_layers=1, num_heads=4, num_kv_heads=2, head_size=4, unroll=1
  )
  c.levels = testing.levels(*(periods or [(1, 'experience')]))
  c.pretrain.steps = 3
  c.pretrain.optimizer.update(learning_rate=1e-2, warmup=1, decay_steps=3)
  c.wake.steps = 4
  num_awake = sum(x['update_period'] != 'infinite' for x in c.levels)
  c.wake.optimizers = (dict(learning_rate=1e-2),) * num_awake
  c.tune.update(learning_rates=(1e-2,), experiences=1)
  c.replay.update(pretrain=16, past=16, day=16)
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=8, draws=8)
    for teacher in c.consolidate.teachers
    if teacher['prompts'] in prompts
  )
  c.consolidate.update(
    num_updates=4, updates_per_round=2, max_length=14, max_new=8,
    prompt_width=12,
  )  # fmt: skip
  c.expert_optimizer = dict(learning_rate=1e-2)
  c.dream.update(
    candidates=8, texts=2, top=2, random=2, old=8, sequences=8, num_updates=4,
    updates_per_round=2, learning_rate=1e-2,
  )  # fmt: skip
  c.dream.writer.update(steps=2, batch=4)
  c.anchor_kl.update(texts=16, sequences=8)
  c.refresh.steps = 2
  c.sdft.sequences = c.opsd.sequences = 8
  c.grpo.update(prompts=4, group=2)
  c.cartridge.update(tokens=4, tasks=4, sequences=8)
  c.evaluate.update(chunk=32, held_out_batches=1)
  c.evaluate_samples = 1
  c.checkpoint.every_seconds = NEVER
  return c


@pytest.fixture
def one_device(monkeypatch):
  """Runs studies on one device, and shares compiled programs between them.

  Programs for eight devices take longer to compile. Two runs share programs if
  everything that these depend on is equal; so do evaluators.
  """
  place = testing.placement(data=1, fsdp=1, tensor=1)
  make = lambda data=-1, fsdp=1, sequence=1, tensor=1: place
  monkeypatch.setattr(sharding, 'make', make)
  build = run_factory.RunFactory.programs
  evaluator = evaluator_lib.Evaluator.__init__
  held_out = evaluator_lib.HeldOutEvaluator.__init__

  def shared_programs(self, strategy, inputs, rate=None):
    plain = compatibility.kept(
      self._plain, pretraining=False, section=strategy.name
    )
    for section, name in (
      ('pretrain', 'base_model'),
      ('pretrain', 'restore'),
      ('data', 'path'),
      ('data', 'settings'),
      ('data', 'order'),
      ('wake', 'steps'),
      ('wake', 'epochs'),
    ):
      plain[section] = plain[section] | {name: ''}
    for name in _NOT_OF_PROGRAMS:
      plain.pop(name, None)
    # Pretraining strategies have one name and different numbers of steps.
    pretrains = strategy.name == run_factory.PRETRAIN
    steps = len(strategy.plan()) if pretrains else 0
    stream = inputs.stream
    arrays = (
      stream.templates,
      stream.dream_templates,
      [*stream.tasks.values()][:1],
    )
    key = (
      strategy.name, steps, rate, inputs.model, stream.tokenizer.fingerprint,
      json.dumps(plain), jax.tree.structure(arrays),
      *(np.asarray(x).tobytes() for x in jax.tree.leaves(arrays)),
    )  # fmt: skip
    if key not in _COMPILED:
      _COMPILED[key] = _with_shapes_once(build(self, strategy, inputs, rate))
    return _COMPILED[key]

  @functools.wraps(evaluator)  # Its signature has the keys of a config.
  def shared_evaluator(self, model, stream, initial_model, **settings):
    evaluator(self, model, stream, initial_model, **settings)
    share_compiled(self, model, stream)

  def shared_held_out(self, model, *args):
    held_out(self, model, *args)
    self._loss = _LOSSES.setdefault(model, self._loss)

  monkeypatch.setattr(run_factory.RunFactory, 'programs', shared_programs)
  monkeypatch.setattr(evaluator_lib.Evaluator, '__init__', shared_evaluator)
  monkeypatch.setattr(
    evaluator_lib.HeldOutEvaluator, '__init__', shared_held_out
  )


def share_compiled(
  evaluator: evaluator_lib.Evaluator,
  model: transformer.Transformer,
  stream: stream_lib.Stream,
) -> None:
  """Lets an evaluator use the compiled functions of an equal earlier one.

  They depend on the model, on how answers are scored, and on the candidates.

  Args:
    evaluator: changed in place.
    model, stream: that it was made with.
  """
  known = next(iter(stream.probes.values()), None)
  candidates = [] if known is None else [
    np.asarray(x) for x in (known.candidates_SCA, known.candidate_length_SC)
  ]  # fmt: skip
  key = (
    model, stream.tokenizer.eos, stream.dataset.score,
    *((x.shape, x.tobytes()) for x in candidates),
  )  # fmt: skip
  first = _EVALUATORS.setdefault(key, evaluator)
  for name in ('_text_losses', '_activity'):
    setattr(evaluator, name, getattr(first, name))
  for name in (
    '_score', '_score_templates', '_score_open', '_score_nats', '_score_other',
    '_score_guard',
  ):  # fmt: skip
    getattr(evaluator, name)._score_fn = getattr(first, name)._score_fn


def _with_shapes_once(programs: programs_lib.Programs) -> programs_lib.Programs:
  """Returns programs that compute the shapes of each kind of state only once.

  Every start of a run asks for them, and a night's need a trace of its program.
  """
  abstract, found = programs.abstract, {}

  def abstract_once(initial_model, **kind):
    given = initial_model and (initial_model.weights, initial_model.replay)
    leaves, structure = jax.tree.flatten(given)
    key = (
      *kind.items(), structure, *((x.shape, str(x.dtype)) for x in leaves)
    )  # fmt: skip
    if key not in found:
      found[key] = abstract(initial_model, **kind)
    return found[key]

  programs.abstract = abstract_once
  return programs


# Sections of a config that programs do not depend on.
_NOT_OF_PROGRAMS = (
  'name', 'tune', 'guard', 'evaluate', 'evaluate_samples', 'ability'
)  # fmt: skip
# Of equal evaluators the first, and of equal models the held-out loss.
_EVALUATORS: dict[tuple, evaluator_lib.Evaluator] = {}
_LOSSES: dict[transformer.Transformer, Callable] = {}
_COMPILED: dict[tuple, programs_lib.Programs] = {}
# Of `TinyStudy`: initial models with their evaluators, and programs, by all
# that they depend on. Test files of one process share them.
_PRETRAINED: dict[
  str, tuple[state_lib.InitialModel, evaluator_lib.Evaluator]
] = {}
_PROGRAMS: dict[str, programs_lib.Programs] = {}
_OF_PRETRAINING = (
  'data', 'tokenizer', 'model', 'levels', 'pretrain', 'replay', 'evaluate',
  'wake',
)  # fmt: skip


@functools.cache
def finished_study(base: pathlib.Path, *names: str) -> pathlib.Path:
  """Returns the work directory of a finished study, run once per session.

  Tests must not change it.

  Args:
    base: temporary folder of the session.
    *names: of strategies; without names, all that the dataset allows.
  """
  folder = base / '_'.join(['finished', *names])
  c = config()
  # Self-edits need tasks and classifiers labels, which this dataset lacks, and
  # no answers are stored.
  lacking = {'seal', 'klda', 'inca', 'sleep_rows'}
  c.strategies = names or tuple(n for n in registry.names() if n not in lacking)
  study.Study(c, str(folder)).run()
  return folder


class RecordingProgress(Progress):
  """Records all messages and prints nothing."""

  def __init__(self):
    super().__init__()
    self.messages: list[str] = []
    self.is_terminal = False

  def say(self, text: str) -> None:
    self.messages.append(text)


class TinyStudy:
  """One dataset, model and mesh, for any number of runs."""

  def __init__(
    self, config: ml_collections.ConfigDict, mesh: tuple[int, ...] = (1, 1, 1)
  ):
    self.config = config
    data, fsdp, tensor = mesh
    self.place = testing.placement(data=data, fsdp=fsdp, tensor=tensor)
    dataset = facts.make(seed=0, **config.data.settings)
    tokenizer = tokenizer_lib.make(
      texts=[row.text for row in dataset.pretrain], **config.tokenizer
    )
    given = config.data.to_dict()
    for name in inputs.NOT_OF_STREAM:
      del given[name]
    self.stream = stream_lib.build(dataset, tokenizer, seed=0, **given)
    levels = config.to_dict()['levels']
    self.levels = tuple(map(config_lib.make_level, levels))
    self.model = transformer.Transformer(
      config_lib.make(config.model, levels, vocab_size=tokenizer.vocab_size)
    )
    self.initial_model: state_lib.InitialModel | None = None
    self.evaluator: evaluator_lib.Evaluator | None = None
    self._mesh = mesh

  def make_initial_model(self, folder: pathlib.Path) -> 'TinyStudy':
    """Pretrains the initial model that later runs start from, if needed.

    Args:
      folder: of checkpoints and metrics; written by the first of equal studies.

    Returns:
      This object.
    """
    plain = self.config.to_dict()
    key = self._key({name: plain[name] for name in _OF_PRETRAINING})
    if key not in _PRETRAINED:
      state, _ = self.run('pretrain', folder)
      evaluator = evaluator_lib.Evaluator(
        self.model, self.stream, state.weights, **self.config.evaluate
      )
      share_compiled(evaluator, self.model, self.stream)
      _PRETRAINED[key] = (
        state_lib.InitialModel(state.weights, state.replay), evaluator
      )  # fmt: skip
    self.initial_model, self.evaluator = _PRETRAINED[key]
    return self

  def programs(self, name: str) -> programs_lib.Programs:
    """Returns the programs of a strategy; equal studies share them."""
    others = {*registry.names(), 'name', 'strategies', 'seeds'} - {name}
    plain = self.config.to_dict()
    key = self._key({k: x for k, x in plain.items() if k not in others}, name)
    if key not in _PROGRAMS:
      _PROGRAMS[key] = _with_shapes_once(self._programs(name))
    return _PROGRAMS[key]

  def _key(self, *parts: Any) -> str:
    return json.dumps([self._mesh, *parts], sort_keys=True, default=str)

  def run(
    self,
    name: str,
    folder: pathlib.Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    evaluator: Any = None,
    save_seconds: float = NEVER,
    tolerance: float | None = None,
    progress: Progress | None = None,
    dreams: str = events.AFTER,
    until: int | None = None,
  ) -> tuple[state_lib.State, dict[str, Any]]:
    """Runs a strategy from the latest checkpoint of a folder.

    Args:
      name: 'pretrain', or a strategy.
      folder: of checkpoints and metrics.
      stop: returns whether the run is asked to stop.
      evaluator: replaces the evaluator of the study.
      save_seconds: seconds between two checkpoints inside a cycle.
      tolerance: of the guard; None switches the guard off.
      progress: shows messages; None discards them.
      dreams: when to dream, if the config has dreams on.
      until: number of the event to stop before; None runs all.

    Returns:
      The state and the record of the run.

    Raises:
      context.Interrupted: `stop` returned True; the state is saved.
    """
    c, program = self.config, self.programs(name)
    evaluator = program.strategy.evaluator(
      c, evaluator or self.evaluator, self.stream
    )
    steps = events.steps_per_experience(self.levels, c.wake.steps)
    updates = {
      sender: program.settings(sender).num_updates for sender in program.senders
    }
    plan = program.strategy.plan(
      self.levels, len(self.stream.experiences), steps, updates,
      dreams if c.dream.on else '',
    )  # fmt: skip
    saved = checkpoints.Checkpoints(
      str(folder / 'checkpoints'), config={'name': name}, keep=99
    )
    with metric_writer.MetricWriter(folder) as writer:
      run = loop.Run(
        context.RunContext(
          program, self.stream, self.initial_model, evaluator,
          context.Tools(progress or RecordingProgress(), writer, saved, stop),
          plan=tuple(plan), day_steps=[steps] * len(self.stream.experiences),
          advice=divergence.advice(
            json.loads(c.to_json_best_effort()), program.strategy
          ),
          key=jax.random.key(0), guard_tolerance=tolerance,
          save_seconds=save_seconds, num_samples=1,
        )
      )  # fmt: skip
      try:
        return run.run(until)
      finally:
        saved.close()

  def run_in_pieces(
    self, name: str, folder: pathlib.Path, *, every: int
  ) -> tuple[state_lib.State, dict[str, Any]]:
    """Runs a strategy that is interrupted, and continued, until it ends.

    It is saved where it is interrupted.

    Args:
      name, folder: see `run`.
      every: the run is stopped at each so many checks of `stop`.
    """
    calls = itertools.count(1)
    while True:
      try:
        return self.run(name, folder, stop=lambda: not next(calls) % every)
      except context.Interrupted:
        continue

  def _programs(self, name: str) -> programs_lib.Programs:
    strategies = [pretrain.make(self.config.pretrain.steps)]
    for registered in registry.names():
      awake = config_lib.num_awake(self.levels)
      strategies += registry.make(registered, num_levels=awake + 1)
    (strategy,) = [s for s in strategies if s.name == name]
    tokenizer = self.stream.tokenizer
    return programs_lib.Programs(
      self.config,
      self.model,
      strategy,
      self.place,
      templates=self.stream.templates,
      bos=tokenizer.bos,
      eos=tokenizer.eos,
      judge=judges.match(tokenizer),
      dream_templates=self.stream.dream_templates,
      task=next(iter(self.stream.tasks.values()), None),
    )


def without_times(value: Any) -> Any:
  """Returns a record without its measured times."""
  if isinstance(value, dict):
    return {
      k: without_times(v)
      for k, v in value.items()
      if k not in ('seconds', 'cpu_seconds')
    }
  if isinstance(value, (list, tuple)):
    return [without_times(item) for item in value]
  return value


def metric_rows(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of a run's metrics.jsonl, without measured times."""
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [without_times(json.loads(line)) for line in lines]
