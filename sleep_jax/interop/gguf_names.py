"""Maps tensor names of GGUF files to those of transformers, with their shapes.

Covers Llama, Qwen 2, Qwen 3 and Gemma 3, with the GGUF names of llama.cpp. A
file with any other tensor is refused, because its effect is not known.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import gguf_tensor

EMBEDDING, HEAD = 'token_embd.weight', 'output.weight'
ROPE_FACTORS = 'rope_freqs.weight'
# The architecture of a GGUF file -> model_type of config.json.
MODEL_TYPES = {
  'llama': 'llama', 'qwen2': 'qwen2', 'qwen3': 'qwen3', 'gemma3': 'gemma3_text',
}  # fmt: skip
_GEMMA = 'gemma3_text'


@dataclasses.dataclass(frozen=True)
class Place:
  """A tensor of a model, in both formats.

  Attributes:
    name: name in a GGUF file.
    hf_name: name in transformers.
    shape: its shape, the same in both.
    head_size, added: how the GGUF file stores it, see
      `gguf_tensor.GgufTensor`.
  """

  name: str
  hf_name: str
  shape: tuple[int, ...]
  head_size: int = 0
  added: float = 0.0


def places(config: Mapping[str, Any]) -> Iterator[Place]:
  """Yields all tensors of a model.

  Args:
    config: content of config.json, with all sizes and `attention_bias`.
  """
  width, hidden = config['hidden_size'], config['intermediate_size']
  size, model_type = config['head_dim'], config['model_type']
  queries, keys = (
    config[name] * size
    for name in ('num_attention_heads', 'num_key_value_heads')
  )
  gemma, out_bias = model_type == _GEMMA, config.get('attention_bias', False)
  added = float(gemma)
  # Llama's program rotates neighbours; the others rotate halves.
  rotated = size if model_type == 'llama' else 0
  embedding = (config['vocab_size'], width)
  yield Place(EMBEDDING, 'model.embed_tokens.weight', embedding)
  yield Place('output_norm.weight', 'model.norm.weight', (width,), 0, added)
  if not config['tie_word_embeddings']:
    yield Place(HEAD, 'lm_head.weight', embedding)
  norms = {
    'attn_norm': 'input_layernorm',
    'ffn_norm': 'post_attention_layernorm',
  }
  if gemma:
    norms |= {
      'post_attention_norm': 'post_attention_layernorm',
      'ffn_norm': 'pre_feedforward_layernorm',
      'post_ffw_norm': 'post_feedforward_layernorm',
    }
  matrices = {
    'attn_q': ('self_attn.q_proj', (queries, width), rotated),
    'attn_k': ('self_attn.k_proj', (keys, width), rotated),
    'attn_v': ('self_attn.v_proj', (keys, width), 0),
    'attn_output': ('self_attn.o_proj', (width, queries), 0),
    'ffn_gate': ('mlp.gate_proj', (hidden, width), 0),
    'ffn_up': ('mlp.up_proj', (hidden, width), 0),
    'ffn_down': ('mlp.down_proj', (width, hidden), 0),
  }
  biased = {'attn_q', 'attn_k', 'attn_v'} if model_type == 'qwen2' else set()
  if out_bias:
    biased = {'attn_q', 'attn_k', 'attn_v', 'attn_output'}
  for layer in range(config['num_hidden_layers']):
    ours, theirs = f'blk.{layer}.', f'model.layers.{layer}.'
    for name, other in norms.items():
      yield Place(
        f'{ours}{name}.weight', f'{theirs}{other}.weight', (width,), 0, added
      )
    for name, (other, shape, rotation) in matrices.items():
      yield Place(
        f'{ours}{name}.weight', f'{theirs}{other}.weight', shape, rotation
      )
      if name in biased:
        yield Place(
          f'{ours}{name}.bias', f'{theirs}{other}.bias', shape[:1], rotation
        )
    for name in ('q', 'k') if gemma or model_type == 'qwen3' else ():
      yield Place(
        f'{ours}attn_{name}_norm.weight',
        f'{theirs}self_attn.{name}_norm.weight',
        (size,), 0, added,
      )  # fmt: skip


def find(
  tensors: Mapping[str, gguf_tensor.GgufTensor],
  config: Mapping[str, Any],
  path: pathlib.Path,
) -> dict[str, gguf_tensor.GgufTensor]:
  """Returns the tensors of a file by their names in transformers.

  Args:
    tensors: of the file, by their names there.
    config: content of config.json.
    path: the file, for messages.

  Raises:
    ModelFileError: a tensor is missing, has another shape, or has no place in
      the model.
  """
  found = {}
  for place in places(config):
    tensor = tensors.get(place.name)
    if tensor is None:
      raise errors.ModelFileError(
        f'{path}: tensor {place.name!r} is missing, which a model of '
        f'{config["num_hidden_layers"]} blocks of type '
        f'{config["model_type"]!r} has: the file is incomplete; download it '
        'again.'
      )
    if tensor.shape != place.shape:
      raise errors.ModelFileError(
        f'{path}: tensor {place.name!r} has shape {tensor.shape}, but the '
        f'metadata requires {place.shape}: the file is damaged; download it '
        'again.'
      )
    found[place.hf_name] = dataclasses.replace(
      tensor, head_size=place.head_size, added=place.added
    )
  used = {place.name for place in places(config)} | {ROPE_FACTORS}
  unknown = sorted(set(tensors) - used)
  if unknown:
    raise errors.ModelFileError(
      f'{path}: tensor {unknown[0]!r} (of {len(unknown)} such) has no place in '
      f'a model of type {config["model_type"]!r}, so what it changes is not '
      'known. Use another file of this model.'
    )
  return found
