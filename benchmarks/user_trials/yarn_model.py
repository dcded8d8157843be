"""Writes a tiny random Qwen 3 with yarn, as transformers saves it.

    python benchmarks/user_trials/yarn_model.py FOLDER
    python benchmarks/user_trials/yarn_model.py FOLDER --ask TEXT NUM_TOKENS

Both need torch, transformers and tokenizers. The second prints the greedy
answer of transformers to a message.
"""

import sys

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ('<|endoftext|>', '<|im_start|>', '<|im_end|>')
TEXT = (
  'Ann lives in Oslo and keeps a cat.', 'Bo lives in Bergen and keeps a dog.',
  'Where does Ann live? In Oslo, where she works as a cook.',
)  # fmt: skip
TEMPLATE = """\
{%- if messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role in ('user', 'system') and (message.role == 'user' \
or not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{%- set content = message.content %}
{%- if '</think>' in content %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""


def write(folder: str) -> None:
  """Writes model, tokenizer and template with `save_pretrained`."""
  raw = Tokenizer(models.BPE())
  raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  raw.decoder = decoders.ByteLevel()
  raw.train_from_iterator(
    TEXT,
    trainers.BpeTrainer(
      vocab_size=320, special_tokens=list(SPECIAL),
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
  )  # fmt: skip
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=raw, eos_token='<|im_end|>', pad_token='<|endoftext|>'
  )
  tokenizer.chat_template = TEMPLATE
  tokenizer.save_pretrained(folder)
  torch.manual_seed(0)
  config = transformers.Qwen3Config(
    vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=1024, tie_word_embeddings=True,
    initializer_range=0.2, bos_token_id=None,
    eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    rope_parameters=dict(
      rope_type='yarn', rope_theta=1e6, factor=4.0,
      original_max_position_embeddings=256,
    ),
  )  # fmt: skip
  transformers.Qwen3ForCausalLM(config).save_pretrained(folder)


def answer(folder: str, message: str, num_tokens: int) -> str:
  """Returns the greedy answer of transformers to a message."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype='float32', attn_implementation='eager'
  )
  ids = tokenizer.apply_chat_template(
    [{'role': 'user', 'content': message}], add_generation_prompt=True,
    return_tensors='pt', return_dict=True,
  )  # fmt: skip
  made = model.generate(**ids, max_new_tokens=num_tokens, do_sample=False)
  return tokenizer.decode(
    made[0, ids['input_ids'].shape[1] :], skip_special_tokens=True
  )


if __name__ == '__main__':
  if len(sys.argv) == 2:
    write(sys.argv[1])
  else:
    print(answer(sys.argv[1], sys.argv[3], int(sys.argv[4])))
