"""Exports a model as an ordinary dense Hugging Face checkpoint.

Levels and experts become hidden units of the MLP of each block (`dense_mlp`),
so the export is exact and any program that reads the format can load it without
our code. Models for which this is impossible are refused with all reasons.

References: docs/method.md, "Real models".
"""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import (
  dense_mlp,
  hf_checkpoint,
  hf_config,
  weight_files,
)

# Files of the base model that are copied unchanged.
COPIED_FILES = (
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
)
_SHARD_BYTES = 4 * 2**30


def save(
  model: types.Model,
  weights: types.Weights,
  folder: str,
  *,
  tokenizer: types.Tokenizer | None = None,
  base_model: hf_checkpoint.HfCheckpoint | None = None,
  dtype: str = 'float32',
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes a Hugging Face checkpoint, atomically.

  Args:
    model: the model to export.
    weights: its weights.
    folder: directory to create; must not exist, or be empty.
    tokenizer: the model's tokenizer, written if there is no base model.
    base_model: checkpoint the model was imported from, whose config.json and
      tokenizer are kept; None if the model was pretrained here.
    dtype: type of all tensors.
    shard_bytes: maximum size of one file, in bytes. A larger tensor gets a file
      of its own.

  Raises:
    UsageError: no exact dense export exists. The message has all reasons.
    ExistsError: the folder is not empty.
  """
  reasons = dense_mlp.reasons_not_dense(model, weights, base_model)
  if reasons:
    hint = (
      ' A dense model can be trained to approximate it: '
      'sleep-jax convert out --distil.'
    )
    # Distillation needs active experts and a supported architecture.
    has_experts = np.asarray(weights.active_NE).any()
    no_distillation = not has_experts or (
      base_model is None and dense_mlp.unsupported_fields(model.config)
    )
    raise errors.UsageError(
      f'No exact dense export: {"; ".join(reasons)}.'
      f'{"" if no_distillation else hint}'
    )
  home = pathlib.Path(folder).expanduser()
  if home.exists() and any(home.iterdir()):
    raise errors.ExistsError(f'{home} is not empty: choose a new folder.')
  part = home.with_name(home.name + '.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  config = dict(
    base_model.config
    if base_model
    else dense_mlp.native_hf_config(model.config)
  )
  config['intermediate_size'] = dense_mlp.num_hidden_units(model, weights)
  config['architectures'] = config.get('architectures') or [
    hf_config.ARCHITECTURES[config['model_type']]
  ]
  for field in ('dtype', 'torch_dtype'):
    if field in config or field == 'dtype':
      config[field] = dtype
  _write_json(part / 'config.json', config)
  _write_shards(
    dense_mlp.named_tensors(model, weights, np.dtype(dtype)), part, shard_bytes
  )
  if base_model is not None:
    for name in COPIED_FILES:
      if (base_model.folder / name).is_file():
        shutil.copyfile(base_model.folder / name, part / name)
  elif tokenizer is not None:
    _write_tokenizer(tokenizer, part)
  if home.exists():
    home.rmdir()
  part.rename(home)


def _write_tokenizer(tokenizer: types.Tokenizer, folder: pathlib.Path) -> None:
  """Writes a tokenizer that was trained here; BOS starts every text."""
  if not isinstance(tokenizer, tokenizer_lib.Bpe):
    return  # The byte tokenizer has no Hugging Face format.
  fast_tokenizer = tokenizer.to_hugging_face()
  fast_tokenizer.save(str(folder / 'tokenizer.json'))
  _write_json(
    folder / 'tokenizer_config.json',
    {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'bos_token': tokenizer_lib.BOS,
      'eos_token': tokenizer_lib.EOS,
    },
  )


def _write_shards(named_tensors, folder, shard_bytes) -> None:
  """Writes files of at most `shard_bytes`, and an index if there are several.

  Files get their final names at the end, when their number is known.
  """
  shards: list[dict[str, str]] = []
  pending: dict[str, np.ndarray] = {}
  total = 0

  def flush():
    path = folder / f'part-{len(shards)}'
    safetensors.save_file(pending, path, metadata={'format': 'pt'})
    shards.append(dict.fromkeys(pending, ''))
    pending.clear()

  for name, value in named_tensors:
    if pending and sum(x.nbytes for x in pending.values()) + value.nbytes > (
      shard_bytes
    ):
      flush()
    pending[name] = value
    total += value.nbytes
  flush()
  index: dict[str, str] = {}
  for number, names in enumerate(shards):
    if len(shards) == 1:
      file = weight_files.WEIGHTS_FILE
    else:
      file = f'model-{number + 1:05d}-of-{len(shards):05d}.safetensors'
    (folder / f'part-{number}').rename(folder / file)
    index |= dict.fromkeys(names, file)
  if len(shards) > 1:
    _write_json(
      folder / weight_files.INDEX_FILE,
      {'metadata': {'total_size': total}, 'weight_map': index},
    )


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
