"""Texts of requests are encoded as the harness encodes them."""

import types

import pytest

from sleep_jax import errors
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import eval_tokenizer, lm_eval
from tests import chat_model, chat_templates


@pytest.fixture
def make(tmp_path):
  """Returns a tokenizer of a directory with options, and its raw form."""

  def make(add_bos=False, fields=None, **options):
    raw = chat_model.save_tokenizer(
      tmp_path, add_bos=add_bos, template=chat_templates.TEMPLATES['gemma'],
      **(fields or {}),
    )  # fmt: skip
    own = tokenizer_lib.HuggingFace(
      raw.to_str(), bos=raw.token_to_id('<s>'), eos=raw.token_to_id('</s>'),
      vocab_size=raw.get_vocab_size(),
    )  # fmt: skip
    loaded = types.SimpleNamespace(
      tokenizer=own,
      base_model=types.SimpleNamespace(folder=tmp_path, config={}),
      end_tokens=(own.eos,),
    )
    return eval_tokenizer.EvalTokenizer(loaded, **options), raw, loaded

  return make


def _ids(raw, text):
  return raw.encode(text, add_special_tokens=False).ids


def test_bos_stands_where_the_file_or_the_option_says(make):
  text, bos = 'the cat', 0
  for add_bos, option, first in (
    (False, None, False), (True, None, True), (False, True, True),
    (True, False, False),
  ):  # fmt: skip
    made, raw, _ = make(add_bos, add_bos_token=option)
    expected = [bos] * first + _ids(raw, text)
    assert made.encode(text) == made.encode_context(text) == expected
    assert made.encode(text, add_special_tokens=False) == _ids(raw, text)
    # A text that begins with BOS gets no second one.
    assert made.encode('<s>' + text) == [bos, *_ids(raw, text)]
    assert made.encode_context('<s>' + text) == [bos, *_ids(raw, text)]


def test_names_of_special_tokens_are_tokens(make):
  made, raw, loaded = make()
  ids = made.encode('<|start|>user\nhi<|stop|>')
  start, stop = raw.token_to_id('<|start|>'), raw.token_to_id('<|stop|>')
  assert ids[0] == start and ids[-1] == stop
  assert start not in loaded.tokenizer.encode('<|start|>')  # Of a user's text.
  assert made.decode(ids) == '<|start|>user\nhi<|stop|>'
  assert made.decode(ids, skip_special_tokens=True) == 'user\nhi'


def test_the_prefix_is_bos_or_eos_or_the_option(make):
  assert make()[0].prefix_token_id == 0
  assert make(fields={'bos_token': None})[0].prefix_token_id == 1
  assert make(prefix_token_id=7)[0].prefix_token_id == 7
  assert make()[0].eos_text == '</s>'
  with pytest.raises(errors.UsageError, match='prefix_token_id=9999'):
    make(prefix_token_id=9999)
  with pytest.raises(errors.UsageError, match='no "bos_token"'):
    make(fields={'bos_token': None}, add_bos_token=True)


def test_contexts_are_truncated_if_that_is_asked_for(make):
  fields, text = {'model_max_length': 4}, 'the cat sat on the mat'
  made, raw, _ = make(True, fields)
  assert made.encode_context(text) == [0, *_ids(raw, text)]
  made, raw, _ = make(True, fields, truncation=True)
  assert made.encode_context(text) == [0, *_ids(raw, text)[:3]]
  assert made.encode(text) == [0, *_ids(raw, text)]
  left = fields | {'truncation_side': 'left'}
  made, raw, _ = make(True, left, truncation=True)
  assert made.encode_context(text) == [0, *_ids(raw, text)[-3:]]


def test_system_messages_are_left_out_if_the_template_refuses_them(make):
  _, _, loaded = make()
  model = lm_eval.LmEvalModel(loaded, max_length=8)
  asked = [{'role': 'system', 'content': 's'}, {'role': 'user', 'content': 'a'}]
  text = model.apply_chat_template(asked)
  assert text == '<s><|start|>user\na<|stop|>\n<|start|>model\n'
  begun = [*asked, {'role': 'assistant', 'content': 'b c'}]
  assert model.apply_chat_template(begun, add_generation_prompt=False) == (
    '<s><|start|>user\na<|stop|>\n<|start|>model\nb c'
  )
  assert model.chat_template().source == chat_templates.TEMPLATES['gemma']
