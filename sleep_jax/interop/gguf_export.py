"""Exports a dense model as a GGUF file, which llama.cpp and others read.

The file is read back before it gets its name: a model or tokenizer that GGUF
cannot express is refused, with the field that would be another one.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import template_files
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import (
  dense_mlp,
  gguf_config,
  gguf_file,
  gguf_names,
  gguf_tensor,
  gguf_words,
  hf_checkpoint,
  hf_config,
  hf_tokenizer,
)
from sleep_jax.model import config as config_lib
from sleep_jax.model import rope_scaling
from sleep_jax.storage import workdir

KINDS = {'f16': 'F16', 'q8_0': 'Q8_0'}
# Number of a file's type in llama.cpp: that of most of its tensors.
_FILE_TYPES = {'F16': 1, 'Q8_0': 7}
_ARCHITECTURES = {value: key for key, value in gguf_names.MODEL_TYPES.items()}


def save(
  model: types.Model,
  weights: types.Weights,
  file: str,
  *,
  base_model: hf_checkpoint.HfCheckpoint | None,
  tokenizer: types.Tokenizer,
  kind: str = 'f16',
) -> None:
  """Writes a GGUF file, atomically.

  Matrices have the type `kind`, the rest is float32. A matrix whose rows cannot
  be divided into blocks of 32 numbers is written as f16.

  Args:
    model: the model to export, see `dense_mlp.reasons_not_dense`.
    weights: its weights.
    file: path to create; must not exist.
    base_model: checkpoint the model was imported from.
    tokenizer: its tokenizer.
    kind: one of `KINDS`.

  Raises:
    UsageError: GGUF cannot express this model. The message has all reasons.
    ExistsError: the file exists.
    MissingPackageError: the package gguf is not installed.
  """
  gguf = gguf_tensor.library()
  path = pathlib.Path(file).expanduser()
  if path.exists():
    raise errors.ExistsError(f'{path} exists: choose a new name.')
  reasons = dense_mlp.reasons_not_dense(model, weights, base_model)
  reasons += _reasons_no_gguf(base_model, tokenizer)
  if reasons:
    raise errors.UsageError(f'No exact GGUF export: {"; ".join(reasons)}.')
  assert base_model is not None
  assert isinstance(tokenizer, tokenizer_lib.HuggingFace)
  config = _config(base_model, model, weights)
  metadata = _metadata(config, model.config, base_model)
  ends = _ends(base_model, tokenizer)
  metadata |= gguf_words.make(
    tokenizer.raw(), bos=_bos(base_model, tokenizer, ends), ends=ends,
    vocab_size=base_model.vocab_size,
  ) | _template(base_model)  # fmt: skip
  with workdir.make_whole_file(path) as part:
    writer = gguf.GGUFWriter(
      part, _ARCHITECTURES[config['model_type']], use_temp_file=True
    )
    _write(writer, metadata, config, KINDS[kind], model, weights)
    _check(part, config, base_model, model.config, tokenizer)


def _reasons_no_gguf(
  base_model: hf_checkpoint.HfCheckpoint | None, tokenizer: types.Tokenizer
) -> list[str]:
  """Returns what GGUF cannot express of a base model."""
  if base_model is None or not isinstance(tokenizer, tokenizer_lib.HuggingFace):
    return [
      'a model that was pretrained here has no tokenizer that GGUF can express '
      '(export a Hugging Face directory instead)'
    ]
  model_type = base_model.config['model_type']
  if model_type not in _ARCHITECTURES:
    return [
      f'model_type {model_type!r} is not written as GGUF, only '
      f'{", ".join(_ARCHITECTURES)} (export a Hugging Face directory instead)'
    ]
  named = _named_token(base_model, tokenizer, 'eos_token')
  ends = hf_tokenizer.end_tokens(base_model, tokenizer)
  writes_eos = 'eos_token' in ''.join(_template(base_model).values())
  if writes_eos and named is not None and named not in ends:
    return [
      'the chat template writes eos_token of tokenizer_config.json, which does '
      'not end a text: GGUF has one token for both'
    ]
  return []


def _config(base_model, model, weights) -> dict[str, Any]:
  """Returns config.json with all sizes, of the dense model."""
  config, c = dict(base_model.config), model.config
  config.setdefault(
    'max_position_embeddings',
    hf_config.FAMILIES[config['model_type']].max_positions,
  )
  return config | dict(
    intermediate_size=dense_mlp.num_hidden_units(model, weights),
    num_attention_heads=c.num_heads, num_key_value_heads=c.num_kv_heads,
    head_dim=c.head_size, tie_word_embeddings=c.tied, attention_bias=c.out_bias,
  )  # fmt: skip


def _metadata(
  config: Mapping[str, Any],
  c: config_lib.Model,
  base_model: hf_checkpoint.HfCheckpoint,
) -> dict[str, Any]:
  """Returns the metadata of the model. What GGUF cannot express is left out."""
  fields: dict[str, Any] = {
    'vocab_size': config['vocab_size'],
    'context_length': config['max_position_embeddings'],
    'embedding_length': c.width,
    'block_count': c.num_layers,
    'feed_forward_length': config['intermediate_size'],
    'attention.head_count': c.num_heads,
    'attention.head_count_kv': c.num_kv_heads,
    'attention.key_length': c.head_size,
    'attention.value_length': c.head_size,
    'attention.layer_norm_rms_epsilon': float(c.norm_eps),
    'rope.freq_base': float(c.rope_theta),
    'rope.dimension_count': c.head_size,
  }
  scaling = c.rope_scaling
  if isinstance(scaling, tuple) and len(scaling) == 1:
    fields |= {
      'rope.scaling.type': 'linear', 'rope.scaling.factor': float(scaling[0])
    }  # fmt: skip
  elif isinstance(scaling, rope_scaling.Yarn):
    fields |= {
      'rope.scaling.type': 'yarn',
      'rope.scaling.factor': float(scaling.factor),
      'rope.scaling.original_context_length': int(scaling.positions),
    }
  if config['model_type'] == 'gemma3_text':
    if c.window:
      period = (*c.local, False).index(False) + 1
      fields |= {
        'attention.sliding_window': c.window,
        'attention.sliding_window_pattern': period,
      }
    fields['rope.freq_base_swa'] = float(c.local_theta)
    if c.logit_cap:
      fields['final_logit_softcapping'] = float(c.logit_cap)
  name = _ARCHITECTURES[config['model_type']]
  return {
    'general.name': base_model.source.stem,
    **{f'{name}.{key}': value for key, value in fields.items()},
  }


def _rope_factors(c: config_lib.Model) -> np.ndarray | None:
  """Returns the divisors of frequencies that GGUF has as a tensor, or None."""
  scaling = c.rope_scaling
  if isinstance(scaling, rope_scaling.LongRope):
    same = scaling.short == scaling.long and scaling.magnitude == 1
    return np.array(scaling.short, np.float32) if same else None
  if isinstance(scaling, tuple) and len(scaling) == 4:
    return gguf_config.llama3_factors(
      *scaling, c.rope_theta, c.head_size // 2
    ).astype(np.float32)
  return None


def _bos(base_model, tokenizer, ends) -> int | None:
  """Returns the token that templates know as BOS; None if there is none."""
  named = _named_token(base_model, tokenizer, 'bos_token')
  if named is not None:
    return named
  # A model without BOS has EOS in its place, which a template does not know.
  return None if tokenizer.bos in ends else tokenizer.bos


def _ends(base_model, tokenizer) -> list[int]:
  """Returns the tokens that end a text, first what templates know as EOS."""
  ends = hf_tokenizer.end_tokens(base_model, tokenizer)
  named = _named_token(base_model, tokenizer, 'eos_token')
  first = named if named in ends else tokenizer.eos
  return [first, *(end for end in ends if end != first)]


def _named_token(base_model, tokenizer, name: str) -> int | None:
  home = base_model.folder
  config = template_files.read_json(home / template_files.CONFIG)
  text = template_files.special_tokens(home, config).get(name)
  return None if text is None else tokenizer.raw().token_to_id(text)


def _template(base_model) -> dict[str, str]:
  """Returns the metadata of the chat template, if there is one."""
  try:
    found = template_files.read(base_model.folder).sources
  except errors.MissingFileError:
    return {}
  source = found.get(template_files.DEFAULT)
  return {} if source is None else {'tokenizer.chat_template': source}


def _write(writer, metadata, config, kind, model, weights) -> None:
  """Writes header and tensors; tensors wait in a temporary file."""
  for key, value in metadata.items():
    if isinstance(value, list):
      writer.add_array(key, value)
    else:
      add = {
        bool: writer.add_bool, int: writer.add_uint32,
        float: writer.add_float32, str: writer.add_string,
      }  # fmt: skip
      add[type(value)](key, value)
  writer.add_file_type(_FILE_TYPES[kind])
  writer.add_quantization_version(gguf_tensor.library().GGML_QUANT_VERSION)
  factors = _rope_factors(model.config)
  if factors is not None:
    _add_tensor(writer, gguf_names.ROPE_FACTORS, factors, 'F32')
  places = {place.hf_name: place for place in gguf_names.places(config)}
  f32 = np.dtype(np.float32)
  for name, value in dense_mlp.named_tensors(model, weights, f32):
    place = places[name]
    if place.head_size:
      rows = np.empty_like(value)
      order = gguf_tensor.source_rows(np.arange(len(value)), place.head_size)
      rows[order] = value
      value = rows
    if place.added:
      value = value + np.float32(place.added)
    _add_tensor(writer, place.name, value, kind if value.ndim > 1 else 'F32')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _add_tensor(writer, name: str, value: np.ndarray, kind: str) -> None:
  """Adds a tensor in its type.

  Raises:
    UsageError: a number is too large for the type.
  """
  gguf = gguf_tensor.library()
  block, _ = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
  if value.shape[-1] % block:
    kind = 'F16'
  number = gguf.GGMLQuantizationType[kind]
  with np.errstate(over='ignore'):
    stored = gguf.quants.quantize(np.ascontiguousarray(value), number)
  largest = float(np.abs(value).max())
  if not largest <= float(np.finfo(np.float16).max) and kind != 'F32':
    raise errors.UsageError(
      f'tensor {name!r} has the number {largest:g}, which {kind} cannot hold: '
      'export a Hugging Face directory instead.'
    )
  writer.add_tensor(name, stored, raw_dtype=number)


def _check(path: pathlib.Path, config, base_model, c, tokenizer) -> None:
  """Reads the header back and compares it with the model.

  Raises:
    UsageError: a field, or what the tokenizer makes of a text, differs, because
      GGUF cannot express it.
  """
  header = gguf_file.read(path)
  gguf_words.check(
    header.metadata, path, tokenizer.raw(), ends=_ends(base_model, tokenizer)
  )
  made = gguf_config.make(header)
  gguf_names.find(header.tensors, made, path)
  found = hf_config.model_settings(made, path)
  wanted = dict(base_model.settings) | {'tied': config['tie_word_embeddings']}
  if _rope_factors(c) is not None:
    # The divisors are in the file, whatever rule they came from.
    found['rope_scaling'] = wanted['rope_scaling']
  for field in sorted({*found, *wanted}):
    if found.get(field) != wanted.get(field):
      raise errors.UsageError(
        f'model.{field} is {wanted.get(field)}, and GGUF would say '
        f'{found.get(field)}: export a Hugging Face directory instead.'
      )
