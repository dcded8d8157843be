"""Loads a model from a work directory, a Hugging Face directory or a GGUF."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import (
  hf_checkpoint,
  hf_import,
  hf_tokenizer,
)
from sleep_jax.model import config as config_lib
from sleep_jax.model import lora, transformer
from sleep_jax.replay import buffer
from sleep_jax.runtime import sharding
from sleep_jax.storage import known_models, workdir

# The only level of a base model without experts. `hf_import.adapt_levels` sets
# its hidden size.
SINGLE_LEVEL = dict(
  hidden=0, update_period='infinite', sleep_period='infinite', slots=0, rank=0
)
# Folder of a work directory that describes the checkpoint it was imported from.
BASE_FOLDER = 'base_model'


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A model with its weights and its tokenizer.

  Attributes:
    model: the network.
    weights: its weights.
    tokenizer: its tokenizer.
    end_tokens: ids of the tokens that end a text.
    base_model: checkpoint the model was imported from, or None if it was
      pretrained here.
    expert_history: of a run, rows that say which night is stored in which
      expert.
    num_nights: of a run, the number of completed nights.
  """

  model: transformer.Transformer
  weights: types.Weights
  tokenizer: types.Tokenizer
  end_tokens: tuple[int, ...]
  base_model: hf_checkpoint.HfCheckpoint | None = None
  expert_history: Sequence[Mapping[str, Any]] = ()
  num_nights: int = 0


def open_model(
  folder: str, *, strategy: str = 'sleep', seed: int = 0, dtype: str = 'float32'
) -> LoadedModel:
  """Loads a model.

  Args:
    folder: a work directory, a Hugging Face model directory, a GGUF file, or
      the name of a known model.
    strategy: strategy of the run to load, in a work directory.
    seed: seed of the run to load, in a work directory. Its latest checkpoint is
      loaded.
    dtype: type of the parameters of a Hugging Face model.

  Raises:
    MissingFileError: there is no such model. The message lists the runs that
      exist.
    ModelFileError: the model cannot be read.
    WorkdirError: see `workdir.of_this_version`.
  """
  home = known_models.locate(folder)
  config = hf_checkpoint.read_config(home)
  if 'strategies' not in config:
    return _open_hf_checkpoint(hf_checkpoint.read(folder), dtype)
  config = workdir.of_this_version(home, config)
  return _open_run(home, config, strategy, seed)


def _open_hf_checkpoint(
  base_model: hf_checkpoint.HfCheckpoint, dtype: str
) -> LoadedModel:
  tokenizer = hf_tokenizer.load(base_model)
  model = build_model(
    base_model.settings, [SINGLE_LEVEL], tokenizer, base_model
  )
  weights = hf_import.load(
    base_model, model, sharding.make(), key=jax.random.key(0), dtype=dtype
  )
  return LoadedModel(
    model,
    weights,
    tokenizer,
    hf_tokenizer.end_tokens(base_model, tokenizer),
    base_model,
  )


def _run_folder(home, strategy: str, seed: int) -> workdir.Folder:
  """Returns the folder of a run, which is inside the work directory."""
  if strategy in ('', '.', '..') or '/' in strategy or '\\' in strategy:
    raise errors.UsageError(
      f'strategy={strategy!r}: expected the name of a strategy, as "sleep".'
    )
  return home / f'seed_{int(seed)}' / strategy


def existing_run(
  home: workdir.Folder, strategy: str, seed: int
) -> workdir.Folder:
  """Returns the folder of a run that has checkpoints.

  Args:
    home: work directory.
    strategy, seed: of the run.

  Raises:
    UsageError: `strategy` is no name.
    MissingFileError: the run has no checkpoint; lists those that have.
  """
  run = _run_folder(home, strategy, seed)
  if not (run / 'checkpoints').is_dir():
    existing = sorted(
      str(p.parent.relative_to(home)) for p in home.glob('seed_*/*/checkpoints')
    )
    raise errors.MissingFileError(
      f'{run} has no checkpoint. Runs with checkpoints: '
      f'{existing or "none"}. Set seed and strategy to one of them.'
    )
  return run


