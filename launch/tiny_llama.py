"""Writes a tiny random Llama checkpoint as a Hugging Face directory.

    python launch/tiny_llama.py FOLDER

For tests and benchmarks that need an imported model and must not download one.
The directory holds config.json, model.safetensors, a byte-level tokenizer.json,
tokenizer_config.json and a chat template.
"""

import json
import pathlib
import sys

import numpy as np
import tokenizers
from safetensors import numpy as safetensors
from tokenizers import decoders, models, pre_tokenizers

WIDTH, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_SIZE = 32, 64, 2, 4, 2, 8
SPECIAL = ('<|start|>', '<|end|>')
TEMPLATE = (
  '{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n'
  '{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}'
)


def write(folder: pathlib.Path, seed: int = 0) -> None:
  """Writes the checkpoint; the folder is created if it is missing."""
  folder.mkdir(parents=True, exist_ok=True)
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocab = {piece: number for number, piece in enumerate(alphabet)}
  tokenizer = tokenizers.Tokenizer(models.BPE(vocab, []))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens(list(SPECIAL))
  tokenizer.save(str(folder / 'tokenizer.json'))
  bos, eos = (tokenizer.token_to_id(token) for token in SPECIAL)
  vocab_size = tokenizer.get_vocab_size()
  config = dict(
    model_type='llama', architectures=['LlamaForCausalLM'],
    vocab_size=vocab_size, hidden_size=WIDTH, intermediate_size=HIDDEN,
    num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS, head_dim=HEAD_SIZE, hidden_act='silu',
    rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
    max_position_embeddings=512, bos_token_id=bos, eos_token_id=eos,
  )  # fmt: skip
  (folder / 'config.json').write_text(json.dumps(config, indent=2))
  (folder / 'tokenizer_config.json').write_text(
    json.dumps(
      {
        'bos_token': SPECIAL[0],
        'eos_token': SPECIAL[1],
        'chat_template': TEMPLATE,
      }
    )
  )
  safetensors.save_file(
    _tensors(vocab_size, seed), folder / 'model.safetensors'
  )


def _tensors(vocab_size: int, seed: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)

  def matrix(*shape):
    return rng.normal(size=shape).astype('f4') * shape[-1] ** -0.5

  heads, kv_heads = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
  shapes = {
    'self_attn.q_proj': (heads, WIDTH),
    'self_attn.k_proj': (kv_heads, WIDTH),
    'self_attn.v_proj': (kv_heads, WIDTH),
    'self_attn.o_proj': (WIDTH, heads),
    'mlp.gate_proj': (HIDDEN, WIDTH),
    'mlp.up_proj': (HIDDEN, WIDTH),
    'mlp.down_proj': (WIDTH, HIDDEN),
  }
  ones = np.ones(WIDTH, 'f4')
  made = {
    'model.embed_tokens.weight': matrix(vocab_size, WIDTH),
    'model.norm.weight': ones,
  }
  for layer in range(LAYERS):
    prefix = f'model.layers.{layer}.'
    for name, shape in shapes.items():
      made[f'{prefix}{name}.weight'] = matrix(*shape)
    for name in ('input_layernorm', 'post_attention_layernorm'):
      made[f'{prefix}{name}.weight'] = ones.copy()
  return made


if __name__ == '__main__':
  write(pathlib.Path(sys.argv[1]))
