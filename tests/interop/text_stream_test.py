"""Prompts and options of generation are checked before anything is computed."""

import dataclasses
import types

import jax
import pytest

from sleep_jax import errors
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import open_model, positions, text_stream
from sleep_jax.model import config, streaming, transformer
from tests import hf_files, testing


@pytest.fixture(scope='module')
def loaded():
  tokenizer = tokenizer_lib.make('bytes')
  levels = [vars(level) for level in testing.tiny().config.levels]
  settings = dict(width=8, num_layers=1, num_heads=2, num_kv_heads=1,
                  head_size=4)  # fmt: skip
  made = config.make(settings, levels, vocab_size=tokenizer.vocab_size)
  model = transformer.Transformer(made)
  return open_model.LoadedModel(
    model, testing.weights(model), tokenizer, (tokenizer.eos,)
  )


def _stream(loaded, rows, **options):
  weights = streaming.prepare(loaded.model, loaded.weights)
  return text_stream.stream(
    loaded, loaded.model, weights, rows, seed=0, **options
  )


def _with_positions(loaded, **fields):
  """Returns the model as if it were a checkpoint with this config.json."""
  values = hf_files.config('llama') | fields
  values = {k: v for k, v in values.items() if v is not None}
  base = types.SimpleNamespace(config=values)
  return dataclasses.replace(loaded, base_model=base)


@pytest.mark.parametrize('options, message', [
  ({'max_new': 0}, 'max_new is 0: expected a whole number, 1 or more'),
  ({'max_new': -3}, 'max_new is -3'),
  ({'max_new': 2.5}, 'max_new is 2.5'),
  ({'temperature': float('nan')}, 'temperature is nan: expected 0'),
  ({'temperature': float('inf')}, 'temperature is inf'),
  ({'temperature': -1.0}, 'temperature is -1.0'),
  ({'top_k': -1}, 'top_k is -1'),
  ({'top_p': 0.0}, 'top_p is 0.0'),
  ({'top_p': 1.5}, 'top_p is 1.5'),
  ({'top_p': float('nan')}, 'top_p is nan'),
])  # fmt: skip
def test_impossible_options_are_refused_at_once(loaded, options, message):
  with pytest.raises(errors.UsageError, match=message):
    _stream(loaded, [[256, 97]], **options)


def test_prompts_without_tokens_are_refused(loaded):
  for rows, message in (([], 'no prompt'), ([[1], []], 'Prompt 2 has no')):
    with pytest.raises(errors.UsageError, match=message):
      _stream(loaded, rows)
  for prompts, message in (
    (['a', ''], "Prompt 2 is ''"), ([None], 'Prompt 1 is None'),
    ('text', 'expected a list'), (['a\udc80'], 'no character'),
  ):  # fmt: skip
    with pytest.raises(errors.UsageError, match=message):
      text_stream.check_prompts(prompts)


def test_a_prompt_longer_than_the_positions_is_refused(loaded):
  short = _with_positions(loaded, max_position_embeddings=10)
  assert positions.max_positions(short) == 10
  positions.check(short, [[1] * 7], 3)
  message = 'Prompt 2 has 8 tokens, and 3 may follow .* has 10 positions'
  with pytest.raises(errors.UsageError, match=message):
    _stream(short, [[1], [1] * 8], max_new=3)
  default = _with_positions(loaded, max_position_embeddings=None)
  assert positions.max_positions(default) == 2048
  assert positions.max_positions(loaded) is None
  positions.check(loaded, [[1] * 5000], 3)


def test_the_pieces_are_the_generated_text(loaded):
  rows = [[256, 97, 98], [256, 99]]
  pieces = list(_stream(loaded, rows, max_new=5))
  texts = [''.join(parts) for parts in zip(*pieces, strict=True)]
  weights = streaming.prepare(loaded.model, loaded.weights)
  tokens = list(streaming.stream(
    loaded.model, weights, rows, jax.random.key(0), max_new=5,
    end_tokens=loaded.end_tokens, temperature=0.0,
  ))  # fmt: skip
  expected = [
    loaded.tokenizer.decode([t for t in row if t is not None])
    for row in zip(*tokens, strict=True)
  ]
  assert texts == expected
