"""A harness asks: likelihoods, rolling ones, continuations, at any batch."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import lm_eval, open_model
from sleep_jax.model import config, transformer
from tests import testing

PAIRS = [
  ('the cat', ' sat'), ('', 'the dog ran'), ('a dog ', 'ran'),
  ('na\u00efve', ' \u96ea!'), ('the cat sat on the mat and', ' ran'),
]  # fmt: skip


@pytest.fixture(scope='module')
def opened():
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


def _scorer(opened, **how):
  return lm_eval.LmEvalModel(opened, **how)


WIDTH = 64  # Of all rows read by hand: compiled once.


def _by_hand(opened, before, after):
  """From the logits of the whole row."""
  ids = before + after
  rows = transformer.rows(
    jnp.asarray([ids + [0] * (WIDTH - len(ids))]), jnp.array([len(ids)])
  )
  logits_BTV = testing.forward(opened.model)(opened.weights, *rows)
  log = jax.nn.log_softmax(logits_BTV[0])
  log = np.asarray(log)[len(before) - 1 : len(ids) - 1]
  nats = log[np.arange(len(after)), after].sum()
  return nats, (log.argmax(-1) == after).all()


def test_likelihoods_are_those_of_the_logits(opened):
  tokenizer = opened.tokenizer
  found = _scorer(opened).likelihoods(PAIRS)
  for (context, continuation), (nats, best) in zip(PAIRS, found, strict=True):
    trimmed = context.rstrip(' ')
    wanted = _by_hand(
      opened, [tokenizer.bos, *tokenizer.encode(trimmed)],
      tokenizer.encode(context[len(trimmed) :] + continuation),
    )  # fmt: skip
    assert nats == pytest.approx(wanted[0], abs=1e-3) and best == wanted[1]


@pytest.mark.parametrize('batch', [1, 3])
def test_scores_do_not_depend_on_the_batch(opened, batch):
  few, many = _scorer(opened, batch_size=batch), _scorer(opened, batch_size=8)
  one, two = few.likelihoods(PAIRS), many.likelihoods(PAIRS)
  np.testing.assert_allclose(
    [nats for nats, _ in one], [nats for nats, _ in two], atol=1e-4
  )
  assert [best for _, best in one] == [best for _, best in two]


def test_a_text_in_windows_is_scored_token_by_token_once(opened):
  tokenizer, text = opened.tokenizer, 'the cat sat on the mat and the dog ran'
  (whole,) = _scorer(opened).rolling_likelihoods([text])
  wanted, _ = _by_hand(opened, [tokenizer.bos], tokenizer.encode(text))
  assert whole == pytest.approx(wanted, abs=1e-3)
  (parts,) = _scorer(opened, max_length=17).rolling_likelihoods([text])
  ids = tokenizer.encode(text)
  wanted = sum(
    _by_hand(opened, [ids[start - 1] if start else tokenizer.bos],
             ids[start : start + 16])[0]
    for start in range(0, len(ids), 16)
  )  # fmt: skip
  assert parts == pytest.approx(wanted, abs=1e-3)


def test_what_is_too_long_loses_its_beginning(opened):
  tokenizer = opened.tokenizer
  (found,) = _scorer(opened, max_length=12).likelihoods([('x' * 40, ' abc')])
  ids = tokenizer.encode('x' * 40)[-8:]
  nats, _ = _by_hand(opened, ids, tokenizer.encode(' abc'))
  assert found[0] == pytest.approx(nats, abs=1e-3)


def test_a_continuation_stops_at_its_stops(opened):
  scorer = _scorer(opened)
  how = {'max_gen_toks': 12}
  (whole,) = scorer.generate([('the cat', how)])
  assert whole == scorer.generate([('the cat', how)])[0]
  stop = whole[3:5]
  (cut,) = scorer.generate([('the cat', how | {'until': [stop]})])
  assert stop and cut == whole[: whole.index(stop)]


def test_the_harness_runs_a_local_task(opened, tmp_path, monkeypatch):
  """Offline: questions in a file of the test's own."""
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
  about = {
    'task': 'pets', 'dataset_path': 'json',
    'dataset_kwargs': {'data_files': {'test': str(file)}},
    'output_type': 'multiple_choice', 'test_split': 'test',
    'doc_to_text': '{{q}}', 'doc_to_target': 'gold', 'doc_to_choice': 'choices',
    'target_delimiter': '', 'metric_list': [{'metric': 'acc'}],
  }  # fmt: skip
  found = {}
  for batch in (1, 4):
    model = lm_eval.make_adapter(_scorer(opened, batch_size=batch))
    found[batch] = harness.evaluate(
      lm=model, task_dict=tasks.get_task_dict([about]), bootstrap_iters=0
    )['results']['pets']['acc,none']  # fmt: skip
  right = 0
  for row in rows:
    pairs = [(row['q'], choice) for choice in row['choices']]
    nats = [score for score, _ in _scorer(opened).likelihoods(pairs)]
    right += int(np.argmax(nats) == row['gold'])
  assert found[1] == found[4] == pytest.approx(right / len(rows))


def test_without_the_harness_it_says_what_to_install(opened, monkeypatch):
  monkeypatch.setitem(sys.modules, 'lm_eval.api', None)
  with pytest.raises(ImportError, match='pip install lm_eval'):
    lm_eval.make_adapter(_scorer(opened))
