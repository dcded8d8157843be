"""Chooses the learning rate of a tuned strategy.

The rate is chosen once per study, with its first seed, on the first experiences
of a stream that no strategy is evaluated on.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import ml_collections

from sleep_jax import errors
from sleep_jax.evaluate import retention
from sleep_jax.runs import compatibility, inputs
from sleep_jax.runs import progress as progress_lib
from sleep_jax.storage import workdir
from sleep_jax.strategies import strategy as strategy_lib


class Factory(Protocol):
  """Opens runs, see `run_factory.RunFactory`."""

  open_run: Callable[..., contextlib.AbstractContextManager]


def choose_rate(
  config: ml_collections.ConfigDict,
  strategy: strategy_lib.Strategy,
  made: inputs.RunInputs,
  factory: Factory,
  *,
  folder: workdir.Folder,
  own_folder: workdir.Folder,
  progress: progress_lib.Progress,
) -> float:
  """Returns the rate with the best final accuracy on the validation stream.

  Args:
    config: of the study.
    strategy: that is tuned.
    made: inputs of the first seed, with its initial model.
    factory: opens runs.
    folder: work directory of the study.
    own_folder: where this process writes; the same in the first process.
    progress: says what was chosen.

  Raises:
    DivergedError: all rates diverge. A rate that does is never chosen.
    WorkdirError: a trial is of other settings of the strategy.
  """
  rates = [float(rate) for rate in config.tune.learning_rates]
  if len(rates) == 1:
    return rates[0]
  path = folder / 'tuning' / strategy.name / 'chosen.json'
  settings = config.to_dict().get(strategy.name)
  if path.exists():
    known = json.loads(path.read_text())
    if _is_current(known, rates, settings):
      return known['chosen']
  dataset = inputs.read_dataset(config, folder, made.seed, validation=True)
  trial = dataclasses.replace(
    inputs.make(config, folder, made.seed, dataset),
    initial_model=made.initial_model,
  )
  trial = inputs.with_evaluator(config, trial, 0)
  num = min(config.tune.experiences, len(trial.stream.experiences))
  accuracy: dict[float, float | None] = {}
  learned: dict[float, float] = {}
  diverged: dict[float, str] = {}
  for rate in rates:
    opened = factory.open_run(
      strategy, trial, path.parent / f'{compatibility.TRIAL}{rate:g}',
      rate=rate, num_experiences=num,
    )  # fmt: skip
    try:
      with opened as run:
        _, record = run.run()
      summary = retention.summarize(record['evaluations'])
      accuracy[rate], learned[rate] = summary['acc'], summary['la'] or 0.0
    except errors.DivergedError as error:
      diverged[rate] = str(error)
      progress.say(f'{strategy.name}: rate {rate:g} diverges: {error}')
  if not accuracy:
    raise errors.DivergedError(
      f'{strategy.name}: each of config.tune.learning_rates diverges on the '
      f'validation stream. The lowest, {min(rates):g}: {diverged[min(rates)]} '
      'Add lower rates.'
    )
  # Of equal final accuracies, the one that learned more of each day.
  chosen = max(accuracy, key=lambda rate: (accuracy[rate] or 0, learned[rate]))
  if len(accuracy) > 1 and len({*accuracy.values()}) == 1:
    progress.say(
      f'warning: {strategy.name}: all learning rates have the same final '
      f'accuracy, {accuracy[chosen]}: {chosen:g} is the first of those that '
      'learned most of each day.'
    )
  progress.say(
    f'{strategy.name}: learning rate {chosen:g}; final accuracy by rate: '
    f'{accuracy}'
  )
  workdir.write_json(
    own_folder / path.relative_to(folder),
    {
      'chosen': chosen, 'acc': accuracy, 'diverged': diverged,
      'settings': settings,
    },
  )  # fmt: skip
  return chosen


def _is_current(
  known: Mapping[str, Any], rates: Sequence[float], settings: Any
) -> bool:
  """Returns whether an earlier choice is among these rates and settings.

  Args:
    known: content of its file. Files of earlier versions have no settings.
    rates: that are compared now.
    settings: of the strategy, a section of the config that may change in a work
      directory; None: it has none.
  """
  tried = {float(rate) for rate in (*known['acc'], *known['diverged'])}
  plain = json.loads(json.dumps(settings))
  return tried == set(rates) and known.get('settings', plain) == plain
