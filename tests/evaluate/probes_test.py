"""Probe scores equal those of whole sequences read one at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.evaluate import candidates as candidates_lib
from sleep_jax.evaluate import probes as probes_lib
from tests import testing

BOS, EOS = testing.BOS, testing.EOS
PROMPTS = [
  [BOS, 7],
  [BOS, 8, 9, 10],
  [BOS, 11, 12],
  [BOS, 13, 14, 15, 16],
  [BOS],
]
SETS = [
  [[5, EOS], [6, 7, EOS], [8, 9, 10, EOS]],
  [[20, EOS], [20, 21, EOS], [22, EOS], [5, 6, EOS]],
]
SINCE = [[0, 1, 2], [0, 0, 1, 3]]


def _pad(rows, width):
  return [row + [0] * (width - len(row)) for row in rows]


def _probes(answers=None, sets=(0, 1, 0, 1, 1), gold=(0, 3, 1, 2, 0)):
  answers = answers or [[5, EOS]] * len(PROMPTS)
  candidates = [[*rows, *[[0]] * (4 - len(rows))] for rows in SETS]
  made = types.Probes(
    prompts=testing.prompts(PROMPTS),
    answer_BA=np.array(_pad(answers, 4)),
    answer_length_B=np.array([len(x) for x in answers]),
    candidates_SCA=np.array([_pad(rows, 4) for rows in candidates]),
    candidate_length_SC=np.array(_pad([[len(x) for x in r] for r in SETS], 4)),
    candidate_since_SC=np.array(_pad(SINCE, 4)),
    set_B=np.array(sets), gold_B=np.array(gold),
  )  # fmt: skip
  return jax.tree.map(jnp.asarray, made)


@functools.cache
def _model_and_weights():
  model = testing.tiny((1, 2))
  return model, testing.activate(testing.weights(model, 3), 2, 0)


@functools.cache
def _forward():
  return jax.jit(_model_and_weights()[0].forward)


def _read(row):
  """Returns log-probabilities [T, V] after each token of one sequence."""
  width = 10
  logits = _forward()(
    _model_and_weights()[1], *types.model_inputs(jnp.array(_pad([row], width)),
                                  jnp.array([len(row)])),
  )  # fmt: skip
  return np.asarray(jax.nn.log_softmax(logits[0, : len(row)]))


def _score(prompt, answer):
  """Returns the mean log-probability of the tokens of one answer."""
  log_p = _read(prompt + answer)
  start = len(prompt) - 1
  return np.mean([log_p[start + i, token] for i, token in enumerate(answer)])


def test_a_forced_answer_is_scored_token_by_token():
  """Each token is scored given the right ones before it, without EOS."""
  model, weights = _model_and_weights()
  answers = [[20, 21, EOS], [5, EOS], [6, 7, 8, EOS], [22, EOS], [9, 10, EOS]]
  best = int(
    np.argmax(_read(PROMPTS[1])[-1])
  )  # The token the model would generate.
  answers[1] = [best, EOS]
  probes = _probes(answers)
  shares, nats = (
    jax.jit(probes_lib.forced(model, nats=n))(weights, probes)
    for n in (False, True)
  )
  for row, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True)):
    log_p, start = _read(prompt + answer), len(prompt) - 1
    tokens = list(enumerate(answer[:-1]))
    right = [np.argmax(log_p[start + i]) == token for i, token in tokens]
    np.testing.assert_allclose(shares[row], np.mean(right), atol=1e-6)
    nats_of = [log_p[start + i, token] for i, token in tokens]
    np.testing.assert_allclose(nats[row], np.mean(nats_of), rtol=1e-4)
  assert shares[1] == 1


@functools.cache
def _ranked():
  return jax.jit(
    candidates_lib.rank(
      _model_and_weights()[0].forward, candidates_lib.flatten(_probes())
    )
  )


def test_a_candidate_has_the_score_that_it_gets_alone():
  model, weights = _model_and_weights()
  probes = _probes()
  layout = candidates_lib.flatten(probes)
  score = lambda w, p: candidates_lib.score_candidates(
    model.forward, w, p, layout
  )
  found = np.asarray(jax.jit(score)(weights, probes))
  for row, prompt in enumerate(PROMPTS):
    for column, answer in enumerate(SETS[int(probes.set_B[row])]):
      assert found[row, column] == pytest.approx(
        _score(prompt, answer), abs=1e-4
      )


@pytest.mark.parametrize('experience', [0, 1, 2, 3])
def test_candidates_taught_so_far_and_the_right_one_compete(
  experience,
):
  probes, expected = _probes(), []
  for row, prompt in enumerate(PROMPTS):
    number, gold = int(probes.set_B[row]), int(probes.gold_B[row])
    scores = {
      i: _score(prompt, answer)
      for i, answer in enumerate(SETS[number])
      if SINCE[number][i] <= experience or i == gold
    }
    expected.append(max(scores, key=scores.get) == gold)
  found = _ranked()(_model_and_weights()[1], probes, jnp.int32(experience))
  assert np.asarray(found).tolist() == expected


def test_more_candidates_never_raise_the_accuracy():
  probes = _probes()
  right = [
    int(np.sum(_ranked()(_model_and_weights()[1], probes, jnp.int32(e))))
    for e in range(4)
  ]
  assert right == sorted(right, reverse=True)


def _greedy_answers():
  """Returns the greedy answers, from whole sequences without a cache."""
  answers = []
  for prompt in PROMPTS:
    row, answer = list(prompt), []
    while len(answer) < 4 and EOS not in answer:
      answer.append(int(_read(row)[-1].argmax()))
      row.append(answer[-1])
    answers.append(answer)
  return answers


def test_an_answer_is_right_only_if_every_token_is():
  model, weights = _model_and_weights()
  correct = jax.jit(probes_lib.greedy(model, eos=EOS))
  generated = _greedy_answers()
  is_right = lambda answers: np.asarray(
    correct(weights, _probes(answers))
  ).tolist()
  assert is_right(generated) == [True] * 5
  for place in range(4):
    wrong = [list(x) for x in generated]
    for answer in wrong:
      if place < len(answer):
        answer[place] = (answer[place] + 1) % testing.VOCAB
    assert is_right(wrong) == [place >= len(x) for x in generated]


def test_an_answer_that_does_not_end_is_wrong():
  """EOS is part of the answer: 'Rom' is not 'Rome'."""
  model, weights = _model_and_weights()
  generated = _greedy_answers()
  assert any(x[1] != EOS for x in generated)
  early = [x if x[1] == EOS else [x[0], EOS] for x in generated]
  found = jax.jit(probes_lib.greedy(model, eos=EOS))(weights, _probes(early))
  assert np.asarray(found).tolist() == [x[1] == EOS for x in generated]


def _part(probes, rows):
  take = lambda x: np.asarray(x)[np.array(rows, int)]
  return probes.replace(
    prompts=jax.tree.map(take, probes.prompts),
    **{
      name: take(getattr(probes, name))
      for name in ('answer_BA', 'answer_length_B', 'set_B', 'gold_B')
    },
  )


@pytest.mark.parametrize('chunk', [2, 4, 99])
def test_scores_do_not_depend_on_the_chunk_size(chunk):
  probes = _probes(gold=(0, 1, 2, 3, 0))
  sets = {'a': _part(probes, [0, 1, 2]), 'none': _part(probes, []),
          'b': _part(probes, [3, 4])}  # fmt: skip
  right = lambda weights, probes: probes.gold_B % 2 == 0
  scorer = probes_lib.Scorer(right, sets, chunk=chunk)
  assert scorer(None) == {'a': pytest.approx(2 / 3), 'b': 0.5}


def test_without_probes_there_are_no_scores():
  scorer = probes_lib.Scorer(lambda *_: None, {}, chunk=4)
  assert scorer(None) == {}
