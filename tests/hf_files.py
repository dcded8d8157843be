"""Small Hugging Face checkpoints with random weights for tests.

Windows, caps and rope scalings are small enough to change the logits of a dozen
tokens.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import tokenizers
from safetensors import numpy as safetensors
from tokenizers import decoders, models, pre_tokenizers, trainers

from sleep_jax.interop import hf_checkpoint, hf_import
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from tests import testing

V, D, F, L, K = 37, 16, 24, 3, 6
LLAMA3 = dict(
  rope_type='llama3', factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
  original_max_position_embeddings=16,
)  # fmt: skip
FAMILIES = {
  'llama': dict(),
  'llama3': dict(model_type='llama', rope_theta=500.0, rope_scaling=LLAMA3),
  'llama_new': dict(
    model_type='llama', rope_parameters=LLAMA3 | dict(rope_theta=500.0)
  ),
  'llama_bias': dict(model_type='llama', attention_bias=True),
  'smollm': dict(model_type='llama', tie_word_embeddings=True),
  'mistral': dict(num_key_value_heads=1, sliding_window=None),
  'mistral_local': dict(
    model_type='mistral', num_key_value_heads=1, sliding_window=4
  ),
  'qwen2': dict(tie_word_embeddings=True, use_sliding_window=False),
  'qwen2_local': dict(
    model_type='qwen2',
    use_sliding_window=True,
    sliding_window=3,
    max_window_layers=1,
  ),
  'qwen3': dict(num_key_value_heads=4, tie_word_embeddings=True),
  'qwen3_local': dict(
    model_type='qwen3',
    use_sliding_window=True,
    sliding_window=4,
    layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
    # Local blocks have the same rotary positions as global ones.
    rope_parameters=dict(rope_type='linear', factor=8.0, rope_theta=50.0),
  ),
  'gemma3': dict(
    model_type='gemma3_text',
    hidden_activation='gelu_pytorch_tanh',
    tie_word_embeddings=True,
    query_pre_attn_scalar=10,
    sliding_window=4,
    attn_logit_softcapping=1.5,
    final_logit_softcapping=2.0,
    layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
    rope_parameters={
      'full_attention': dict(rope_type='linear', factor=8.0, rope_theta=1000.0),
      'sliding_attention': dict(rope_type='default', rope_theta=50.0),
    },
  ),
}


def config(family: str) -> dict[str, Any]:
  """Returns the config.json of a family."""
  fields = dict(
    model_type=family, vocab_size=V, hidden_size=D, intermediate_size=F,
    num_hidden_layers=L, num_attention_heads=4, num_key_value_heads=2,
    head_dim=K, hidden_act='silu', rms_norm_eps=1e-5, rope_theta=100.0,
    tie_word_embeddings=False, max_position_embeddings=128,
  )  # fmt: skip
  return fields | FAMILIES[family]


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
  """Returns random tensors; no norm scale is 1 and no bias is 0."""
  random = np.random.default_rng(seed)
  heads, kv = config['num_attention_heads'], config['num_key_value_heads']
  model_type, vocab_size = config['model_type'], config['vocab_size']
  gemma, bias = model_type == 'gemma3_text', config.get('attention_bias', False)

  def draw(*shape):
    return random.normal(size=shape).astype('f4') * shape[-1] ** -0.5

  def norm(size):
    return random.uniform(0.5, 1.5, size).astype('f4') - gemma

  # If the head is tied, large rows would make every token predict itself.
  scale = 1 if config['tie_word_embeddings'] else 4
  made = {'model.embed_tokens.weight': draw(vocab_size, D) * scale}
  made['model.norm.weight'] = norm(D)
  if not config['tie_word_embeddings']:
    made['lm_head.weight'] = draw(vocab_size, D)
  for layer in range(L):
    at = f'model.layers.{layer}.'
    made[f'{at}input_layernorm.weight'] = norm(D)
    made[f'{at}post_attention_layernorm.weight'] = norm(D)
    if gemma:
      made[f'{at}pre_feedforward_layernorm.weight'] = norm(D)
      made[f'{at}post_feedforward_layernorm.weight'] = norm(D)
    for name, size in (('q', heads * K), ('k', kv * K), ('v', kv * K)):
      made[f'{at}self_attn.{name}_proj.weight'] = draw(size, D)
      if bias or model_type == 'qwen2':
        made[f'{at}self_attn.{name}_proj.bias'] = draw(size)
      if (model_type == 'qwen3' or gemma) and name != 'v':
        made[f'{at}self_attn.{name}_norm.weight'] = norm(K)
    made[f'{at}self_attn.o_proj.weight'] = draw(D, heads * K)
    if bias:
      made[f'{at}self_attn.o_proj.bias'] = draw(D)
    for name, shape in (('gate', (F, D)), ('up', (F, D)), ('down', (D, F))):
      made[f'{at}mlp.{name}_proj.weight'] = draw(*shape)
  return made


def save(
  folder: pathlib.Path, family: str, *, files=1, dtype='f4', seed=0, **changes
):
  """Writes a checkpoint; returns its config and its tensors."""
  folder.mkdir(exist_ok=True)
  fields = config(family) | changes
  named = {n: x.astype(dtype) for n, x in tensors(fields, seed).items()}
  (folder / 'config.json').write_text(json.dumps(fields))
  if files == 1:
    safetensors.save_file(named, folder / 'model.safetensors')
    return fields, named
  names = sorted(named)
  index = {}
  for number in range(files):
    part = names[number::files]
    name = f'model-{number + 1:05d}-of-{files:05d}.safetensors'
    safetensors.save_file({n: named[n] for n in part}, folder / name)
    index |= dict.fromkeys(part, name)
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'metadata': {}, 'weight_map': index})
  )
  return fields, named


def load(folder, *, arrangement='sequential', mesh=(1, 1, 1), **options):
  """Imports a checkpoint with two levels; returns model and weights."""
  base_model = hf_checkpoint.read(str(folder))
  data, fsdp, tensor = mesh
  placement = testing.placement(data=data, fsdp=fsdp, tensor=tensor)
  fast, slow = testing.levels((1, 'experience'))
  settings = {}
  if arrangement == 'depth':
    fast['hidden'], settings = base_model.hidden, {'layer_levels': (2, 2, 1)}
  model_config = config_lib.make(
    {**base_model.settings, 'arrangement': arrangement, **settings},
    (fast, slow | dict(hidden=base_model.hidden)),
    vocab_size=base_model.vocab_size,
  )
  model = transformer.Transformer(model_config)
  return model, hf_import.load(
    base_model, model, placement, key=jax.random.key(0), **options
  )


def save_tokenizer(
  folder: pathlib.Path, texts: list[str], size: int = 300
) -> int:
  """Writes a byte-level tokenizer.json; returns the id of <|end|>, its last."""
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  tokenizer.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False
    ),
  )
  tokenizer.add_special_tokens(['<|end|>'])
  tokenizer.save(str(folder / 'tokenizer.json'))
  return tokenizer.token_to_id('<|end|>')


def save_chat_model(folder: pathlib.Path, template: str) -> pathlib.Path:
  """Writes a small model with a chat template; returns its folder."""
  folder.mkdir()
  end = save_tokenizer(folder, ['user: a cat', 'assistant: sat'])
  save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': template})
  )
  return folder
