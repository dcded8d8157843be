"""Which models write conversations in a chat template, and with which date."""

import pytest

from sleep_jax import errors
from sleep_jax.datasets import row_formats
from sleep_jax.interop import chat_format, hf_checkpoint, hf_tokenizer
from tests import chat_model, hf_files

DATED = (
  "{{ strftime_now('%d %b %Y') }}{% for m in messages %}<|start|>{{ m['role'] "
  "}} {{ m['content'] }}<|stop|>{% endfor %}"
  '{% if add_generation_prompt %}<|start|>assistant {% endif %}'
)


def _load(home, template):
  tokenizer = chat_model.save_tokenizer(home, template=template)
  hf_files.save(
    home, 'llama', vocab_size=400, bos_token_id=tokenizer.token_to_id('<s>'),
    eos_token_id=tokenizer.token_to_id('<|stop|>'),
  )  # fmt: skip
  base_model = hf_checkpoint.read(str(home), weights=False)
  tokens = hf_tokenizer.load(base_model)
  return chat_format.load_writer(base_model, tokens), tokens


def test_rows_have_the_same_tokens_on_every_day(tmp_path):
  writer, tokenizer = _load(tmp_path, DATED)
  messages = [
    {'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Ho'}
  ]  # fmt: skip
  (row,) = row_formats.to_rows('a.jsonl:1', {'messages': messages})
  made = writer.encode(row, bos=tokenizer.bos)
  tokens, num_prompt, start = made.tokens, made.prompt_length, made.loss_start
  assert tokenizer.decode(tokens[:start]) == '01 Jan 2025user Hiassistant '
  assert (tokenizer.decode(tokens[start:]), num_prompt) == ('Ho', start)


def test_a_model_without_a_template_has_no_writer(tmp_path):
  assert _load(tmp_path, None)[0] is None
  assert chat_format.load_writer(None, None) is None


def test_a_template_that_cannot_be_used_is_refused(tmp_path):
  with pytest.raises(errors.ModelFileError, match='not valid Jinja'):
    _load(tmp_path, '{% for')
