"""Gives a run that has begun more expert slots, in a new work directory.

The new directory has the runs of the old one at the same place of their
schedules: weights, optimizer states, stored prompts, random state, records of
nights and days. Only the banks are larger. A free slot adds exactly zero, so
the model answers as before, and a run that fills the slots of before learns
what it would have learned without the others. The old directory is not changed.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections

from sleep_jax import errors
from sleep_jax.config import checks
from sleep_jax.runs import (
  compatibility,
  grown_state,
  run_factory,
  study_days,
)
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import profiling, sharding
from sleep_jax.storage import lock, workdir


def parse_slots(words: Sequence[str]) -> dict[int, int]:
  """Returns level -> number of slots, of words such as '2:10'.

  Raises:
    UsageError: there is no word, or one is no such pair.
  """
  found = {}
  for word in words:
    pair = re.fullmatch(r'(\d+):(\d+)', word.strip())
    if not pair or int(pair[1]) in found:
      raise errors.UsageError(
        f'--slots={",".join(words)}: expected each level once with its number '
        'of slots, as in --slots=2:10,3:12 (levels count from 1).'
      )
    found[int(pair[1])] = int(pair[2])
  if not found:
    raise errors.UsageError(
      'grow needs --slots: levels, and how many slots they will have, as in '
      '--slots=2:10,3:12.'
    )
  return found


def with_slots(
  config: Mapping[str, Any], slots: Mapping[int, int]
) -> dict[str, Any]:
  """Returns a config with other numbers of slots.

  Args:
    config: of a work directory.
    slots: level -> its number of slots.

  Raises:
    UsageError: there is no such level, it has no bank, or it would not have
      more slots than now.
  """
  levels = [dict(level) for level in config['levels']]
  for number, wanted in slots.items():
    if not 1 <= number <= len(levels):
      raise errors.UsageError(
        f'--slots={number}:{wanted}: there is no level {number}; the levels '
        f'are 1 to {len(levels)}.'
      )
    now = levels[number - 1].get('slots', 0)
    if not now:
      raise errors.UsageError(
        f'--slots={number}:{wanted}: level {number} has no bank of experts.'
      )
    if wanted <= now:
      raise errors.UsageError(
        f'--slots={number}:{wanted}: level {number} has {now} slots, and a '
        'bank can only grow: name a larger number, or leave the level out.'
      )
    levels[number - 1]['slots'] = wanted
  return {**config, 'levels': levels}


def overrides(slots: Mapping[int, int]) -> str:
  """Returns the flags that give the config of a run the same slots."""
  return ' '.join(
    f'--config.levels[{number - 1}].slots={wanted}'
    for number, wanted in sorted(slots.items())
  )


def grow(source: str, target: str, slots: Mapping[int, int]) -> None:
  """Writes a work directory whose runs have more slots, whole or not at all.

  Args:
    source: work directory of `sleep-jax run`.
    target: new work directory.
    slots: see `with_slots`.

  Raises:
    UsageError: a folder is in a bucket, the initial model is in another
      directory, a run is in the middle of a night, or see `with_slots`.
    MissingFileError: there is no run in `source`.
    ExistsError: `target` is not empty.
    ConfigError: the new levels are not allowed, or cannot hold the schedule.
    InUseError: another process uses `source`.
  """
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
  new = with_slots(old, slots)
  checks.check(new)
  placement = sharding.make(**ml_collections.ConfigDict(old).mesh)
  with lock.hold(home), jax.set_mesh(placement.mesh):
    before, after = (_Runs(plain, home, placement) for plain in (old, new))
    for seed in old['seeds']:
      before.check_awake(seed)
      after.audit(seed)
    part = made_home.with_name(f'{made_home.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    ignored = shutil.ignore_patterns('checkpoints', lock.FILE)
    try:
      shutil.copytree(home, part, ignore=ignored)
      for seed in old['seeds']:
        for name in before.names(seed):
          after.save(part, seed, name, *before.restore(seed, name))
      _record(part, home, old, new)
      part.rename(made_home)
    finally:
      shutil.rmtree(part, ignore_errors=True)


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


class _Runs:
  """The runs of a work directory, as one config describes them."""

  def __init__(self, plain, home, placement):
    config = ml_collections.ConfigDict(plain)
    self._home = home
    self._factory = run_factory.RunFactory(
      config, plain, placement, progress=progress_lib.silent(),
      stop=lambda: False, profile=profiling.Profile('', 0), folder=home,
      own_folder=home,
    )  # fmt: skip
    # Days that were learned need not be there any more.
    days = study_days.StudyDays(
      config, home, self._factory, accept=True, restore_cycle=None
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
          'which is computed for the slots of now: continue the run until the '
          'night is over, then grow it.'
        )

  def audit(self, seed: int) -> None:
    self._factory.audit(self._made[seed])

  def restore(self, seed: int, name: str) -> tuple[str, int, Any, Any]:
    """Returns series, number, progress and state of the latest checkpoint."""
    with contextlib.closing(self._checkpoints(self._home, seed, name)) as saved:
      series, number, progress = saved.latest_progress()
      state = saved.restore(series, number, self._shapes(seed, name))
    return series, number, progress, state

  def save(self, home, seed, name, series, number, progress, state) -> None:
    """Writes a state with the slots of this config as a run's checkpoint."""
    state = grown_state.grow(state, self._shapes(seed, name))
    with contextlib.closing(self._checkpoints(home, seed, name)) as saved:
      if series == 'cycles':
        saved.save_cycle(number, state, progress)
      else:
        saved.save_moment(state, progress)

  def _checkpoints(self, home, seed, name):
    return self._factory.checkpoints(home / f'seed_{seed}' / name)

  def _shapes(self, seed, name):
    made, factory = self._made[seed], self._factory
    if name == run_factory.PRETRAIN:
      return factory.programs(factory.pretrain_strategy(0), made).abstract(None)
    (strategy,) = [s for s in factory.strategies() if s.name == name]
    initial_model = factory.initial_shapes(made)
    return factory.programs(strategy, made).abstract(initial_model)


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
  workdir.write_json(part / 'config.json', new)
