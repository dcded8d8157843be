"""Converts between a Hugging Face config.json and our model settings.

Supported are architectures whose blocks are attention and a gated MLP: Llama
(2307.09288, 2407.21783), Mistral (2310.06825), SmolLM, Qwen 2.5 (2412.15115),
Qwen 3 (2505.09388), and the text part of Gemma 3 (2503.19786), which normalizes
the input and the output of each branch, scales embeddings, and may cap scores
and logits. A field that is missing gets the default of transformers.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.model import config as config_lib

ARCHITECTURES = {
  'llama': 'LlamaForCausalLM',
  'mistral': 'MistralForCausalLM',
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
  'gemma3_text': 'Gemma3ForCausalLM',
}
# Defaults of transformers: num_key_value_heads, head_dim.
_HEAD_DEFAULTS = {
  'mistral': (8, None), 'qwen2': (32, None), 'qwen3': (32, 128),
  'gemma3_text': (4, 256),
}  # fmt: skip
_ROPE_FIELDS = (
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'original_max_position_embeddings',
)
_GEMMA, _QWEN = 'gemma3_text', ('qwen2', 'qwen3')
_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
# Defaults of transformers: sliding_window, max_window_layers,
# sliding_window_pattern.
_WINDOW, _FIRST_LOCAL, _PATTERN = 4096, 28, 6
_ACTS = {'silu': 'silu', 'gelu_pytorch_tanh': 'gelu'}


def model_settings(
  config: Mapping[str, Any], path: pathlib.Path
) -> dict[str, Any]:
  """Returns the fields of `model.config.Model` that a config.json determines.

  Args:
    config: content of config.json.
    path: path of the file, for error messages.

  Raises:
    ModelFileError: the architecture, or one of its options, is not supported.
      The message names the field.
  """
  model_type = config.get('model_type')
  if model_type not in ARCHITECTURES:
    raise errors.ModelFileError(
      f'{path}: model_type is {model_type!r}: expected one of '
      f'{tuple(ARCHITECTURES)}.'
    )
  default_act = 'gelu_pytorch_tanh' if model_type == _GEMMA else 'silu'
  act = config.get('hidden_activation') or config.get('hidden_act', default_act)
  if act not in _ACTS:
    raise errors.ModelFileError(
      f'{path}: hidden_act is {act!r}: expected one of {tuple(_ACTS)}.'
    )
  gemma, bias = model_type == _GEMMA, bool(config.get('attention_bias'))
  unsupported: dict[str, Any] = dict(
    mlp_bias=False, quantization_config=None, use_bidirectional_attention=False
  )
  if not gemma:
    unsupported['final_logit_softcapping'] = None
  if model_type == 'mistral':
    unsupported['attention_bias'] = False
  for field, expected in unsupported.items():
    found = config.get(field) or expected
    if found != expected:
      raise errors.ModelFileError(
        f'{path}: {field} is {found!r}: expected {expected!r}; other values '
        'are not supported.'
      )
  width = positive_int(config, 'hidden_size', path)
  heads = positive_int(config, 'num_attention_heads', path)
  theta, scaling = _rope(config, path)
  default_kv_heads, default_head = _HEAD_DEFAULTS.get(model_type, (None, None))
  return dict(
    width=width,
    num_layers=positive_int(config, 'num_hidden_layers', path),
    num_heads=heads,
    num_kv_heads=config.get('num_key_value_heads', default_kv_heads) or heads,
    head_size=config.get('head_dim', default_head) or width // heads,
    qk_norm=model_type in ('qwen3', _GEMMA),
    act=_ACTS[act],
    qkv_bias=bias or model_type == 'qwen2',
    out_bias=bias and model_type != 'qwen2',
    tied=bool(config.get('tie_word_embeddings', gemma)),
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=float(config.get('rms_norm_eps', 1e-6)),
    **_window(config, path),
    **(_gemma(config, width) if gemma else {}),
  )


def _gemma(config, width) -> dict[str, Any]:
  """Returns the settings that only Gemma 3 has."""
  local_rope = (config.get('rope_parameters') or {}).get(_LOCAL) or {}
  theta = local_rope.get(
    'rope_theta', config.get('rope_local_base_freq', 10_000.0)
  )
  return dict(
    norm_offset=1.0,
    post_norms=True,
    embed_scale=width**0.5,
    query_scale=float(config.get('query_pre_attn_scalar', 256)) ** -0.5,
    attention_cap=float(config.get('attn_logit_softcapping') or 0.0),
    logit_cap=float(config.get('final_logit_softcapping') or 0.0),
    local_theta=float(theta),
  )


def _window(config, path) -> dict[str, Any]:
  """Returns which blocks are local and the window of those, in tokens."""
  model_type = config['model_type']
  layers = range(positive_int(config, 'num_hidden_layers', path))
  with_default = {'sliding_window': _WINDOW} | dict(config)
  off = with_default['sliding_window'] is None or model_type == 'llama'
  if model_type in _QWEN:
    off = off or not config.get('use_sliding_window')
  window = 0 if off else positive_int(with_default, 'sliding_window', path)
  if model_type == _GEMMA:  # The last layer of each pattern is global.
    pattern = config.get('sliding_window_pattern', _PATTERN)
    local = [(layer + 1) % pattern != 0 for layer in layers]
  else:
    first = config.get('max_window_layers', _FIRST_LOCAL)
    local = [
      not off and (model_type not in _QWEN or layer >= first)
      for layer in layers
    ]
  layer_types = config.get('layer_types')
  if layer_types is not None:
    default, local = local, [name == _LOCAL for name in layer_types]
    # transformers ignores layer_types in these two architectures.
    wrong = model_type in ('llama', 'mistral') and local != default
    if (
      wrong
      or len(layer_types) != len(layers)
      or set(layer_types) - {_LOCAL, _GLOBAL}
    ):
      raise errors.ModelFileError(
        f'{path}: layer_types is {layer_types}: expected {len(layers)} entries '
        f'that are {_LOCAL!r} or {_GLOBAL!r}, and for llama and mistral '
        'consistent with sliding_window.'
      )
  if any(local) and off:
    raise errors.ModelFileError(
      f'{path}: some blocks are {_LOCAL!r}, but sliding_window is off or null: '
      'set it to the number of tokens that they attend to.'
    )
  return dict(window=window, local=tuple(local)) if any(local) else {}


def _rope(config, path) -> tuple[float, tuple[float, ...]]:
  """Returns theta and scaling, from the old or the new fields of config.json.

  New files have `rope_parameters`, old ones `rope_theta` and `rope_scaling`.
  """
  new = config.get('rope_parameters') or {}
  new = new.get(_GLOBAL, new)  # The parameters of global blocks.
  old = config.get('rope_scaling') or {}
  default = 1_000_000.0 if config['model_type'] == _GEMMA else 10_000.0
  theta = float(new.get('rope_theta', config.get('rope_theta', default)))
  rope = new or old
  rope_type = rope.get('rope_type', rope.get('type', 'default'))
  if rope_type == 'default':
    return theta, ()
  required = {'linear': _ROPE_FIELDS[:1], 'llama3': _ROPE_FIELDS}.get(rope_type)
  if required is None:
    raise errors.ModelFileError(
      f"{path}: rope_type is {rope_type!r}: expected 'default', 'linear' or "
      "'llama3'."
    )
  missing = [name for name in required if name not in rope]
  if missing:
    raise errors.ModelFileError(
      f'{path}: rope_type is {rope_type!r}, but these fields are missing: '
      f'{", ".join(missing)}. Expected {", ".join(required)}.'
    )
  return theta, tuple(float(rope[name]) for name in required)


def rope_fields(config: config_lib.Model) -> dict[str, Any]:
  """Returns the config.json fields of rotary positions, in both formats."""
  values = config.rope_scaling
  rope_type = {0: 'default', 1: 'linear', 4: 'llama3'}[len(values)]
  scaling = dict(zip(_ROPE_FIELDS, values, strict=False)) | {
    'rope_type': rope_type
  }
  theta = {'rope_theta': config.rope_theta}
  old = {'rope_scaling': scaling} if values else {}
  return theta | old | {'rope_parameters': scaling | theta}


def window_fields(config: config_lib.Model, model_type: str) -> dict[str, Any]:
  """Returns the config.json fields of local attention, in both formats."""
  if not config.window:
    return {}
  if model_type not in _QWEN:
    return dict(sliding_window=config.window)
  return dict(
    sliding_window=config.window,
    use_sliding_window=True,
    max_window_layers=config.local.index(True),
    layer_types=[_LOCAL if local else _GLOBAL for local in config.local],
  )


def positive_int(
  config: Mapping[str, Any], field: str, path: pathlib.Path
) -> int:
  """Returns a field of config.json that must be an integer above 0.

  Raises:
    ModelFileError: it is missing or is something else.
  """
  value = config.get(field)
  if not isinstance(value, int) or value < 1:
    raise errors.ModelFileError(
      f'{path}: {field} is {value!r}: expected an integer above 0.'
    )
  return value
