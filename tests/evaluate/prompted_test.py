"""Rows before questions: chosen by age or by BM25, as many as fit."""

import types

import jax
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.evaluate import prompted
from sleep_jax.strategies import registry
from tests import tiny_study

TEXTS = (
  'Ada lives in Oslo.',
  'Bo plays the harp.',
  'Ada plays chess.',
  'Cy lives in Rome and in Oslo.',
)


def _score(question, texts):
  """BM25 word by word, with k1 1.2 and b 0.75."""
  words = lambda text: text.lower().strip('.').split()
  mean = np.mean([len(words(text)) for text in texts])
  total = np.zeros(len(texts))
  for word in words(question):
    n = sum(word in words(text) for text in texts)
    idf = np.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
    for i, text in enumerate(texts):
      tf = words(text).count(word)
      size = 1.2 * (0.25 + 0.75 * len(words(text)) / mean)
      total[i] += idf * tf * 2.2 / (tf + size)
  return total


def test_bm25_has_its_definition():
  for question in ('Ada lives in', 'plays harp', 'nobody'):
    found = prompted.bm25(question, TEXTS)
    np.testing.assert_allclose(found, _score(question, TEXTS), rtol=1e-6)


def test_the_nearest_rows_share_words_with_the_question():
  assert prompted.nearest('Where does Ada live in?', TEXTS, rows=1) == [0]
  assert prompted.nearest('harp', TEXTS, rows=3) == [1]
  assert prompted.nearest('nobody', TEXTS, rows=3) == []


def test_the_newest_rows_come_first():
  assert [*prompted.newest('harp', TEXTS)] == [3, 2, 1, 0]


def test_as_many_rows_as_fit_precede_the_question_the_best_one_last():
  count = lambda text: len(text.split())
  make = lambda width: prompted.join('Ada?', TEXTS, [2, 0, 1], count, width)
  assert make(1) == 'Ada?'
  assert make(4) == 'Ada plays chess. Ada?'
  assert make(8) == 'Ada lives in Oslo. Ada plays chess. Ada?'
  assert make(7) == make(4)


@pytest.mark.parametrize('name', ('icl', 'rag'))
def test_data_without_questions_are_refused(name):
  (strategy,) = registry.make(name, num_levels=2)
  dataset = types.SimpleNamespace(name='jsonl')
  stream = types.SimpleNamespace(probes={}, dataset=dataset)
  with pytest.raises(errors.ConfigError, match=f"leave '{name}' out"):
    strategy.check(stream)
  strategy.check(types.SimpleNamespace(probes={'1': ()}, dataset=dataset))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A tiny study with an initial model of a few steps."""
  made = tiny_study.TinyStudy(tiny_study.config())
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


def test_the_questions_of_a_run_have_the_rows_of_its_days_before_them(study):
  asked = prompted.PromptedEvaluator(
    study.evaluator, study.stream, prompted.newest, width=60
  )
  weights = study.initial_model.weights
  assert asked.evaluate(weights, 0) == study.evaluator.evaluate(weights, 0)
  decode = study.stream.tokenizer.decode
  before, after = (
    {
      key: [
        decode(row[1:size].tolist())
        for row, size in zip(
          p.prompts.tokens_BP, p.prompts.length_B, strict=True
        )
      ]
      for key, p in sets.items()
    }
    for sets in (study.stream.probes, asked._probes(asked._texts(1)))
  )
  _, rows = study.stream.dataset.experiences[0]
  later = [r.text for r in study.stream.dataset.experiences[1][1]]
  for key, questions in after.items():
    for question, plain in zip(questions, before[key], strict=True):
      assert question.endswith(plain) and question != plain
      assert any(row.text in question for row in rows)
      assert not any(text in question for text in later)


def test_a_prompt_that_has_no_room_leaves_the_scores_as_they_are(study):
  asked = prompted.PromptedEvaluator(
    study.evaluator, study.stream, prompted.newest, width=1
  )
  weights = study.initial_model.weights
  found = asked.evaluate(weights, 2)
  # Questions that are asked without rows are left out.
  plain = study.evaluator.evaluate(weights, 2)
  assert plain['template_scores'] and not found['template_scores']
  assert found == plain | {'template_scores': {}, 'open_scores': {}}
  assert asked.second_scores(weights) == study.evaluator.second_scores(weights)


def test_a_run_that_learns_nothing_ends_with_the_initial_weights(
  study, tmp_path
):
  state, record = study.run('rag', tmp_path)
  assert record['cost']['tokens_read'] == record['cost']['steps'] == 0
  texts = [
    row.text for _, rows in study.stream.dataset.experiences for row in rows
  ]
  costs = [row['cost'] for row in record['evaluations']]
  assert [cost['stored_bytes'] for cost in costs][::2] == [
    0, sum(len(text.encode()) for text in texts)
  ]  # fmt: skip
  # Before a question stand at most `rag.rows` rows.
  longest = max(len(study.stream.tokenizer.encode(text)) for text in texts)
  rows = study.config.rag.rows
  assert 0 < costs[-1]['question_tokens'] <= rows * (longest + 1)
  same = jax.tree.map(
    lambda x, y: np.array_equal(x, y),
    state.weights.params, study.initial_model.weights.params,
  )  # fmt: skip
  assert all(same.values())
  moments = [row['moment'] for row in record['evaluations']]
  assert moments == ['initial', 'evening', 'evening']
