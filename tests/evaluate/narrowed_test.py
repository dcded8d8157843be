"""Classes that a classifier keeps, and the choice of the model among them."""

import functools
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.evaluate import candidates, classified, narrowed

NONE = -np.inf
QUESTIONS, CLASSES = 100, 5


def _random():
  random = np.random.default_rng(0)
  return random.normal(size=(2, QUESTIONS, CLASSES))


def test_the_best_of_the_likeliest_is_chosen():
  score = np.array([[-1.0, -2.0, -3.0, -4.0]] * 2)
  found = np.array([[0.0, 1.0, 2.0, 3.0], [3.0, 0.0, 2.0, 1.0]])
  chosen = lambda k: [*narrowed.choose(score, found, top_k=k)]
  assert chosen(1) == [3, 0]
  assert chosen(2) == [2, 0]
  assert chosen(3) == [1, 0]
  assert chosen(4) == chosen(9) == [0, 0]


def test_with_all_classes_the_model_chooses_and_with_one_the_classifier():
  score, found = _random()
  by_model, by_classifier = np.argmax(score, 1), np.argmax(found, 1)
  assert np.mean(by_model != by_classifier) > 0.5
  chosen = functools.partial(narrowed.choose, score, found)
  np.testing.assert_array_equal(chosen(top_k=CLASSES), by_model)
  np.testing.assert_array_equal(chosen(top_k=1), by_classifier)


def test_more_classes_never_choose_a_worse_score():
  score, found = _random()
  best = [
    np.take_along_axis(
      score, narrowed.choose(score, found, top_k=k)[:, None], 1
    )
    for k in range(1, CLASSES + 1)
  ]
  assert (np.diff(np.concatenate(best, 1)) >= 0).all()


def test_a_class_without_rows_follows_the_others_that_compete():
  """Class 0 is a right answer that was not taught yet; 3 does not compete."""
  score = np.array([[-1.0, -2.0, -3.0, NONE]])
  found = np.array([[NONE, 0.0, 1.0, NONE]])
  chosen = [int(narrowed.choose(score, found, top_k=k)[0]) for k in (1, 2, 3)]
  assert chosen == [2, 1, 0]


class _Model:
  """A model whose logits of a token are a row of its only parameter."""

  def forward(self, weights, tokens_BT, *_):
    return weights.params['w'][tokens_BT]

  def with_xla_attention(self):
    return self


@pytest.fixture(scope='module')
def asked():
  """Questions of one token about six labels of two, three of them taught."""
  random = np.random.default_rng(1)
  labels, num, vocab = 6, 150, 12
  tokens = np.stack([
    np.arange(labels), random.integers(0, 6, labels), np.full(labels, 11)
  ], 1)  # fmt: skip
  probes = types.Probes(
    prompts=types.Prompts(
      tokens_BP=random.integers(0, 11, (num, 1)).astype('i4'),
      length_B=np.ones(num, 'i4'),
      subject_B2=np.zeros((num, 2), 'i4'),
    ),
    answer_BA=np.zeros((num, 3), 'i4'),
    answer_length_B=np.full(num, 3, 'i4'),
    candidates_SCA=tokens[None].astype('i4'),
    candidate_length_SC=np.full((1, labels), 3, 'i4'),
    candidate_since_SC=np.array([[0, 0, 1, 1, 2, 2]], 'i4'),
    set_B=np.zeros(num, 'i4'),
    gold_B=random.integers(0, labels, num).astype('i4'),
  )
  w = jnp.asarray(random.normal(size=(vocab, vocab)).astype('f4'))
  weights = types.Weights({'w': w}, jnp.zeros((1, 1)))
  stream = python_types.SimpleNamespace(probes={'1': probes})
  found = random.normal(size=(num, labels))
  found[:, 4:] = NONE  # Taught in the second experience.
  return stream, weights, found


def test_with_all_labels_a_question_is_right_if_plain_ranking_says_so(asked):
  stream, weights, found = asked
  probes = stream.probes['1']
  rank = jax.jit(candidates.rank(_Model().forward, candidates.flatten(probes)))
  expected = rank(weights, probes, jnp.int32(1))
  choose = narrowed.Narrowing(stream, _Model(), top_k=6)
  chosen = choose(weights, '1', found, 1)
  np.testing.assert_array_equal(chosen == probes.gold_B, expected)
  assert 0.1 < np.mean(expected) < 0.9
  # A label of the second experience competes only where it is right.
  assert ((chosen < 4) | (chosen == probes.gold_B)).all()


def test_with_one_label_it_is_the_class_of_the_discriminant(asked):
  stream, weights, found = asked
  choose = narrowed.Narrowing(stream, _Model(), top_k=1)
  expected = classified.likeliest(weights, '1', found, 1)
  np.testing.assert_array_equal(choose(weights, '1', found, 1), expected)
