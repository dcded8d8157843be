"""Gives a run that has begun more capacity, in a new work directory.

The new directory has the runs of the old one at the same place of their
schedules: weights, optimizer states, stored prompts, random state, records of
nights and days. Only banks are larger, or a level is new. A free slot adds
exactly zero, so the model answers as before, and a run that fills the slots of
before learns what it would have learned without the others. The old directory
is not changed.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from sleep_jax import errors
from sleep_jax.config import checks
from sleep_jax.objectives import judges
from sleep_jax.runs import (
  compatibility,
  grown_levels,
  grown_state,
  run_factory,
  study_days,
  watching,
)
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import profiling, sharding
from sleep_jax.storage import lock, workdir

CONFIG_FILE = 'config.py'


def grow(
  source: str,
  target: str,
  slots: Mapping[int, int],
  level: tuple[int, int, int] | None = None,
) -> None:
  """Writes a work directory whose runs have more capacity, whole or not at all.

  Its `config.py` is the config with which the runs continue.

  Args:
    source: work directory of `sleep-jax run`.
    target: new work directory.
    slots: see `grown_levels.with_slots`.
    level: arguments of `grown_levels.with_level`; None adds no level.

  Raises:
    UsageError: nothing would grow, a folder is in a bucket, the initial model
      is in another directory, a run is in the middle of a night, or see
      `grown_levels`.
    MissingFileError: there is no run in `source`.
    ExistsError: `target` is not empty.
    ConfigError: the new levels are not allowed, or cannot hold the schedule.
    InUseError: another process uses `source`.
  """
  if not slots and level is None:
    raise errors.UsageError(
      'grow needs --slots, as in --slots=2:10,3:12 (levels count from 1), or '
      '--level=RANK,SLOTS,DAYS.'
    )
  home, made_home = _open_folders(source, target)
  old = workdir.read_config(home)
  if old is None or not any(home.glob('seed_*/*/checkpoints')):
    raise errors.MissingFileError(
      f'{home} is no work directory of a run that has begun: expected '
      'config.json and checkpoints in seed_*/STRATEGY.'
    )
  if old['pretrain']['restore']:
    raise errors.UsageError(
      f'{home} starts from the initial model in {old["pretrain"]["restore"]} '
      '(config.pretrain.restore), whose banks cannot grow with it: a run can '
      'grow if its initial model is its own or a pretrained checkpoint.'
    )
  new = grown_levels.with_slots(old, slots)
  if level is not None:
    new = grown_levels.with_level(new, *level)
  checks.check(new)
  old_slowest = len(old['levels']) if level is not None else 0
  placement = sharding.make(**ml_collections.ConfigDict(old).mesh)
  with lock.hold(home), jax.set_mesh(placement.mesh):
    before, after = (_Runs(plain, home, placement) for plain in (old, new))
    _check_all_named(home, {s: before.names(s) for s in old['seeds']})
    for seed in old['seeds']:
      before.check_awake(seed)
      after.check_schedule(seed, before)
    ignored = shutil.ignore_patterns('checkpoints', lock.FILE)
    with workdir.make_whole(made_home) as part:
      shutil.copytree(home, part, ignore=ignored, dirs_exist_ok=True)
      for seed in old['seeds']:
        for name in before.names(seed):
          series, number, progress, state = before.restore(seed, name)
          state = grown_state.grow(
            state, after.shapes(seed, name), old_slowest=old_slowest
          )
          after.save(part, seed, name, series, number, progress, state)
      _record(part, home, old, new)


def _open_folders(source, target):
  home, made_home = workdir.path(source), workdir.path(target)
  for folder in (home, made_home):
    if workdir.in_bucket(folder):
      raise errors.UsageError(
        f'{folder} is in a bucket: copy it to a disk first, and name folders '
        'on the disk.'
      )
  if made_home.exists() and (
    not made_home.is_dir() or any(made_home.iterdir())
  ):
    raise errors.ExistsError(f'{made_home} is not empty: name a new folder.')
  return home, made_home


def _check_all_named(home, names):
  """Refuses runs that the config does not name: they could not go on."""
  named = {
    f'seed_{seed}/{name}' for seed, found in names.items() for name in found
  }
  others = {
    str(path.parent.relative_to(home))
    for path in home.glob('seed_*/*/checkpoints')
  } - named
  if others:
    raise errors.UsageError(
      f'{home} also has {", ".join(sorted(others))}, which the seeds and '
      'strategies of its config.json do not name: run it once with them, or '
      'move these folders away.'
    )


class _Runs:
  """The runs of a work directory, as one config describes them."""

  def __init__(self, plain, home, placement):
    config = ml_collections.ConfigDict(plain)
    # Nothing is judged here, and the folder may be from somebody else.
    config.consolidate.imitation.judge = judges.MATCH
    self._home = home
    self._factory = run_factory.RunFactory(
      config, plain, placement, progress=progress_lib.silent(),
      stop=lambda: False, profile=profiling.Profile('', 0), folder=home,
      own_folder=home,
    )  # fmt: skip
    # Days that were learned need not be there any more.
    days = study_days.StudyDays(
      config,
      home,
      self._factory,
      accept=True,
      restore_cycle=None,
      days=watching.days(home),
    )
    self._made = {seed: days.open(seed)[0] for seed in plain['seeds']}

  def names(self, seed: int) -> list[str]:
    """Returns the names of the runs that have begun, pretraining included."""
    names = [strategy.name for strategy in self._factory.strategies()]
    if self._made[seed].base_model is None:
      names.insert(0, run_factory.PRETRAIN)
    begun = self._factory.progress_of
    return [name for name in names if begun(seed, name) is not None]

  def check_awake(self, seed: int) -> None:
    for name in self.names(seed):
      if self._factory.progress_of(seed, name).get('night'):
        raise errors.UsageError(
          f'{self._home / f"seed_{seed}" / name} is in the middle of a night, '
          'which has the present number of slots: continue the run until the '
          'night is over, then grow it.'
        )

  def check_schedule(self, seed: int, before: '_Runs') -> None:
    """Checks that the past is as it was, and that what comes fits."""
    self._factory.audit(self._made[seed])
    for name in before.names(seed):
      if name == run_factory.PRETRAIN:
        continue
      done = self._factory.progress_of(seed, name)['event']
      if self._plan(seed, name)[:done] != before._plan(seed, name)[:done]:
        raise errors.UsageError(
          f'--level: {name}, seed {seed}, has already learned more days than '
          'the given number, after which the level that is the slowest so far '
          'would sleep for the first time: name a larger number of days.'
        )

  def _plan(self, seed, name):
    return self._factory.plan(self._strategy(name), self._made[seed])

  def restore(self, seed: int, name: str) -> tuple[str, int, Any, Any]:
    """Returns series, number, progress and state of the latest checkpoint."""
    with contextlib.closing(self._checkpoints(self._home, seed, name)) as saved:
      series, number, progress = saved.latest_progress()
      state = saved.restore(series, number, self.shapes(seed, name))
    return series, number, progress, state

  def save(self, home, seed, name, series, number, progress, state) -> None:
    """Writes a state as a run's checkpoint."""
    with contextlib.closing(self._checkpoints(home, seed, name)) as saved:
      saved.keep_constant(state, self._programs(seed, name).is_constant)
      if series == 'cycles':
        saved.save_cycle(number, state, progress)
      else:
        saved.save_moment(state, progress)

  def _checkpoints(self, home, seed, name):
    return self._factory.checkpoints(home / f'seed_{seed}' / name)

  def shapes(self, seed: int, name: str) -> Any:
    """Returns shapes and shardings of a run's state, outside a night."""
    programs = self._programs(seed, name)
    if name == run_factory.PRETRAIN:
      return programs.abstract(None)
    return programs.abstract(self._factory.initial_shapes(self._made[seed]))

  def _programs(self, seed, name):
    return self._factory.programs(self._strategy(name), self._made[seed])

  def _strategy(self, name):
    if name == run_factory.PRETRAIN:
      return self._factory.pretrain_strategy(0)
    (strategy,) = [s for s in self._factory.strategies() if s.name == name]
    return strategy


def _record(part, home, old, new):
  """Writes the config, and in about.json where the runs come from."""
  changes = [
    *workdir.differences(old['levels'], new['levels'], 'config.levels')
  ]
  about = json.loads((home / 'about.json').read_text())
  about = compatibility.with_changes(
    home, about, [f'grown from {home}', *changes]
  )
  workdir.write_json(part / 'about.json', about)
  workdir.write_text(part / CONFIG_FILE, grown_levels.config_file(new))
  workdir.write_json(part / 'config.json', new)
