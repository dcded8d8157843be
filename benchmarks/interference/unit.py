"""One unit of the study: the pairs of one strategy and seed.

A unit is a run of a study that keeps the weights after each day. A unit that
was interrupted continues from its checkpoints, and one with a file of results
is not run again.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from benchmarks.interference import bank_updates, pairs
from sleep_jax import errors, types
from sleep_jax.data import batches
from sleep_jax.model import lora
from sleep_jax.objectives import losses
from sleep_jax.runs import compatibility, inputs, run_factory, study
from sleep_jax.storage import checkpoint_reading, provenance, workdir

_KEEP, _BYTES = 10**6, 2**50  # All cycles are kept.


def run(
  config: ml_collections.ConfigDict,
  strategy: str,
  seed: int,
  *,
  folder: pathlib.Path,
  out: pathlib.Path,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Runs a unit, or what is left of it, and writes its results.

  Args:
    config: of a study with a model that is pretrained here. Its strategies and
      seeds are replaced, and it keeps all checkpoints.
    strategy, seed: of the unit.
    folder: work directory of all units.
    out: folder of the files of results.
    say: shows one line.

  Returns:
    'strategy', 'seed', 'revision', 'config' (what the numbers depend on),
    'learning_rate' (None unless it was tuned), 'accuracy' (mean over all days
    after the last one), 'days' (their names, in order), and 'pairs', see
    `pairs.compare`.

  Raises:
    WorkdirError: the file of results, or the work directory, is of another
      config.
    ConfigError: the updates of this config are not defined.
    UsageError: the run does not have one cycle per day.
  """
  config = ml_collections.ConfigDict(config.to_dict())
  config.strategies, config.seeds = (strategy,), (seed,)
  config.checkpoint.update(keep=_KEEP, disk_budget_bytes=_BYTES)
  plain = json.loads(config.to_json_best_effort())
  if plain['pretrain']['base_model']:
    raise errors.ConfigError(
      f'config.pretrain.base_model is {plain["pretrain"]["base_model"]!r}: '
      'this study needs a model that is pretrained here. Leave it empty.'
    )
  needed = compatibility.kept(plain, pretraining=False, section=strategy)
  file = out / f'{strategy}_{seed}.json'
  if file.exists():
    say(f'{strategy}, seed {seed}: done, see {file}')
    return _read(file, needed)
  say(f'{strategy}, seed {seed}: running in {folder}')
  (record,) = study.Study(config, str(folder)).run(show_schedule=False)
  days, found_pairs = _pairs(config, strategy, seed, workdir.path(folder))
  found = {
    'strategy': strategy, 'seed': seed, 'revision': provenance.revision(),
    'config': needed,
    'learning_rate': record['summary'].get('learning_rate'),
    'accuracy': record['summary'].get('acc'),
    'days': days, 'pairs': found_pairs,
  }  # fmt: skip
  workdir.write_json(file, found)
  say(f'{strategy}, seed {seed}: {len(found["pairs"])} pairs, see {file}')
  return found


def _read(file: pathlib.Path, needed: dict[str, Any]) -> dict[str, Any]:
  """Returns the results of a file, if they are of this config."""
  try:
    found = json.loads(file.read_text())
    old = workdir.without_removed(found['config'])
  except (ValueError, KeyError, TypeError) as error:
    raise errors.WorkdirError(
      f'{file} is damaged ({type(error).__name__}: {error}): delete it to '
      'compute it again.'
    ) from error
  if changed := list(workdir.differences(old, needed)):
    more = f'\n  and {len(changed) - 5} more' if len(changed) > 5 else ''
    raise errors.WorkdirError(
      f'{file} has results of another config:\n  '
      + '\n  '.join(changed[:5])
      + f'{more}\nExpected results of this config: choose another --out and '
      '--workdir, or run with the config of the results.'
    )
  return found


def _pairs(
  config, strategy, seed, folder
) -> tuple[list[str], list[dict[str, Any]]]:
  """Returns the names of the days and the pairs of a finished run."""
  dataset = inputs.read_dataset(config, folder, seed)
  made = inputs.make(config, folder, seed, dataset)
  first = inputs.initial_model_folder(config, folder, seed)
  home = folder / f'seed_{seed}' / strategy
  num_days = len(made.stream.experiences)
  cycles = checkpoint_reading.cycles(str(home / 'checkpoints'))
  if cycles != list(range(1, num_days + 1)):
    raise errors.UsageError(
      f'{home} has checkpoints of the cycles {cycles}: expected one for each '
      f'day, 1 to {num_days}. If checkpoints were deleted, choose another '
      '--workdir; a level that sleeps within a day is not supported.'
    )
  weights = [_weights(first / run_factory.PRETRAIN, 0)]
  weights += [_weights(home, cycle) for cycle in cycles]
  c = made.model.config
  bank_updates.check(c, weights)
  active_NE = bank_updates.all_active(c, weights[0].active_NE)

  def loss(params, rows):
    tokens_BT, segments_BT, positions_BT, loss_BT = rows
    logits_BTV = made.model.forward(
      types.Weights(params, active_NE), tokens_BT, segments_BT, positions_BT
    )
    return losses.next_token_loss(logits_BTV, tokens_BT, loss_BT)

  found = pairs.compare(
    [
      bank_updates.aligned(c, before, after)
      for before, after in zip(weights, weights[1:], strict=False)
    ],
    day_rows(made.stream.experiences),
    loss,
  )
  return [name for name, _ in dataset.experiences], found


def _weights(home, cycle: int) -> types.Weights:
  """Returns the weights at the end of a cycle, without an adapter."""
  saved = checkpoint_reading.cycle_weights(str(home / 'checkpoints'), cycle)
  return lora.merged(types.Weights(**saved))


def day_rows(
  sources: Sequence[batches.Source],
) -> list[tuple[types.Array, ...]]:
  """Returns all rows of each day, in arrays of one shape.

  Args:
    sources: of the days.

  Returns:
    For each day tokens, segments, positions and targets, [B, T]. Targets are
    what follows a stored prompt: the response, or the answer of a statement.
    Questions are random, and that they are unlikely is no damage. Each row of
    the day has its targets once; rows that fill the shape have none.
  """
  num = max(source.num_batches for source in sources)
  found = []
  for source in sources:
    read = [source.batch(index) for index in range(num)]
    tokens_BT, segments_BT, positions_BT, loss_BT = (
      np.concatenate([getattr(batch, name) for batch in read])
      for name in ('tokens_BT', 'segments_BT', 'positions_BT', 'loss_BT')
    )
    lengths_BS = np.concatenate(
      [
        batch.prompts.length_B.reshape(len(batch.tokens_BT), -1)
        for batch in read
      ]
    )
    prompt_BT = np.take_along_axis(
      lengths_BS, np.maximum(segments_BT - 1, 0), 1
    )
    loss_BT[positions_BT < prompt_BT] = 0
    # The first pass over the rows; what follows repeats them.
    loss_BT[source.num_rows :] = 0
    rows = tokens_BT, segments_BT, positions_BT, loss_BT
    found.append(jax.tree.map(jnp.asarray, rows))
  return found
