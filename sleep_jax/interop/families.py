"""Families of checkpoints: what a config.json says of a model, in our words.

Those whose blocks are attention and a gated MLP: Llama (2307.09288,
2407.21783), Mistral (2310.06825), SmolLM, Qwen 2.5 (2412.15115), Qwen 3
(2505.09388), and Gemma 3 as text (2503.19786), which norms each branch twice,
scales embeddings, and sees only so far in most blocks.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from sleep_jax.model import config as config_lib

ARCHITECTURES = {
  'llama': 'LlamaForCausalLM',
  'mistral': 'MistralForCausalLM',
  'qwen2': 'Qwen2ForCausalLM',
  'qwen3': 'Qwen3ForCausalLM',
  'gemma3_text': 'Gemma3ForCausalLM',
}
_SCALING = (
  'factor', 'low_freq_factor', 'high_freq_factor',
  'original_max_position_embeddings',
)  # fmt: skip
_GEMMA, _LOCAL = 'gemma3_text', 'sliding_attention'
_ACTS = {'silu': 'silu', 'gelu_pytorch_tanh': 'gelu'}


def settings(config: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
  """Fields of `model.config.Model` that a config.json determines.

  Args:
    path: of the file, for messages.

  Raises:
    ValueError: the family is not known, or a part of it is not; names the
      field.
  """
  kind = config.get('model_type')
  if kind not in ARCHITECTURES:
    raise ValueError(
      f'{path}: model_type is {kind!r}: expected one of {tuple(ARCHITECTURES)}.'
    )
  act = config.get('hidden_activation') or config.get('hidden_act', 'silu')
  if act not in _ACTS:
    raise ValueError(
      f'{path}: hidden_act is {act!r}: expected one of {tuple(_ACTS)}.'
    )
  for field, expected in (
    ('mlp_bias', False), ('quantization_config', None),
    ('final_logit_softcapping', None), ('use_bidirectional_attention', False),
  ):  # fmt: skip
    found = config.get(field) or expected
    if found != expected:
      raise ValueError(
        f'{path}: {field} is {found!r}: expected {expected!r}, nothing else '
        'can be read.'
      )
  if kind != 'qwen2' and config.get('attention_bias'):
    raise ValueError(
      f'{path}: attention_bias is on, which adds an offset after attention '
      'too: expected none.'
    )
  gemma = kind == _GEMMA
  if not gemma:
    _no_window(config, path)
  width = number(config, 'hidden_size', path)
  heads = number(config, 'num_attention_heads', path)
  theta, scaling = _rope(config, path)
  more = _gemma(config, width, path) if gemma else {}
  return more | dict(
    width=width,
    num_layers=number(config, 'num_hidden_layers', path),
    num_heads=heads,
    num_kv_heads=config.get('num_key_value_heads') or heads,
    head_size=config.get('head_dim') or width // heads,
    qk_norm=kind in ('qwen3', _GEMMA),
    act=_ACTS[act],
    qkv_bias=kind == 'qwen2',
    tied=bool(config.get('tie_word_embeddings', gemma)),
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=float(config.get('rms_norm_eps', 1e-6)),
  )


def _gemma(config, width, path) -> dict[str, Any]:
  """What Gemma 3 has beside what all have."""
  blocks = number(config, 'num_hidden_layers', path)
  kinds = config.get('layer_types')
  if kinds is None:  # Older files say after how many blocks one sees all.
    every = config.get('sliding_window_pattern', 6)
    kinds = [
      _LOCAL if (layer + 1) % every else 'full_attention'
      for layer in range(blocks)
    ]
  near = (config.get('rope_parameters') or {}).get(_LOCAL) or {}
  theta = near.get('rope_theta', config.get('rope_local_base_freq', 10_000.0))
  window = config.get('sliding_window') or 0
  return dict(
    norm_offset=1.0,
    post_norms=True,
    embed_scale=width**0.5,
    query_scale=float(config.get('query_pre_attn_scalar', 256)) ** -0.5,
    attention_cap=float(config.get('attn_logit_softcapping') or 0.0),
    window=window,
    local=tuple(kind == _LOCAL for kind in kinds) if window else (),
    local_theta=float(theta),
  )


def _no_window(config, path) -> None:
  """Attention that sees only so far is not there; nor is it where it is off."""
  window = config.get('sliding_window')
  on = config.get('use_sliding_window', config['model_type'] == 'mistral')
  kinds = set(config.get('layer_types') or ())
  if (window and on) or kinds - {'full_attention'}:
    raise ValueError(
      f'{path}: sliding_window is {window}: attention that sees only so many '
      'tokens cannot be read. Where your texts are shorter it changes nothing: '
      'set it to null.'
    )


def _rope(config, path) -> tuple[float, tuple[float, ...]]:
  """Theta and scaling, from the fields of old and of new."""
  new = config.get('rope_parameters') or {}
  new = new.get('full_attention', new)  # Of the blocks that see all.
  old = config.get('rope_scaling') or {}
  usual = 1_000_000.0 if config['model_type'] == _GEMMA else 10_000.0
  theta = float(new.get('rope_theta', config.get('rope_theta', usual)))
  rope = new or old
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if kind == 'default':
    return theta, ()
  if kind == 'linear':
    return theta, (float(rope['factor']),)
  if kind == 'llama3':
    return theta, tuple(float(rope[name]) for name in _SCALING)
  raise ValueError(
    f"{path}: rope_type is {kind!r}: expected 'default', 'linear' or 'llama3'."
  )


def rope(config: config_lib.Model) -> dict[str, Any]:
  """Fields of config.json that say how positions turn, of old and of new."""
  numbers = config.rope_scaling
  kind = {0: 'default', 1: 'linear', 4: 'llama3'}[len(numbers)]
  scaling = dict(zip(_SCALING, numbers, strict=False)) | {'rope_type': kind}
  theta = {'rope_theta': config.rope_theta}
  old = {'rope_scaling': scaling} if numbers else {}
  return theta | old | {'rope_parameters': scaling | theta}


def number(config: Mapping[str, Any], field: str, path: pathlib.Path) -> int:
  """A field that must be a whole number above 0."""
  value = config.get(field)
  if not isinstance(value, int) or value < 1:
    raise ValueError(
      f'{path}: {field} is {value!r}: expected a whole number above 0.'
    )
  return value
