"""Tests of streaming: tokens equal rollouts, and pieces join to the text."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.data import detokenizer
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.model import layer_programs, lora, sampling, streaming
from tests import testing

PROMPTS = [[1, 5, 6], [1, 9], [1, 20, 21, 22, 23]]


def _stream(model, weights, prompts, **settings):
  settings = (
    dict(max_new=12, end_tokens=[testing.EOS], temperature=0.0) | settings
  )
  rows = list(
    streaming.stream(model, weights, prompts, jax.random.key(4), **settings)
  )
  texts = [[] for _ in prompts]
  for tokens in rows:
    for row, token in zip(texts, tokens, strict=True):
      row += [] if token is None else [token]
  return texts


@pytest.fixture(scope='module')
def grown_model():
  model = testing.tiny()
  return model, testing.activate(testing.weights(model), 2, 0)


def test_greedy_streams_equal_greedy_rollouts(grown_model):
  model, weights = grown_model
  prompts = testing.prompts(PROMPTS)
  rollout = sampling.sample(
    model, weights, prompts, jax.random.key(0), max_length=17, max_new=12,
    eos=testing.EOS, temperature=0.0,
  )  # fmt: skip
  found = _stream(model, weights, PROMPTS)
  for row, tokens in enumerate(found):
    start, stop = rollout.prompt_length_B[row], rollout.length_B[row]
    expected = [
      token
      for token in rollout.tokens_BT[row, start:stop].tolist()
      if token != testing.EOS
    ]
    assert tokens == expected


def test_a_stream_does_not_depend_on_the_other_prompts(grown_model):
  model, weights = grown_model
  together = _stream(model, weights, PROMPTS)
  alone = [_stream(model, weights, [prompt])[0] for prompt in PROMPTS]
  assert together == alone
  # It does not depend on the padding of the prompts either.
  long = [[1, *range(3, 3 + 70 % 28), *[7] * 70], PROMPTS[0]]
  assert _stream(model, weights, long)[1] == together[0]


def test_prepared_weights_give_the_same_outputs_as_stacked_weights():
  """With an adapter, a fresh expert and a cap of the logits."""
  model = testing.tiny(logit_cap=2.0)
  weights = testing.activate(testing.weights(model), 2, 0)
  adapter = lora.init(
    jax.random.key(0), weights.params, rank=2, targets=lora.TARGETS
  )
  adapter = jax.tree.map(lambda x: x + 0.3, adapter)
  weights = lora.attach(weights, adapter, scale=0.5)
  weights = weights.replace(fresh=testing.expert(model, 2))
  prompts = testing.prompts(PROMPTS)
  tokens, length = prompts.tokens_BP, prompts.length_B
  prefill = jax.jit(model.prefill, static_argnames='cache_size')
  prepared = streaming.prepare(model, weights)
  h, cache = layer_programs.make(model).prefill(
    prepared, tokens, length, cache_size=16
  )
  found = model.next_logits(prepared, h)
  expected, caches = prefill(weights, tokens, length, cache_size=16)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  assert np.abs(found).max() < 2
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    tuple(cache),
    caches,
  )
  plain, _ = prefill(
    weights.replace(adapter=None), tokens, length, cache_size=16
  )
  assert np.abs(found - plain).max() > 1e-2
  generated = _stream(model, weights, PROMPTS, end_tokens=[])
  assert generated == _stream(
    model, streaming.prepare(model, weights), PROMPTS, end_tokens=[]
  )
  whole = jnp.asarray([[*PROMPTS[1], *generated[1]]])
  logits = testing.forward(model)(
    weights, *types.model_inputs(whole, jnp.array([whole.shape[1]]))
  )
  assert logits[0, len(PROMPTS[1]) - 1 : -1].argmax(-1).tolist() == generated[1]


def test_layers_are_views_that_outlive_their_stack():
  """On one CPU a model is in memory once."""
  model = testing.tiny()
  weights = testing.weights(model)
  prepared = streaming.prepare(model, weights)
  stack = np.asarray(weights.params['blocks/attention/query'])
  for layer, (variables, *_) in enumerate(prepared.blocks):
    one = np.asarray(variables['params']['attention']['query'])
    assert np.shares_memory(one, stack)
    np.testing.assert_array_equal(one, stack[layer])
  del one, stack
  before = _stream(model, prepared, PROMPTS, end_tokens=[])
  # A night that reuses the memory of the stack gets other memory.
  reuse = jax.jit(lambda x: jax.tree.map(lambda y: 0 * y, x), donate_argnums=0)
  stacked = {p: x for p, x in weights.params.items() if 'blocks/' in p}
  jax.block_until_ready(reuse(stacked))
  del weights, stacked
  assert _stream(model, prepared, PROMPTS, end_tokens=[]) == before


def test_stacks_that_are_not_on_one_cpu_give_the_same_texts(
  grown_model, monkeypatch
):
  model, weights = grown_model
  expected = _stream(model, weights, PROMPTS)
  monkeypatch.setattr(streaming, '_is_on_one_cpu', lambda weights: False)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  for looped in (False, True):
    config = dataclasses.replace(model.config, looped=looped)
    other = dataclasses.replace(model, config=config)
    layer_programs.make.cache_clear()
    assert _stream(other, weights, PROMPTS) == expected
  layer_programs.make.cache_clear()


def test_a_second_conversation_compiles_nothing(grown_model, caplog):
  model, weights = grown_model
  weights = streaming.prepare(model, weights)
  _stream(model, weights, [[1, 5, 6]], max_new=17)
  with jax.log_compiles():
    _stream(model, weights, [[1, *range(3, 17)]], max_new=32)
    assert 'Compiling' not in caplog.text
    _stream(model, weights, [[1, *range(3, 20)]], max_new=32)
    assert 'Compiling' in caplog.text  # A longer prompt.


def test_lengths_are_few_and_waste_little():
  lengths = [streaming.padded_length(n) for n in range(1, 4097)]
  assert len(set(lengths)) < 24
  for size, length in enumerate(lengths, 1):
    assert size <= length <= max(16, 2 * size)
    assert length < 1.25 * size + 1 or size < 256
  assert all(streaming.padded_length(n) == n for n in set(lengths))


def test_a_text_ends_at_any_end_token(grown_model):
  model, weights = grown_model
  (whole,) = _stream(model, weights, PROMPTS[:1], end_tokens=[])
  assert len(whole) == 12
  end = whole[4]
  (cut,) = _stream(model, weights, PROMPTS[:1], end_tokens=[testing.EOS, end])
  assert cut == whole[: whole.index(end)]


def test_sampling_depends_on_key_and_temperature(grown_model):
  model, weights = grown_model
  one, two = (
    _stream(model, weights, PROMPTS, temperature=1.0, top_k=8, top_p=0.9)
    for _ in range(2)
  )
  assert one == two != _stream(model, weights, PROMPTS)


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
@pytest.mark.parametrize(
  'text',
  ['plain words here', 'na\u00efve \u96ea\u96ea\n\tx', '\U0001f600 ok', ''],
)
def test_pieces_join_to_the_text(kind, text):
  tokenizer = tokenizer_lib.make(kind, ['plain words here'] * 3, 300)
  ids = tokenizer.encode(text)
  stream = detokenizer.Detokenizer(tokenizer)
  pieces = [stream.add(token) for token in ids] + [stream.end()]
  assert ''.join(pieces) == tokenizer.decode(ids)
  assert not any('\ufffd' in piece for piece in pieces)


def test_an_incomplete_character_is_returned_at_the_end():
  tokenizer = tokenizer_lib.make('bytes')
  stream = detokenizer.Detokenizer(tokenizer)
  ids = [0x61, 0xE9, 0x9B]  # The last character lacks a byte.
  assert [stream.add(token) for token in ids] == ['a', '', '']
  assert stream.end() == tokenizer.decode(ids)[1:] and stream.end() == ''


def test_random_characters_are_all_returned():
  tokenizer = tokenizer_lib.make('bytes')
  random = np.random.default_rng(0)
  for _ in range(50):
    text = ''.join(chr(c) for c in random.integers(32, 0x3000, 20))
    stream = detokenizer.Detokenizer(tokenizer)
    ids = tokenizer.encode(text)
    assert ''.join(stream.add(t) for t in ids) + stream.end() == text
