"""Probes: exact answers, and rankings that see one candidate at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.evaluate import candidates as candidates_lib
from sleep_jax.evaluate import probes as probes_lib
from sleep_jax.model import transformer
from tests import testing

BOS, EOS = testing.BOS, testing.EOS
ASKED = [[BOS, 7], [BOS, 8, 9, 10], [BOS, 11, 12], [BOS, 13, 14, 15, 16], [BOS]]
SETS = [
  [[5, EOS], [6, 7, EOS], [8, 9, 10, EOS]],
  [[20, EOS], [20, 21, EOS], [22, EOS], [5, 6, EOS]],
]
SINCE = [[0, 1, 2], [0, 0, 1, 3]]


def _pad(rows, width):
  return [row + [0] * (width - len(row)) for row in rows]


def _probes(answers=None, sets=(0, 1, 0, 1, 1), gold=(0, 3, 1, 2, 0)):
  answers = answers or [[5, EOS]] * len(ASKED)
  candidates = [[*rows, *[[0]] * (4 - len(rows))] for rows in SETS]
  made = types.Probes(
    prompts=testing.prompts(ASKED),
    answer_BA=np.array(_pad(answers, 4)),
    answer_length_B=np.array([len(x) for x in answers]),
    candidates_SCA=np.array([_pad(rows, 4) for rows in candidates]),
    candidate_length_SC=np.array(_pad([[len(x) for x in r] for r in SETS], 4)),
    candidate_since_SC=np.array(_pad(SINCE, 4)),
    set_B=np.array(sets), gold_B=np.array(gold),
  )  # fmt: skip
  return jax.tree.map(jnp.asarray, made)


@functools.cache
def _made():
  model = testing.tiny((1, 2))
  return model, testing.activate(testing.weights(model, 3), 2, 0)


@functools.cache
def _forward():
  return jax.jit(_made()[0].forward)


def _read(row):
  """Log-probabilities [T, V] of what follows each token, read alone."""
  width = 10
  logits = _forward()(
    _made()[1], *transformer.rows(jnp.array(_pad([row], width)),
                                  jnp.array([len(row)])),
  )  # fmt: skip
  return np.asarray(jax.nn.log_softmax(logits[0, : len(row)]))


def _score(prompt, answer):
  """Mean log-probability of an answer's tokens, asked by itself."""
  log_p = _read(prompt + answer)
  start = len(prompt) - 1
  return np.mean([log_p[start + i, token] for i, token in enumerate(answer)])


def test_a_forced_answer_is_scored_token_by_token():
  """The right tokens before each; EOS is no part of it."""
  model, weights = _made()
  answers = [[20, 21, EOS], [5, EOS], [6, 7, 8, EOS], [22, EOS], [9, 10, EOS]]
  best = int(np.argmax(_read(ASKED[1])[-1]))  # One that it would give.
  answers[1] = [best, EOS]
  asked = _probes(answers)
  shares, nats = (
    jax.jit(probes_lib.forced(model, nats=n))(weights, asked)
    for n in (False, True)
  )
  for row, (prompt, answer) in enumerate(zip(ASKED, answers, strict=True)):
    log_p, start = _read(prompt + answer), len(prompt) - 1
    told = list(enumerate(answer[:-1]))
    right = [np.argmax(log_p[start + i]) == token for i, token in told]
    np.testing.assert_allclose(shares[row], np.mean(right), atol=1e-6)
    nats_of = [log_p[start + i, token] for i, token in told]
    np.testing.assert_allclose(nats[row], np.mean(nats_of), rtol=1e-4)
  assert shares[1] == 1


@functools.cache
def _ranked():
  return jax.jit(
    candidates_lib.rank(_made()[0].forward, candidates_lib.flatten(_probes()))
  )


def test_a_candidates_score_is_what_it_gets_alone():
  model, weights = _made()
  asked = _probes()
  layout = candidates_lib.flatten(asked)
  score = lambda w, p: candidates_lib.score_candidates(
    model.forward, w, p, layout
  )
  found = np.asarray(jax.jit(score)(weights, asked))
  for row, prompt in enumerate(ASKED):
    for column, answer in enumerate(SETS[int(asked.set_B[row])]):
      assert found[row, column] == pytest.approx(
        _score(prompt, answer), abs=1e-4
      )


@pytest.mark.parametrize('experience', [0, 1, 2, 3])
def test_only_candidates_met_so_far_compete_and_the_right_one_always(
  experience,
):
  asked, expected = _probes(), []
  for row, prompt in enumerate(ASKED):
    number, gold = int(asked.set_B[row]), int(asked.gold_B[row])
    scores = {
      i: _score(prompt, answer)
      for i, answer in enumerate(SETS[number])
      if SINCE[number][i] <= experience or i == gold
    }
    expected.append(max(scores, key=scores.get) == gold)
  found = _ranked()(_made()[1], asked, jnp.int32(experience))
  assert np.asarray(found).tolist() == expected


def test_more_candidates_make_it_harder():
  asked = _probes()
  right = [
    int(np.sum(_ranked()(_made()[1], asked, jnp.int32(e)))) for e in range(4)
  ]
  assert right == sorted(right, reverse=True)


def _greedy_answers():
  """What the model says to each question, by reading whole sequences."""
  said = []
  for prompt in ASKED:
    row, answer = list(prompt), []
    while len(answer) < 4 and EOS not in answer:
      answer.append(int(_read(row)[-1].argmax()))
      row.append(answer[-1])
    said.append(answer)
  return said


def test_an_answer_is_right_only_as_a_whole():
  model, weights = _made()
  correct = jax.jit(probes_lib.greedy(model, eos=EOS))
  said = _greedy_answers()
  ask = lambda answers: np.asarray(correct(weights, _probes(answers))).tolist()
  assert ask(said) == [True] * 5
  for place in range(4):
    wrong = [list(x) for x in said]
    for answer in wrong:
      if place < len(answer):
        answer[place] = (answer[place] + 1) % testing.VOCAB
    assert ask(wrong) == [place >= len(x) for x in said]


def test_an_answer_that_goes_on_is_wrong():
  """The end belongs to the answer: 'Rom' is not 'Rome'."""
  model, weights = _made()
  said = _greedy_answers()
  assert any(x[1] != EOS for x in said)
  early = [x if x[1] == EOS else [x[0], EOS] for x in said]
  found = jax.jit(probes_lib.greedy(model, eos=EOS))(weights, _probes(early))
  assert np.asarray(found).tolist() == [x[1] == EOS for x in said]


def _part(asked, rows):
  take = lambda x: np.asarray(x)[np.array(rows, int)]
  return asked.replace(
    prompts=jax.tree.map(take, asked.prompts),
    **{
      name: take(getattr(asked, name))
      for name in ('answer_BA', 'answer_length_B', 'set_B', 'gold_B')
    },
  )


@pytest.mark.parametrize('chunk', [2, 4, 99])
def test_scores_do_not_depend_on_the_chunks_they_are_asked_in(chunk):
  asked = _probes(gold=(0, 1, 2, 3, 0))
  sets = {'a': _part(asked, [0, 1, 2]), 'none': _part(asked, []),
          'b': _part(asked, [3, 4])}  # fmt: skip
  right = lambda weights, probes: probes.gold_B % 2 == 0
  scorer = probes_lib.Scorer(right, sets, chunk=chunk)
  assert scorer(None) == {'a': pytest.approx(2 / 3), 'b': 0.5}


def test_without_probes_there_are_no_scores():
  scorer = probes_lib.Scorer(lambda *_: None, {}, chunk=4)
  assert scorer(None) == {}
