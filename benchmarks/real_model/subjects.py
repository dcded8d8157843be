"""What learns in a unit: a learner that sleeps, or a baseline that does not.

Both learn day by day, keep everything in a folder, and continue there after a
kill.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import ml_collections

import sleep_jax
from benchmarks.real_model import recall
from sleep_jax import api, errors
from sleep_jax.runs import progress, study
from sleep_jax.storage import known_models
from sleep_jax.strategies import registry

SLEEP = 'sleep'


class Subject(Protocol):
  """What a unit teaches.

  Attributes:
    sleeps: whether a day is followed by a night.
  """

  sleeps: bool

  def open(self) -> api.Learner: ...

  def wake(self, number: int, rows: Sequence[recall.Row]) -> None: ...

  def sleep(self, number: int) -> list[dict[str, Any]]: ...


def check(strategy: str, num_levels: int) -> None:
  """Refuses a strategy that would be asked wrongly.

  Args:
    strategy: 'sleep', or a baseline of `config.strategies`.
    num_levels: of the model.

  Raises:
    ConfigError: it does not exist, or does not learn day by day.
  """
  if strategy == SLEEP:
    return
  made = registry.make(strategy, num_levels=num_levels)
  if len(made) > 1 or not made[0].reads_days:
    raise errors.ConfigError(
      f'--strategy={strategy}: expected one that learns each day from the rows '
      'of that day alone, or from rows that it stored, as sft, lora or er. '
      'icl and rag put rows into prompts, which this study does not, and joint '
      'begins again with all days.'
    )


def make(
  strategy: str,
  model: str,
  folder: pathlib.Path,
  config: ml_collections.ConfigDict,
  seed: int,
) -> Subject:
  """Returns what learns by a strategy.

  Args:
    strategy: 'sleep', or a baseline of `config.strategies`; see `check`.
    model: pretrained model, folder or name.
    folder: keeps what is learned; continued if it exists.
    config: of days and nights.
    seed: of the run.
  """
  if strategy == SLEEP:
    return Sleeper(model, folder, config, seed)
  return Baseline(strategy, model, folder, config, seed)


class Sleeper:
  """A learner of the Python API."""

  sleeps = True

  def __init__(self, model, folder, config, seed):
    self._learner = sleep_jax.load(
      model, str(folder), config=config, seed=seed, verbose=False
    )

  def open(self) -> api.Learner:
    """Returns the model as it is now."""
    return self._learner

  def wake(self, number: int, rows: Sequence[recall.Row]) -> None:
    """Learns a day awake, or what is left of it.

    Args:
      number: of the day, from 1.
      rows: of the day.
    """
    session = self._learner.session
    if len(session.days) < number:
      self._learner.wake(rows)
    else:  # The process was killed in this day.
      session.run(awake_only=True)

  def sleep(self, number: int) -> list[dict[str, Any]]:
    """Consolidates a day, or what is left to do; returns its nights.

    Args:
      number: of the day, from 1.
    """
    session = self._learner.session
    if session.needs_night():
      self._learner.sleep()
    nights = (session.progress() or {}).get('nights', ())
    return [night for night in nights if night['experience'] == number]


class Baseline:
  """A run of the study machinery that is given one more day at a time."""

  sleeps = False

  def __init__(self, strategy, model, folder, config, seed):
    self._strategy, self._seed = strategy, seed
    self._run, self._days = folder / 'run', folder / 'days'
    self._model = str(known_models.locate(model))
    self._config = config.copy_and_resolve_references()
    with self._config.unlocked():
      self._config.strategies, self._config.seeds = (strategy,), (seed,)
      self._config.pretrain.base_model = self._model
    self._programs: dict[Any, Any] = {}

  def open(self) -> api.Learner:
    """Returns the model as it is now."""
    if not self._run.exists():
      return sleep_jax.load(self._model, verbose=False)
    return sleep_jax.load(
      str(self._run), strategy=self._strategy, seed=self._seed, verbose=False
    )

  def wake(self, number: int, rows: Sequence[recall.Row]) -> None:
    """Learns a day, or what is left of it.

    Args:
      number: of the day, from 1.
      rows: of the day.
    """
    self._days.mkdir(parents=True, exist_ok=True)
    file = self._days / f'day_{number:04d}.jsonl'
    objects = [row if isinstance(row, dict) else {'text': row} for row in rows]
    file.write_text(''.join(json.dumps(row) + '\n' for row in objects))
    days = sorted(str(path) for path in self._days.glob('*.jsonl'))
    made = study.Study(
      self._config, str(self._run), days=days, progress=progress.silent(),
      programs=self._programs,
    )  # fmt: skip
    made.run(show_schedule=False)

  def sleep(self, number: int) -> list[dict[str, Any]]:
    """Returns no nights."""
    del number
    return []
