"""Converts the metadata of a GGUF file to the fields of a config.json.

Supported are Llama, Qwen 2, Qwen 3 and Gemma 3. What the metadata leaves out
has the value that llama.cpp gives it. A field that is not known may change what
the model computes, so it is refused.
"""

from typing import Any

import numpy as np

from sleep_jax import errors
from sleep_jax.interop import (
  gguf_file,
  gguf_names,
  hf_fields,
  hf_layers,
  tensor_file,
)

_GEMMA = 'gemma3'
_THETA, _LOCAL_THETA = 10_000.0, 10_000.0
_GEMMA_PATTERN = 6  # Every sixth block is global.
# llama.cpp identifies Gemma 3 27B by its number of blocks, and scales its
# queries by width / num_heads instead of the size of a head.
_GEMMA_27B_BLOCKS = 62
# Llama 3.1 and 3.2: low and high frequency factor, length before scaling.
_LLAMA3 = (1.0, 4.0, 8192)
_KNOWN = {
  'vocab_size', 'context_length', 'embedding_length', 'block_count',
  'feed_forward_length', 'attention.head_count', 'attention.head_count_kv',
  'attention.key_length', 'attention.layer_norm_rms_epsilon',
  'rope.freq_base', 'rope.scaling.type', 'rope.scaling.factor',
  'rope.scale_linear', 'rope.scaling.original_context_length',
  'rope.scaling.finetuned', 'tensor_data_layout',
}  # fmt: skip
_KNOWN_GEMMA = {
  'attention.sliding_window', 'attention.sliding_window_pattern',
  'rope.freq_base_swa', 'final_logit_softcapping',
}  # fmt: skip
# Fields that change nothing with one value.
_NEUTRAL = {
  'expert_count': 0, 'expert_used_count': 0, 'attention.causal': True,
  'rope.scaling.attn_factor': 1.0, 'use_parallel_residual': True,
}  # fmt: skip


