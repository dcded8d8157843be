"""Converts a Hugging Face config.json to our model settings.

Supported are architectures whose blocks are attention and a gated MLP: Llama
(2307.09288, 2407.21783), Mistral (2310.06825), SmolLM, Qwen 2.5 (2412.15115),
Qwen 3 (2505.09388), the text part of Gemma 3 (2503.19786), which norms the
input and the output of each branch, SmolLM 3, some of whose blocks have no
rotary positions, and OLMo 2 (2501.00656), which norms only the output of each
branch. A field that is missing gets the default of transformers.
"""

import dataclasses
import pathlib
import warnings
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import hf_fields, hf_known_fields, hf_layers, hf_rope

_ACTS = {
  'silu': 'silu', 'swish': 'silu', 'gelu_pytorch_tanh': 'gelu',
  'gelu_new': 'gelu',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
  """An architecture and the defaults of transformers for its fields.

  Attributes:
    architecture: name of its class.
    fields: fields that it reads besides those of every architecture.
    kv_heads: num_key_value_heads. None means num_attention_heads.
    head_size: head_dim. None means hidden_size / num_attention_heads.
    max_positions: max_position_embeddings.
    theta: rope_theta.
    eps: rms_norm_eps.
    tied: tie_word_embeddings.
    qk_norm: whether queries and keys are normed. It has no field.
    qkv_bias: whether queries, keys and values have a bias. None means that
      attention_bias decides, for the output projection too.
    act: the activation.
  """

  architecture: str
  fields: frozenset[str] = frozenset({'hidden_act'})
  kv_heads: int | None = None
  head_size: int | None = None
  max_positions: int = 2048
  theta: float = 10_000.0
  eps: float = 1e-6
  tied: bool = False
  qk_norm: bool = False
  qkv_bias: bool | None = None
  act: str = 'silu'


_BIAS = frozenset({'hidden_act', 'attention_bias'})
_WINDOW = {'sliding_window', 'use_sliding_window', 'max_window_layers'}
FAMILIES = {
  'llama': Family('LlamaForCausalLM', _BIAS),
  'mistral': Family(
    'MistralForCausalLM', frozenset({'hidden_act', 'sliding_window'}),
    kv_heads=8, max_positions=131_072, qkv_bias=False,
  ),
  'ministral': Family(
    'MinistralForCausalLM', frozenset({'hidden_act', 'sliding_window'}),
    kv_heads=8, max_positions=131_072, qkv_bias=False,
  ),
  'qwen2': Family(
    'Qwen2ForCausalLM', _BIAS | _WINDOW, kv_heads=32, max_positions=32_768,
    qkv_bias=True,
  ),
  'qwen3': Family(
    'Qwen3ForCausalLM', _BIAS | _WINDOW, kv_heads=32, head_size=128,
    max_positions=32_768, qk_norm=True,
  ),
  'gemma3_text': Family(
    'Gemma3ForCausalLM',
    # `hidden_act` is not read, and published files have it.
    _BIAS | {
      'hidden_activation', 'sliding_window', 'sliding_window_pattern',
      'query_pre_attn_scalar', 'attn_logit_softcapping',
      'final_logit_softcapping', 'rope_local_base_freq',
    },
    kv_heads=4, head_size=256, max_positions=131_072, theta=1_000_000.0,
    tied=True, qk_norm=True, act='gelu_pytorch_tanh',
  ),
  'smollm3': Family(
    'SmolLM3ForCausalLM',
    _BIAS | _WINDOW | {'no_rope_layers', 'no_rope_layer_interval'},
    kv_heads=4, max_positions=32_768, theta=2_000_000.0, tied=True,
  ),
  'olmo2': Family('Olmo2ForCausalLM', _BIAS, eps=1e-5, qk_norm=True),
}  # fmt: skip
ARCHITECTURES = {name: f.architecture for name, f in FAMILIES.items()}
_GEMMA, _MULTIMODAL = 'gemma3_text', 'gemma3'
_LOCAL_THETA = 10_000.0  # Of Gemma 3.
# Published multimodal files leave out sizes that are defaults of transformers.
_TEXT_SIZES = dict(
  vocab_size=262_208, hidden_size=2304, intermediate_size=9216,
  num_hidden_layers=26, num_attention_heads=8,
)  # fmt: skip
# Fields of a multimodal config.json that describe images and their tokens.
_IMAGE_FIELDS = frozenset({
  'vision_config', 'mm_tokens_per_image', 'boi_token_index', 'eoi_token_index',
  'image_token_index', 'image_token_id', 'boi_token_id', 'eoi_token_id',
})  # fmt: skip


def text_config(config: hf_fields.Config, path: pathlib.Path) -> dict[str, Any]:
  """Returns the config.json of the text model.

  That of a text model is returned unchanged. Of a multimodal Gemma 3, it is the
  part `text_config`, with what the outer part determines: whether the head is
  tied, and the ids of special tokens.

  Args:
    config: content of config.json.
    path: path of the file, for messages.

  Raises:
    ModelFileError: a field is not supported. The message names it.
  """
  if config.get('model_type') != _MULTIMODAL:
    return dict(config)
  outer = {k: v for k, v in config.items() if k != 'text_config'}
  hf_known_fields.check(outer, _IMAGE_FIELDS, path)
  inner = _TEXT_SIZES | hf_fields.mapping(config, 'text_config', path)
  if inner.setdefault('model_type', _GEMMA) != _GEMMA:
    hf_fields.fail(
      path, 'text_config.model_type', inner['model_type'], repr(_GEMMA)
    )
  if inner.pop('final_logit_softcapping', None) is not None:
    warnings.warn(
      f'{path}: final_logit_softcapping has no effect: transformers ignores it '
      'in the multimodal architecture.',
      errors.ModelFileWarning,
      stacklevel=3,
    )
  inner['tie_word_embeddings'] = config.get('tie_word_embeddings', True)
  for field in ('bos_token_id', 'eos_token_id', 'pad_token_id', 'dtype',
                'torch_dtype'):  # fmt: skip
    if config.get(field) is not None:
      inner[field] = config[field]
  return inner


def model_settings(
  config: hf_fields.Config, path: pathlib.Path
) -> dict[str, Any]:
  """Returns the fields of `model.config.Model` that a config.json determines.

  Args:
    config: content of config.json, of a text model.
    path: path of the file, for error messages.

  Raises:
    ModelFileError: the architecture, or one of its options, is not supported,
      or a field is not known. The message names the field.
  """
  model_type = config.get('model_type')
  if not isinstance(model_type, str) or model_type not in FAMILIES:
    raise errors.ModelFileError(
      f'{path}: model_type is {model_type!r}: expected one of '
      f'{(*FAMILIES, _MULTIMODAL)}.'
    )
  family = FAMILIES[model_type]
  hf_known_fields.check(config, family.fields, path)
  hf_fields.check_token_ids(config, path)
  width = hf_fields.positive_int(config, 'hidden_size', path)
  heads, kv_heads, head_size = _heads(config, family, width, path)
  bias = hf_fields.flag(config, 'attention_bias', False, path)
  rope = dict(max_positions=family.max_positions, head_size=head_size)
  if model_type == _GEMMA:
    thetas = family.theta, _LOCAL_THETA
    own = _gemma(config, width, path) | hf_rope.gemma_settings(
      config, path, thetas=thetas, **rope
    )
  else:
    own = hf_rope.settings(config, path, theta=family.theta, **rope)
  if model_type == 'olmo2':
    own |= dict(pre_norms=False, post_norms=True, qk_norm_whole=True)
  return dict(
    width=width,
    num_layers=hf_fields.positive_int(config, 'num_hidden_layers', path),
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_size=head_size,
    qk_norm=family.qk_norm,
    act=_activation(config, family, path),
    qkv_bias=bias if family.qkv_bias is None else family.qkv_bias,
    out_bias=bias and family.qkv_bias is None,
    tied=hf_fields.flag(config, 'tie_word_embeddings', family.tied, path),
    norm_eps=hf_fields.number(config, 'rms_norm_eps', family.eps, path),
    **own,
    **hf_layers.settings(config, path),
  )


def _heads(config, family, width, path) -> tuple[int, int, int]:
  """Returns the numbers of query and of key heads, and the size of a head."""
  heads = hf_fields.positive_int(config, 'num_attention_heads', path)
  kv_heads = (
    hf_fields.optional_int(config, 'num_key_value_heads', family.kv_heads, path)
    or heads
  )
  if heads % kv_heads:
    hf_fields.fail(
      path, 'num_key_value_heads', kv_heads,
      f'a divisor of num_attention_heads {heads}',
    )  # fmt: skip
  head_size = (
    hf_fields.optional_int(config, 'head_dim', family.head_size, path)
    or width // heads
  )
  if head_size < 2 or head_size % 2:
    hf_fields.fail(
      path, 'head_dim', head_size,
      'an even size of 2 or more, because rotary positions rotate pairs',
    )  # fmt: skip
  return heads, kv_heads, head_size


def _activation(config, family, path) -> str:
  gemma = family.architecture == ARCHITECTURES[_GEMMA]
  field = 'hidden_activation' if gemma else 'hidden_act'
  act = config.get(field, family.act)
  if not isinstance(act, str) or act not in _ACTS:
    hf_fields.fail(path, field, act, f'one of {tuple(_ACTS)}')
  return _ACTS[act]


def _gemma(config, width, path) -> dict[str, Any]:
  """Returns the settings that only Gemma 3 has."""
  scalar = hf_fields.number(config, 'query_pre_attn_scalar', 256, path)
  if hf_fields.optional_number(config, 'attn_logit_softcapping', path):
    warnings.warn(
      f'{path}: attn_logit_softcapping has no effect: transformers reads it '
      'and does not apply it in Gemma 3.',
      errors.ModelFileWarning,
      stacklevel=3,
    )
  return dict(
    norm_offset=1.0,
    post_norms=True,
    embed_scale=width**0.5,
    query_scale=scalar**-0.5,
    logit_cap=hf_fields.optional_number(
      config, 'final_logit_softcapping', path
    ),
  )
