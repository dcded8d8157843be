"""Scores of generated texts: worked values, and a whole scorer."""

import dataclasses

import jax
import pytest

from sleep_jax.data import stream as stream_lib
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.evaluate import text_scores
from tests import tiny_study


def test_avg_at_k_is_the_mean_over_problems_of_the_share_of_right_samples():
  assert text_scores.avg_at_k([[True, False, False, True], [True] * 4]) == 0.75
  assert text_scores.avg_at_k([[False], [True], [False]]) == pytest.approx(
    1 / 3
  )


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    (r'3 + 4 = 7. \boxed{7}', '7'),
    (r'\boxed{7}, no: \boxed{ 8 }.', '8'),  # The last one counts,
    (r'\boxed{7} and then \boxed{8', '7'),  # if it is complete.
    (r'\boxed{\frac{1}{2}}', r'\frac{1}{2}'),
    (r'\boxed {x}', 'x'),
    ('The answer is 7.', None),
    (r'\boxed{7', None),
    (r'\boxed{}', ''),
  ],
)
def test_the_answer_is_what_stands_in_the_last_complete_box(text, answer):
  assert text_scores.boxed_answer(text) == answer


@pytest.mark.parametrize(
  ('found', 'answer', 'is_right'),
  [
    ('7', '7', True),
    ('007', '7', True),  # As answers of AIME may be written.
    ('0', '000', True),
    ('-0', '0', True),
    ('1,234', '1234', True),
    (r'\$1,234.50', '1234.5', True),
    ('7.0', '7', True),
    ('7.', '7', True),
    ('+7', '7', True),
    ('-7', '7', False),
    ('70', '7', False),
    ('7.5', '7', False),
    ('1,23', '123', False),
    ('(1, 2)', '(1,2)', True),
    ('1/2', '0.5', False),  # No algebra is done.
  ],
)
def test_a_boxed_answer_is_right_if_it_is_the_same_number_or_text(
  found, answer, is_right
):
  text = f'Hence \\boxed{{{found}}}.'
  assert text_scores.is_boxed_match(text, answer) is is_right


def test_boxed_scores_each_sample_of_each_problem():
  samples = [[r'\boxed{7}', 'seven'], [r'\boxed{1}', r'\boxed{2}']]
  assert text_scores.boxed(['7', '3'], samples) == 0.25


def test_all_values_count_in_any_format_but_as_whole_words():
  reference = 'Oslo\nbaker'
  right = ['Oslo, baker', '{"town": "oslo", "job": "baker"}', '- Oslo\n- baker']
  wrong = ['Oslo', 'baker in Oslova', '']
  assert text_scores.contains([reference], [right]) == 1
  assert text_scores.contains([reference], [wrong]) == 0
  assert text_scores.contains([reference] * 2, [right, wrong]) == 0.5


def test_chrf_is_that_of_sacrebleu_over_all_samples():
  sacrebleu = pytest.importorskip('sacrebleu')
  right = ['the dog helped the cat', 'the king will paint the boat']
  near = ['the dogs helped a cat', 'the king painted the boat']
  assert text_scores.chrf(right, [[text] for text in right]) == 100
  assert text_scores.chrf(right, [['xx'], ['yy']]) == 0
  assert text_scores.chrf(right, [[text] for text in near]) == pytest.approx(
    sacrebleu.CHRF().corpus_score(near, [right]).score
  )


@pytest.fixture(scope='module')
def study():
  return tiny_study.TinyStudy(tiny_study.config())


def _scorer(study, weights, settings, reference):
  dataset = dataclasses.replace(
    study.stream.dataset,
    text_score=settings,
    probes={
      key: [dataclasses.replace(probe, reference=reference) for probe in group]
      for key, group in study.stream.dataset.probes.items()
    },
  )
  return text_scores.TextScorer(
    study.model, study.stream.tokenizer, dataset, study.stream.probes, chunk=4
  )


def test_texts_are_scored_by_set_and_without_a_score_there_are_none(study):
  weights = jax.jit(study.model.init)(jax.random.key(0))
  make = lambda settings, reference: _scorer(
    study, weights, settings, reference
  )
  greedy = dataset_lib.TextScore('contains', max_new=3)
  never = make(greedy, 'no such word')
  assert never(weights) == {'pretrain': 0, '1': 0, '2': 0}
  assert [*never(weights, sets=2)] == ['pretrain', '1']
  # An empty text is part of any: all samples of all probes count once.
  sampled = dataset_lib.TextScore(
    'contains', samples=3, temperature=1.0, max_new=3
  )
  assert make(sampled, '\n')(weights) == {'pretrain': 1, '1': 1, '2': 1}
  assert make(None, '')(weights) == {}
  missing = dataset_lib.TextScore('chrf', package='no_such_package')
  assert not missing.is_available and make(missing, '')(weights) == {}
  dataset = dataclasses.replace(study.stream.dataset, text_score=missing)
  (note,) = stream_lib.notes(dataclasses.replace(study.stream, dataset=dataset))
  assert "pip install 'no_such_package'" in note