def make(header: gguf_file.Header) -> dict[str, Any]:
  """Returns the fields of config.json, but those of the tokenizer.

  Raises:
    ModelFileError: the architecture or one of its options is not supported.
      The message names the metadata key.
  """
  metadata, path = header.metadata, header.path
  name = metadata.get('general.architecture')
  if not isinstance(name, str) or name not in gguf_names.MODEL_TYPES:
    hf_fields.fail(
      path, 'general.architecture', name,
      f'one of {tuple(gguf_names.MODEL_TYPES)}; use a model of these',
    )  # fmt: skip
  if metadata.get('general.type', 'model') != 'model':
    hf_fields.fail(
      path, 'general.type', metadata['general.type'],
      "'model'; adapters must be merged into their model first",
    )  # fmt: skip
  if metadata.get('split.count', 1) not in (0, 1):
    hf_fields.fail(
      path, 'split.count', metadata['split.count'],
      '1; join the parts with gguf-split --merge of llama.cpp',
    )  # fmt: skip
  embedding = header.tensors.get(gguf_names.EMBEDDING)
  if embedding is None:
    raise errors.ModelFileError(
      f'{path}: tensor {gguf_names.EMBEDDING!r} is missing: the file is no '
      'complete language model; download it again.'
    )
  fields, gemma = _Fields(header, name), name == _GEMMA
  heads, width = (
    fields.integer(key) for key in ('attention.head_count', 'embedding_length')
  )
  head_size = fields.integer('attention.key_length', width // heads)
  fields.check(head_size)
  made: dict[str, Any] = dict(
    model_type=gguf_names.MODEL_TYPES[name],
    vocab_size=embedding.shape[0],
    hidden_size=width,
    intermediate_size=fields.integer('feed_forward_length'),
    num_hidden_layers=fields.integer('block_count'),
    num_attention_heads=heads,
    num_key_value_heads=fields.integer('attention.head_count_kv', heads),
    head_dim=head_size,
    max_position_embeddings=fields.integer('context_length'),
    rms_norm_eps=fields.number('attention.layer_norm_rms_epsilon'),
    tie_word_embeddings=gguf_names.HEAD not in header.tensors,
    attention_bias=name != 'qwen2' and 'blk.0.attn_q.bias' in header.tensors,
  )
  if made['num_hidden_layers'] > len(header.tensors):
    hf_fields.fail(
      path, f'{name}.block_count', made['num_hidden_layers'],
      f'at most the {len(header.tensors)} tensors of the file; download it '
      'again',
    )  # fmt: skip
  rope = _rope(header, fields, made)
  if gemma:
    return made | _gemma(fields, made, rope)
  return made | {'hidden_act': 'silu', 'rope_parameters': rope}


class _Fields:
  """Reads the metadata of an architecture and checks its types.

  Attributes:
    name: the architecture, with which its keys begin.
    path: the file, for messages.
  """

  def __init__(self, header: gguf_file.Header, name: str):
    self._metadata, self.path, self.name = header.metadata, header.path, name

  def get(self, key: str, default: Any = None) -> Any:
    """Returns a value; of a list that is the same for all blocks, the item."""
    key = f'{self.name}.{key}'
    found = self._metadata.get(key, default)
    if not isinstance(found, list) or key.endswith('pattern'):
      return found
    if len(set(found)) != 1:
      hf_fields.fail(
        self.path, key, found,
        'the same number for every block; others are not supported',
      )  # fmt: skip
    return found[0]

  def integer(self, key: str, default: int | None = None) -> int:
    """Returns an integer above 0. None as default: it is required."""
    found = {f'{self.name}.{key}': self.get(key, default)}
    return hf_fields.positive_int(found, f'{self.name}.{key}', self.path)

  def number(self, key: str, default: float | None = None) -> float:
    """Returns a number above 0, as the shortest decimal of its float32."""
    found = {f'{self.name}.{key}': self.get(key, default)}
    key = f'{self.name}.{key}'
    return _decimal(hf_fields.number(found, key, None, self.path))

  def check(self, head_size: int) -> None:
    """Refuses fields that are not known or have an unsupported value."""
    known = _KNOWN | (_KNOWN_GEMMA if self.name == _GEMMA else set())
    neutral = _NEUTRAL | {
      'attention.value_length': head_size, 'rope.dimension_count': head_size,
    }  # fmt: skip
    for full, value in self._metadata.items():
      architecture, _, key = full.partition('.')
      if architecture != self.name or key in known:
        continue
      if key not in neutral:
        raise errors.ModelFileError(
          f'{self.path}: {full} is {value!r}: the field is not known, so what '
          'it changes is not known either. Use another file of this model.'
        )
      if value != neutral[key]:
        hf_fields.fail(
          self.path, full, value,
          f'{neutral[key]!r}; models with other values are not supported',
        )  # fmt: skip


def _rope(header, fields, made) -> dict[str, Any]:
  """Returns the rotary positions of global blocks."""
  rope: dict[str, Any] = {
    'rope_theta': fields.number('rope.freq_base', _THETA),
    'rope_type': 'default',
  }
  # Without a type, a factor is that of linear scaling.
  kind = fields.get('rope.scaling.type', 'linear')
  if kind not in ('none', 'linear', 'yarn'):
    hf_fields.fail(
      fields.path, f'{fields.name}.rope.scaling.type', kind,
      "'none', 'linear' or 'yarn'; others are not supported",
    )  # fmt: skip
  old = fields.number('rope.scale_linear', 1.0)
  factor = fields.number('rope.scaling.factor', old)
  if kind != 'none' and factor != 1:
    rope |= {'rope_type': kind, 'factor': factor}
  positions = made['max_position_embeddings']
  if rope['rope_type'] == 'yarn':
    rope['original_max_position_embeddings'] = fields.integer(
      'rope.scaling.original_context_length', positions
    )
  factors = header.tensors.get(gguf_names.ROPE_FACTORS)
  if factors is None:
    return rope
  pairs = made['head_dim'] // 2
  plain = fields.name == 'llama' and rope['rope_type'] == 'default'
  if not plain or factors.shape != (pairs,):
    raise errors.ModelFileError(
      f'{factors} has shape {factors.shape} in a model of architecture '
      f'{fields.name!r} with rope_type {rope["rope_type"]!r}: expected it only '
      f'in Llama models without other scaling, with {pairs} numbers.'
    )
  with tensor_file.Reader() as reader:
    values = np.concatenate([x for _, x in reader.blocks(factors)])
  if not (np.isfinite(values).all() and (values > 0).all()):
    raise gguf_file.damaged(
      fields.path, f'tensor {factors.name!r} has numbers that are not above 0'
    )
  return rope | _factors(values, rope['rope_theta'], positions)


def _factors(values, theta, positions) -> dict[str, Any]:
  """Returns the scaling that divides frequencies by the given numbers."""
  low, high, original = _LLAMA3
  llama3 = llama3_factors(
    float(values.max()), low, high, original, theta, len(values)
  )
  if np.allclose(llama3, values, rtol=1e-5, atol=0):
    return dict(
      rope_type='llama3', factor=_decimal(values.max()), low_freq_factor=low,
      high_freq_factor=high, original_max_position_embeddings=original,
    )  # fmt: skip
  divisors = [_decimal(value) for value in values]
  return dict(
    rope_type='longrope', factor=1.0, attention_factor=1.0,
    short_factor=divisors, long_factor=divisors,
    original_max_position_embeddings=positions,
  )  # fmt: skip


def llama3_factors(
  factor: float, low: float, high: float, positions: float, theta: float,
  size: int,
) -> np.ndarray:  # fmt: skip
  """Returns the divisor of each frequency in Llama 3.1's scaling.

  Args:
    factor: divisor of the lowest frequencies.
    low, high: numbers of turns in the original length. A frequency with fewer
      than `low` turns is divided by `factor`, one with more than `high` is not,
      and between them the two are interpolated.
    positions: the original length, in tokens.
    theta: base of the frequencies.
    size: their number.

  References: Llama 3 2407.21783; `model.rope` computes the same.
  """
  turns = positions * theta ** -(np.arange(size) / size) / (2 * np.pi)
  smooth = np.clip((turns - low) / (high - low), 0, 1)
  return 1 / ((1 - smooth) / factor + smooth)


def _gemma(fields, made, rope) -> dict[str, Any]:
  """Returns the fields that only Gemma 3 has."""
  layers = made['num_hidden_layers']
  window = fields.get('attention.sliding_window', 0)
  pattern = fields.get('attention.sliding_window_pattern', _GEMMA_PATTERN)
  if not window:
    local = [False] * layers
  elif isinstance(pattern, list):
    local = [bool(one) for one in pattern]
  else:
    every = fields.integer('attention.sliding_window_pattern', _GEMMA_PATTERN)
    local = [(layer + 1) % every != 0 for layer in range(layers)]
  scalar = made['head_dim']
  if layers == _GEMMA_27B_BLOCKS:
    scalar = made['hidden_size'] // made['num_attention_heads']
  local_rope = {
    'rope_type': 'default',
    'rope_theta': fields.number('rope.freq_base_swa', _LOCAL_THETA),
  }
  found: dict[str, Any] = dict(
    hidden_activation='gelu_pytorch_tanh',
    query_pre_attn_scalar=scalar,
    layer_types=[hf_layers.LOCAL if one else hf_layers.GLOBAL for one in local],
    rope_parameters={hf_layers.GLOBAL: rope, hf_layers.LOCAL: local_rope},
  )
  if any(local):
    found['sliding_window'] = window
  cap = 'final_logit_softcapping'
  if fields.get(cap):
    found[cap] = fields.number(cap)
  return found


def _decimal(value: float) -> float:
  """Returns the shortest decimal that is the same float32, as 1e-5."""
  return float(str(np.float32(value)))
