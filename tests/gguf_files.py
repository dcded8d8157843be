"""Small GGUF files for tests, written with the package `gguf`."""

import json
import pathlib
from typing import Any

import gguf
import numpy as np

ARCHITECTURES = {
  'llama': 'llama', 'qwen2': 'qwen2', 'qwen3': 'qwen3', 'gemma3_text': 'gemma3',
}  # fmt: skip
# Metadata of a tokenizer with four tokens.
WORDS = dict(
  model='gpt2', pre='gpt-2', tokens=['a', 'b', 'ab', '<|end|>'],
  merges=['a b'], token_type=[1, 1, 1, 3], eos_token_id=3,
)  # fmt: skip
_LAYER = {
  'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm',
  'input_layernorm': 'attn_norm', 'post_attention_layernorm': 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}  # fmt: skip
_GEMMA = {
  'post_attention_layernorm': 'post_attention_norm',
  'pre_feedforward_layernorm': 'ffn_norm',
  'post_feedforward_layernorm': 'post_ffw_norm',
}


def gguf_name(name: str, model_type: str) -> str:
  """Returns the name that llama.cpp gives to a tensor of transformers."""
  whole = {
    'model.embed_tokens.weight': 'token_embd.weight',
    'model.norm.weight': 'output_norm.weight',
    'lm_head.weight': 'output.weight',
  }
  if name in whole:
    return whole[name]
  _, _, layer, *middle, end = name.split('.')
  names = _LAYER | (_GEMMA if model_type == 'gemma3_text' else {})
  return f'blk.{layer}.{names[".".join(middle)]}.{end}'


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
  """Returns rows of queries or keys in the order of llama.cpp."""
  halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
  return halves.swapaxes(1, 2).reshape(rows.shape)


def metadata(config: dict[str, Any]) -> dict[str, Any]:
  """Returns the metadata of a model without its tokenizer."""
  gemma = config['model_type'] == 'gemma3_text'
  rope = config.get('rope_parameters') or {}
  found = {
    'context_length': config['max_position_embeddings'],
    'embedding_length': config['hidden_size'],
    'block_count': config['num_hidden_layers'],
    'feed_forward_length': config['intermediate_size'],
    'attention.head_count': config['num_attention_heads'],
    'attention.head_count_kv': config['num_key_value_heads'],
    'attention.key_length': config['head_dim'],
    'attention.value_length': config['head_dim'],
    'attention.layer_norm_rms_epsilon': config['rms_norm_eps'],
    'rope.freq_base': rope.get('rope_theta', config['rope_theta']),
    'rope.dimension_count': config['head_dim'],
  }
  if gemma:
    full, local = rope['full_attention'], rope['sliding_attention']
    found |= {
      'rope.freq_base': full['rope_theta'],
      'rope.freq_base_swa': local['rope_theta'],
      'rope.scaling.type': 'linear',
      'rope.scaling.factor': full['factor'],
      'attention.sliding_window': config['sliding_window'],
      'attention.sliding_window_pattern': [
        kind == 'sliding_attention' for kind in config['layer_types']
      ],
      'final_logit_softcapping': config['final_logit_softcapping'],
    }
  name = ARCHITECTURES[config['model_type']]
  return {f'{name}.{key}': value for key, value in found.items()}


def save(
  path: pathlib.Path,
  config: dict[str, Any],
  tensors: dict[str, np.ndarray],
  *,
  words: dict[str, Any] = WORDS,
  kind: str = 'F32',
  changes: dict[str, Any] | None = None,
  extra: dict[str, np.ndarray] | None = None,
) -> pathlib.Path:
  """Writes a GGUF file as llama.cpp does.

  Args:
    path: the file.
    config: content of config.json.
    tensors: by their names in transformers.
    words: metadata of the tokenizer, without its prefix.
    kind: type of the matrices.
    changes: further metadata; None removes a key.
    extra: further tensors, by their names in the file.
  """
  model_type = config['model_type']
  writer = gguf.GGUFWriter(path, ARCHITECTURES.get(model_type, model_type))
  fields = metadata(config) | {
    f'tokenizer.ggml.{key}': value for key, value in words.items()
  }
  fields |= changes or {}
  for key, value in fields.items():
    _add(writer, key, value)
  for name, value in tensors.items():
    if model_type == 'llama' and ('q_proj' in name or 'k_proj' in name):
      heads = 'num_attention_heads' if 'q_proj' in name else (
        'num_key_value_heads'
      )  # fmt: skip
      value = interleave(value, config[heads])
    if model_type == 'gemma3_text' and 'norm' in name:
      value = value + np.float32(1)
    quantized = kind if value.ndim > 1 else 'F32'
    _add_tensor(writer, gguf_name(name, model_type), value, quantized)
  for name, value in (extra or {}).items():
    _add_tensor(writer, name, value, 'F32')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def _add_tensor(writer, name, value, kind) -> None:
  number = gguf.GGMLQuantizationType[kind]
  value = gguf.quants.quantize(np.ascontiguousarray(value, np.float32), number)
  writer.add_tensor(name, value, raw_dtype=number)


def _add(writer, key, value) -> None:
  if value is None:
    return
  if isinstance(value, list):
    writer.add_array(key, value)
    return
  add = {
    bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
    str: writer.add_string,
  }  # fmt: skip
  add[type(value)](key, value)


def words_of(model: str, *, pre: str, **changes) -> dict[str, Any]:
  """Returns the metadata of a byte-level tokenizer.

  Args:
    model: content of its tokenizer.json. Its last token is EOS.
    pre: name of its pre-tokenizer.
    **changes: further metadata.
  """
  found = json.loads(model)
  ids = found['model']['vocab'] | {
    one['content']: one['id'] for one in found['added_tokens']
  }
  tokens = sorted(ids, key=ids.__getitem__)
  special = {one['id'] for one in found['added_tokens'] if one['special']}
  added = {one['id'] for one in found['added_tokens']}
  return dict(
    model='gpt2', pre=pre, tokens=tokens,
    merges=[' '.join(pair) for pair in found['model']['merges']],
    token_type=[
      3 if n in special else 4 if n in added else 1 for n in range(len(tokens))
    ],
    eos_token_id=len(tokens) - 1,
  ) | changes  # fmt: skip