def _open_run(home, config, strategy, seed) -> LoadedModel:
  run = existing_run(home, strategy, seed)
  # orbax takes 25 MB, which a pretrained model does not need.
  from sleep_jax.storage import checkpoint_reading

  tokenizer = tokenizer_lib.load(str(home / f'seed_{seed}' / 'tokenizer'))
  base_model = base_checkpoint(config['pretrain'], home)
  model = build_model(config['model'], config['levels'], tokenizer, base_model)
  saved, progress = checkpoint_reading.latest_weights(str(run / 'checkpoints'))
  weights = lora.merged(types.Weights(**saved))
  end_tokens = (
    hf_tokenizer.end_tokens(base_model, tokenizer)
    if base_model
    else (tokenizer.eos,)
  )
  expert_history = progress.get('ledger', ())
  # The last recorded night may still be in progress.
  num_nights = len(progress.get('nights', ())) - bool(progress.get('night'))
  return LoadedModel(
    model,
    weights,
    tokenizer,
    end_tokens,
    base_model,
    expert_history,
    num_nights,
  )


def stored_prompts(
  loaded: LoadedModel, folder: str, *, strategy: str, seed: int
) -> list[list[int]]:
  """Returns the prompts of a run's replay buffers as token ids.

  The first one is BOS alone, which is the only one if nothing is stored.

  Args:
    loaded: the model that `open_model` returned for the same folder.
    folder: work directory.
    strategy: strategy of the run.
    seed: seed of the run.
  """
  from sleep_jax.storage import checkpoint_reading

  run = _run_folder(workdir.path(folder), strategy, seed)
  prompts = [[loaded.tokenizer.bos]]
  if (run / 'checkpoints').is_dir():
    groups = checkpoint_reading.latest_replay(str(run / 'checkpoints'))
    groups.pop(buffer.OWN_TEXTS, None)  # Whole texts, not prompts.
    for age_group in groups.values():
      lengths = np.asarray(age_group['length_C'])[: int(age_group['count'])]
      rows = zip(np.asarray(age_group['tokens_CP']), lengths, strict=False)
      prompts += [row[:length].tolist() for row, length in rows if length]
  return prompts


def base_checkpoint(
  pretrain: Mapping[str, Any], home: workdir.Folder | None = None
) -> hf_checkpoint.HfCheckpoint | None:
  """Returns the checkpoint that gives a run its architecture and tokenizer.

  Args:
    pretrain: the part `pretrain` of the run's config.
    home: the run's work directory, which may describe an imported checkpoint.

  Returns:
    The checkpoint, or None if the model is pretrained here.

  Raises:
    MissingFileError, ModelFileError: see `hf_checkpoint.read`.
  """
  for folder in (home, pretrain.get('restore')):
    described = folder and workdir.path(folder) / BASE_FOLDER
    if described and described.is_dir():
      return hf_checkpoint.read(str(described), weights=False)
  return (
    hf_checkpoint.read(pretrain['base_model'])
    if pretrain.get('base_model')
    else None
  )


def build_model(
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
  tokenizer: types.Tokenizer,
  base_model: hf_checkpoint.HfCheckpoint | None,
) -> transformer.Transformer:
  """Builds the network that a config describes.

  Args:
    settings: see `model.config.make`.
    levels: see `model.config.make`.
    tokenizer: gives the vocabulary size.
    base_model: checkpoint whose settings override `settings`, or None.
  """
  fields = dict(settings)
  if base_model is not None:
    fields |= base_model.settings
    levels = hf_import.adapt_levels(base_model, fields, levels)
  config = config_lib.make(fields, levels, vocab_size=tokenizer.vocab_size)
  return transformer.Transformer(config)
