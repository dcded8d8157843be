"""A model to use: of a run, or of a Hugging Face directory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_checkpoint, hf_import
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.runtime import sharding
from sleep_jax.storage import checkpoint_reading, workdir

# Of a host that has not lived yet: its own MLPs, and nothing beside them.
SINGLE_LEVEL = dict(
  hidden=0, update_period='infinite', sleep_period='infinite', slots=0, rank=0
)
BASE_FOLDER = (
  'base_model'  # Where a work directory describes what it has adopted.
)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A model with its weights and its words.

  Attributes:
    ends: tokens that end a text.
    host: the checkpoint of others that it was born of; None: born here.
    ledger: which night lives where, of a run.
    nights: that are over, likewise.
  """

  model: transformer.Transformer
  weights: types.Weights
  tokenizer: tokenizer_lib.Tokenizer
  end_tokens: tuple[int, ...]
  base_model: hf_checkpoint.HfCheckpoint | None = None
  expert_history: Sequence[Mapping[str, Any]] = ()
  num_nights: int = 0


def open_model(
  folder: str, *, strategy: str = 'sleep', seed: int = 0, dtype: str = 'float32'
) -> LoadedModel:
  """Opens a model.

  Args:
    folder: a work directory, or a Hugging Face model directory.
    strategy, seed: whose life, of a work directory; as far as it came.
    dtype: of a Hugging Face model's parameters.

  Raises:
    FileNotFoundError: there is no such model; says what there is.
    ValueError: what there is cannot be read.
  """
  home = workdir.path(folder)
  config = hf_checkpoint.read_config(home)
  if 'strategies' not in config:
    return _of_base_model(hf_checkpoint.read(folder), dtype)
  return _of_run(home, config, strategy, seed)


def _of_base_model(
  base_model: hf_checkpoint.HfCheckpoint, dtype: str
) -> LoadedModel:
  tokenizer = hf_checkpoint.load_tokenizer(base_model)
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
    hf_checkpoint.end_tokens(base_model, tokenizer),
    base_model,
  )


def _of_run(home, config, strategy, seed) -> LoadedModel:
  life = home / f'seed_{seed}' / strategy
  if not (life / 'checkpoints').is_dir():
    there = sorted(
      str(p.parent.relative_to(home)) for p in home.glob('seed_*/*/checkpoints')
    )
    raise FileNotFoundError(
      f'{life} holds no checkpoint: there are {there or "none"} (seed and '
      'strategy).'
    )
  tokenizer = tokenizer_lib.load(str(home / f'seed_{seed}' / 'tokenizer'))
  base_model = base_checkpoint(config['pretrain'], home)
  model = build_model(config['model'], config['levels'], tokenizer, base_model)
  saved, progress = checkpoint_reading.latest_weights(str(life / 'checkpoints'))
  weights = types.Weights(**saved)
  ends = (
    hf_checkpoint.end_tokens(base_model, tokenizer)
    if base_model
    else (tokenizer.eos,)
  )
  ledger = progress.get('ledger', ())
  # The last one of those recorded may be under way.
  nights = len(progress.get('nights', ())) - bool(progress.get('night'))
  return LoadedModel(
    model, weights, tokenizer, ends, base_model, ledger, nights
  )


def stored_prompts(
  opened: LoadedModel, folder: str, *, strategy: str, seed: int
) -> list[list[int]]:
  """Beginnings that a life has met and keeps, in tokens; its BOS, if none.

  Args:
    opened: what `open_model` gave of the same folder.
  """
  life = workdir.path(folder) / f'seed_{seed}' / strategy
  found = [[opened.tokenizer.bos]]
  if (life / 'checkpoints').is_dir():
    for age_group in checkpoint_reading.latest_replay(
      str(life / 'checkpoints')
    ).values():
      lengths = np.asarray(age_group['length_C'])[: int(age_group['count'])]
      rows = zip(np.asarray(age_group['tokens_CP']), lengths, strict=False)
      found += [row[:length].tolist() for row, length in rows if length]
  return found


def base_checkpoint(
  pretrain: Mapping[str, Any], home: workdir.Folder | None = None
) -> hf_checkpoint.HfCheckpoint | None:
  """Whose shape and words a life has; None: its own.

  Args:
    birth: that part of its config.
    home: its work directory, which may hold what has been adopted.

  Raises:
    FileNotFoundError, ValueError: see `huggingface.read`.
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
  tokenizer: tokenizer_lib.Tokenizer,
  base_model: hf_checkpoint.HfCheckpoint | None,
) -> transformer.Transformer:
  """The network that a config describes.

  Args:
    settings, levels: see `model.config.make`.
    host: whose shape it has, if it is born of one.
  """
  shape = dict(settings)
  if base_model is not None:
    shape |= base_model.settings
    levels = hf_import.adapt_levels(base_model, shape, levels)
  made = config_lib.make(shape, levels, vocab_size=tokenizer.vocab_size)
  return transformer.Transformer(made)
