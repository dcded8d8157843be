"""The model for lm-evaluation-harness: likelihoods and generation."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import lm_eval, open_model
from sleep_jax.model import config, transformer
from tests import testing

PAIRS = [
  ('the cat', ' sat'), ('', 'the dog ran'), ('a dog\n\t ', 'ran'),
  ('na\u00efve', ' \u96ea!'), ('the cat sat on the mat and', ' ran'),
]  # fmt: skip


@pytest.fixture(scope='module')
def loaded():
  tokenizer = tokenizer_lib.make('bytes')
  c = testing.tiny().config
  made = config.make(
    dict(width=16, num_layers=2, num_heads=4, num_kv_heads=2, head_size=4),
    [vars(level) for level in c.levels], vocab_size=tokenizer.vocab_size,
  )  # fmt: skip
  model = transformer.Transformer(made)
  return open_model.LoadedModel(
    model, testing.weights(model), tokenizer, (tokenizer.eos,)
  )


def _model(loaded, **options):
  return lm_eval.LmEvalModel(loaded, **options)


WIDTH = 64  # All reference rows are padded to it, to compile once.


def _reference_score(loaded, context, target):
  """Scores a target with the logits of the whole row."""
  ids = context + target
  rows = types.model_inputs(
    jnp.asarray([ids + [0] * (WIDTH - len(ids))]), jnp.array([len(ids)])
  )
  logits_BTV = testing.forward(loaded.model)(loaded.weights, *rows)
  log_probs = jax.nn.log_softmax(logits_BTV[0])
  log_probs = np.asarray(log_probs)[len(context) - 1 : len(ids) - 1]
  nats = log_probs[np.arange(len(target)), target].sum()
  return nats, (log_probs.argmax(-1) == target).all()


def test_likelihoods_agree_with_the_logits(loaded):
  tokenizer = loaded.tokenizer
  found = _model(loaded).likelihoods(PAIRS)
  for (context, continuation), (nats, greedy) in zip(PAIRS, found, strict=True):
    trimmed = context.rstrip()
    expected = _reference_score(
      loaded, [tokenizer.bos, *tokenizer.encode(trimmed)],
      tokenizer.encode(context[len(trimmed) :] + continuation),
    )  # fmt: skip
    assert nats == pytest.approx(expected[0], abs=1e-3)
    assert greedy == expected[1]


@pytest.mark.parametrize('batch', [1, 3])
def test_scores_do_not_depend_on_the_batch_size(loaded, batch):
  small, large = _model(loaded, batch_size=batch), _model(loaded, batch_size=8)
  first, second = small.likelihoods(PAIRS), large.likelihoods(PAIRS)
  np.testing.assert_allclose(
    [nats for nats, _ in first], [nats for nats, _ in second], atol=1e-4
  )
  assert [greedy for _, greedy in first] == [greedy for _, greedy in second]


def test_rolling_likelihoods_score_each_token_of_a_text_once(loaded):
  tokenizer, text = loaded.tokenizer, 'the cat sat on the mat and the dog ran'
  (whole,) = _model(loaded).rolling_likelihoods([text])
  ids = [tokenizer.bos, *tokenizer.encode(text)]  # BOS is scored, too.
  expected, _ = _reference_score(loaded, [tokenizer.bos], ids)
  assert whole == pytest.approx(expected, abs=1e-3)
  (windows,) = _model(loaded, max_length=16).rolling_likelihoods([text])
  assert len(ids) == 39
  rows = [([tokenizer.bos], ids[:16]), (ids[15:16], ids[16:32]),
          (ids[22:32], ids[32:])]  # fmt: skip
  expected = sum(_reference_score(loaded, *row)[0] for row in rows)
  assert windows == pytest.approx(expected, abs=1e-3)
  assert _model(loaded, add_bos_token=False).rolling_likelihoods(['']) == [0]


def test_a_long_context_is_truncated_at_its_start(loaded):
  tokenizer = loaded.tokenizer
  (found,) = _model(loaded, max_length=12).likelihoods([('x' * 40, ' abc')])
  ids = tokenizer.encode('x' * 40)[-9:]
  nats, _ = _reference_score(loaded, ids, tokenizer.encode(' abc'))
  assert found[0] == pytest.approx(nats, abs=1e-3)


def test_generation_ends_before_a_stop_string(loaded):
  model = _model(loaded)
  options = {'max_gen_toks': 12}
  (whole,) = model.generate([('the cat', options)])
  assert whole == model.generate([('the cat', options)])[0]
  stop = whole[3:5]
  (cut,) = model.generate([('the cat', options | {'until': [stop]})])
  assert stop and cut == whole[: whole.index(stop)]


def test_impossible_requests_are_refused(loaded):
  model = _model(loaded, max_length=12)
  with pytest.raises(errors.UsageError, match='15 tokens, but max_length'):
    model.likelihoods([('a', 'b' * 15)])
  with pytest.raises(errors.UsageError, match='no tokens'):
    model.likelihoods([('a', '')])
  with pytest.raises(errors.UsageError, match='no context fits'):
    model.generate([('a', {'max_gen_toks': 12})])
  with pytest.raises(errors.UsageError, match='use max_gen_toks'):
    model.generate([('abcd', {'max_gen_toks': 2, 'max_length': 5})])
  for options, message in (
    ({'max_length': 0}, 'max_length=0: expected 1 or more'),
    ({'batch_size': 1.5}, 'batch_size=1.5'),
    ({'prefix_token_id': 258}, 'from 0 to 257'),
    ({'enable_thinking': True}, 'needs think_end_token'),
  ):
    with pytest.raises(errors.UsageError, match=message):
      _model(loaded, **options)
  with pytest.raises(errors.UsageError, match='pretrained here'):
    model.apply_chat_template([{'role': 'user', 'content': 'a'}])


def test_generated_texts_do_not_depend_on_the_batch_size(loaded):
  texts = ('the', 'a cat', 'x', 'the dog ran', 'mat')
  requests = [(text, {'max_gen_toks': 9, 'until': ['e']}) for text in texts]
  small, large = _model(loaded, batch_size=1), _model(loaded, batch_size=4)
  assert small.generate(requests) == large.generate(requests)


def test_an_empty_stop_string_does_not_make_answers_empty(loaded):
  """As in the harness, it ends the text after one token, which is kept."""
  (whole,) = _model(loaded).generate([('the cat', {'max_gen_toks': 8})])
  for until in ('', ['']):
    (text,) = _model(loaded).generate(
      [('the cat', {'max_gen_toks': 8, 'until': until})]
    )
    assert text and whole.startswith(text)


def test_sampled_texts_of_equal_requests_differ(loaded):
  request = ('the cat', {'temperature': 1.0, 'max_gen_toks': 9})
  texts = _model(loaded, batch_size=1).generate([request] * 4)
  assert len(set(texts)) > 1
  assert texts == _model(loaded, batch_size=1).generate([request] * 4)
  other = _model(loaded, batch_size=1, seed=1).generate([request] * 4)
  assert texts != other


def test_the_reasoning_is_removed(loaded):
  (whole,) = _model(loaded).generate([('the cat', {'max_gen_toks': 8})])
  end = whole[2]
  (text,) = _model(loaded, think_end_token=end).generate(
    [('the cat', {'max_gen_toks': 8})]
  )
  assert text == whole.split(end)[-1].lstrip() != whole


def test_the_harness_evaluates_a_local_task(loaded, tmp_path, monkeypatch):
  """The task is a file that the test writes, so no network is needed."""
  monkeypatch.setenv('HF_DATASETS_CACHE', str(tmp_path / 'cache'))
  harness = pytest.importorskip('lm_eval')
  tasks = pytest.importorskip('lm_eval.tasks')
  rows = [
    {'q': 'the cat', 'choices': [' sat', ' ran'], 'gold': 0},
    {'q': 'the dog', 'choices': [' sat', ' ran'], 'gold': 1},
    {'q': 'a mat', 'choices': [' is', ' was'], 'gold': 0},
  ]
  file = tmp_path / 'pets.jsonl'
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  task = {
    'task': 'pets', 'dataset_path': 'json',
    'dataset_kwargs': {'data_files': {'test': str(file)}},
    'output_type': 'multiple_choice', 'test_split': 'test',
    'doc_to_text': '{{q}}', 'doc_to_target': 'gold', 'doc_to_choice': 'choices',
    'target_delimiter': '', 'metric_list': [{'metric': 'acc'}],
  }  # fmt: skip
  found = {}
  for batch in (1, 4):
    model = lm_eval.make_adapter(_model(loaded, batch_size=batch))
    found[batch] = harness.evaluate(
      lm=model, task_dict=tasks.get_task_dict([task]), bootstrap_iters=0
    )['results']['pets']['acc,none']  # fmt: skip
  num_right = 0
  for row in rows:
    pairs = [(row['q'], choice) for choice in row['choices']]
    nats = [score for score, _ in _model(loaded).likelihoods(pairs)]
    num_right += int(np.argmax(nats) == row['gold'])
  assert found[1] == found[4] == pytest.approx(num_right / len(rows))


def test_the_error_without_the_harness_says_what_to_install(
  loaded, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'lm_eval.api', None)
  with pytest.raises(errors.MissingPackageError, match='pip install lm_eval'):
    lm_eval.make_adapter(_model(loaded))
