"""Families of checkpoints: what a config.json says of a model, in our words.

Those whose blocks are attention and a gated MLP: Llama (2307.09288,
2407.21783), Mistral (2310.06825), SmolLM, Qwen 2.5 (2412.15115), Qwen 3
(2505.09388), and Gemma 3 as text (2503.19786), which norms each branch twice,
scales embeddings, and may bound scores and logits. What a file leaves out is
what transformers takes it for.
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
# What transformers takes where a file leaves it out: key heads, head size.
_LEFT_OUT = {
  'mistral': (8, None), 'qwen2': (32, None), 'qwen3': (32, 128),
  'gemma3_text': (4, 256),
}  # fmt: skip
_SCALING = (
  'factor', 'low_freq_factor', 'high_freq_factor',
  'original_max_position_embeddings',
)  # fmt: skip
_GEMMA, _QWEN = 'gemma3_text', ('qwen2', 'qwen3')
_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
_WINDOW, _FIRST_LOCAL, _EVERY = 4096, 28, 6  # Of files that do not say.
_ACTS = {'silu': 'silu', 'gelu_pytorch_tanh': 'gelu'}


def model_settings(config: Mapping[str, Any], path: pathlib.Path) -> dict[str, Any]:
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
  usual = 'gelu_pytorch_tanh' if kind == _GEMMA else 'silu'
  act = config.get('hidden_activation') or config.get('hidden_act', usual)
  if act not in _ACTS:
    raise ValueError(
      f'{path}: hidden_act is {act!r}: expected one of {tuple(_ACTS)}.'
    )
  gemma, bias = kind == _GEMMA, bool(config.get('attention_bias'))
  refused: dict[str, Any] = dict(
    mlp_bias=False, quantization_config=None, use_bidirectional_attention=False
  )
  if not gemma:
    refused['final_logit_softcapping'] = None
  if kind == 'mistral':
    refused['attention_bias'] = False
  for field, expected in refused.items():
    found = config.get(field) or expected
    if found != expected:
      raise ValueError(
        f'{path}: {field} is {found!r}: expected {expected!r}, nothing else '
        'can be read.'
      )
  width = positive_int(config, 'hidden_size', path)
  heads = positive_int(config, 'num_attention_heads', path)
  theta, scaling = _rope(config, path)
  key_heads, head = _LEFT_OUT.get(kind, (None, None))
  return dict(
    width=width,
    num_layers=positive_int(config, 'num_hidden_layers', path),
    num_heads=heads,
    num_kv_heads=config.get('num_key_value_heads', key_heads) or heads,
    head_size=config.get('head_dim', head) or width // heads,
    qk_norm=kind in ('qwen3', _GEMMA),
    act=_ACTS[act],
    qkv_bias=bias or kind == 'qwen2',
    out_bias=bias and kind != 'qwen2',
    tied=bool(config.get('tie_word_embeddings', gemma)),
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=float(config.get('rms_norm_eps', 1e-6)),
    **_window(config, path),
    **(_gemma(config, width) if gemma else {}),
  )


def _gemma(config, width) -> dict[str, Any]:
  """What Gemma 3 has beside what all have."""
  near = (config.get('rope_parameters') or {}).get(_LOCAL) or {}
  theta = near.get('rope_theta', config.get('rope_local_base_freq', 10_000.0))
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
  """Which blocks are local, and how far those see."""
  kind = config['model_type']
  places = range(positive_int(config, 'num_hidden_layers', path))
  told = {'sliding_window': _WINDOW} | dict(config)
  off = told['sliding_window'] is None or kind == 'llama'
  if kind in _QWEN:
    off = off or not config.get('use_sliding_window')
  window = 0 if off else positive_int(told, 'sliding_window', path)
  if kind == _GEMMA:  # One in so many sees all.
    every = config.get('sliding_window_pattern', _EVERY)
    local = [(place + 1) % every != 0 for place in places]
  else:
    first = config.get('max_window_layers', _FIRST_LOCAL)
    local = [not off and (kind not in _QWEN or place >= first)
             for place in places]  # fmt: skip
  named = config.get('layer_types')
  if named is not None:
    usual, local = local, [name == _LOCAL for name in named]
    # transformers lets only some families mix them.
    wrong = kind in ('llama', 'mistral') and local != usual
    if wrong or len(named) != len(places) or set(named) - {_LOCAL, _GLOBAL}:
      raise ValueError(
        f'{path}: layer_types is {named}: expected {len(places)} times '
        f'{_LOCAL!r} or {_GLOBAL!r}, in a {kind!r} as sliding_window says.'
      )
  if any(local) and off:
    raise ValueError(
      f'{path}: some blocks are {_LOCAL!r}, but sliding_window is off or null: '
      'say how many tokens they see.'
    )
  return dict(window=window, local=tuple(local)) if any(local) else {}


def _rope(config, path) -> tuple[float, tuple[float, ...]]:
  """Theta and scaling, from the fields of old and of new."""
  new = config.get('rope_parameters') or {}
  new = new.get(_GLOBAL, new)  # Of the blocks that see all.
  old = config.get('rope_scaling') or {}
  usual = 1_000_000.0 if config['model_type'] == _GEMMA else 10_000.0
  theta = float(new.get('rope_theta', config.get('rope_theta', usual)))
  rope = new or old
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if kind == 'default':
    return theta, ()
  needed = {'linear': _SCALING[:1], 'llama3': _SCALING}.get(kind)
  if needed is None:
    raise ValueError(
      f"{path}: rope_type is {kind!r}: expected 'default', 'linear' or "
      "'llama3'."
    )
  missing = [name for name in needed if name not in rope]
  if missing:
    raise ValueError(
      f'{path}: rope_type is {kind!r}, but {", ".join(missing)} of its '
      f'{len(needed)} numbers are not there: expected {", ".join(needed)}.'
    )
  return theta, tuple(float(rope[name]) for name in needed)


def rope_fields(config: config_lib.Model) -> dict[str, Any]:
  """Fields of config.json that say how positions turn, of old and of new."""
  numbers = config.rope_scaling
  kind = {0: 'default', 1: 'linear', 4: 'llama3'}[len(numbers)]
  scaling = dict(zip(_SCALING, numbers, strict=False)) | {'rope_type': kind}
  theta = {'rope_theta': config.rope_theta}
  old = {'rope_scaling': scaling} if numbers else {}
  return theta | old | {'rope_parameters': scaling | theta}


def window_fields(config: config_lib.Model, kind: str) -> dict[str, Any]:
  """Fields of config.json that say how far blocks see, of old and of new."""
  if not config.window:
    return {}
  if kind not in _QWEN:
    return dict(sliding_window=config.window)
  return dict(
    sliding_window=config.window,
    use_sliding_window=True,
    max_window_layers=config.local.index(True),
    layer_types=[_LOCAL if local else _GLOBAL for local in config.local],
  )


def positive_int(config: Mapping[str, Any], field: str, path: pathlib.Path) -> int:
  """A field that must be a whole number above 0."""
  value = config.get(field)
  if not isinstance(value, int) or value < 1:
    raise ValueError(
      f'{path}: {field} is {value!r}: expected a whole number above 0.'
    )
  return value
