"""Exports a model as an ordinary dense Hugging Face checkpoint.

Levels and experts become hidden units of the MLP of each block (`dense_mlp`),
so the export is exact and any program that reads the format can load it without
our code. Models for which this is impossible are refused with all reasons.

References: docs/method.md, "Real models".
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import template_files
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import (
  dense_mlp,
  hf_checkpoint,
  hf_config,
  hf_layers,
  json_file,
  tensor_file,
  weight_files,
)
from sleep_jax.storage import workdir

# Files of the base model that are copied unchanged.
_COPIED_FILES = (
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
  home = pathlib.Path(folder).expanduser().resolve()
  if home.exists() and any(home.iterdir()):
    raise errors.ExistsError(f'{home} is not empty: choose a new folder.')
  config = dict(
    base_model.config
    if base_model
    else dense_mlp.native_hf_config(model.config)
  )
  config = older_rope_fields(config) | config
  config['intermediate_size'] = dense_mlp.num_hidden_units(model, weights)
  config['architectures'] = config.get('architectures') or [
    hf_config.ARCHITECTURES[config['model_type']]
  ]
  config |= dict(
    dtype=dtype, torch_dtype=dtype
  )  # The second is the older name.
  tensors = dense_mlp.named_tensors(model, weights, np.dtype(dtype))
  with workdir.make_whole(home) as part:
    _write_json(part / 'config.json', config)
    _write_shards(tensors, part, shard_bytes)
    if base_model is not None:
      copy_files(base_model.folder, part)
    elif tokenizer is not None:
      _write_tokenizer(tokenizer, part)


def older_rope_fields(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields that transformers read before `rope_parameters`.

  Without them older programs take a base of 10,000 and no scaling.

  Args:
    config: content of config.json; empty for one without `rope_parameters`.
  """
  found = config.get('rope_parameters') or {}
  by_layer = hf_layers.GLOBAL in found
  whole = found[hf_layers.GLOBAL] if by_layer else found
  if 'rope_theta' not in whole:
    return {}
  scaling = {k: v for k, v in whole.items() if k != 'rope_theta'}
  is_scaled = scaling.get('rope_type', 'default') != 'default'
  made = {
    'rope_theta': whole['rope_theta'],
    'rope_scaling': scaling if is_scaled else None,
  }
  if by_layer and hf_layers.LOCAL in found:
    made['rope_local_base_freq'] = found[hf_layers.LOCAL]['rope_theta']
  return made


def copy_files(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies the tokenizer and the chat templates of a model directory.

  Raises:
    ModelFileError: a file is no UTF-8 text, or too large.
  """
  found = [source / name for name in _COPIED_FILES]
  found += sorted((source / template_files.FOLDER).glob('*.jinja'))
  for file in found:
    if file.is_file():
      copy = target / file.relative_to(source)
      copy.parent.mkdir(exist_ok=True)
      copy.write_text(json_file.read_text(file), encoding='utf-8')


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
    tensor_file.write(pending, path, {'format': 'pt'})
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
