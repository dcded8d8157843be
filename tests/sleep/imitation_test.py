"""Imitation: rewards of completions train the fresh expert and nothing else."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.optim import optimizer
from sleep_jax.sleep import imitation
from tests import testing
from tests.sleep import nights

TARGET = 9  # The token that is rewarded.


def _rewards_target(wanted, found):
  """A judge that scores whether the first token is the target."""
  score_B = (found.tokens_BS[:, 0] == TARGET) & (found.length_B > 0)
  return score_B.astype(jnp.float32), {}


@functools.cache
def _imitation_night():
  """Returns the states of a night trained on the reward alone, and metrics."""
  night = nights.make_consolidation(
    judge=_rewards_target,
    imitation=nights.IMITATION
    | dict(alpha=0.0, gamma=1.0, cuts=2, completions=8),
    updates_per_round=8, num_updates=64,
    teachers=[t | dict(draws=24) for t in nights.TEACHERS],
    tx=optimizer.make(learning_rate=0.05),
  )  # fmt: skip
  state, seed, rows = (
    jax.jit(night.fall_asleep)(nights.awake_state()),
    jax.jit(night.seed),
    [],
  )
  states = [state]
  for _ in range(night.settings.rounds):
    state, metrics = seed(state)
    states.append(state)
    rows.append(metrics)
  return night, states, rows


def test_rewarded_tokens_become_more_frequent():
  _, _, rows = _imitation_night()
  rewards = [float(row['imitation']['reward']) for row in rows]
  assert rewards[0] < 0.2
  assert rewards[-1] > rewards[0] + 0.3
  assert [float(row['imitation']['meaning']) for row in rows] == rewards


def test_rewards_train_only_the_fresh_expert():
  _, states, _ = _imitation_night()
  rest = lambda s: s.replace(night=None)
  assert testing.same(rest(states[0]), rest(states[-1]))
  fresh = (states[0].night.fresh['3'], states[-1].night.fresh['3'])
  assert testing.changed(*fresh) == {'A', 'B', 'router', 'bias'}


def test_the_reinforce_gradient_is_that_of_the_expected_reward():
  """For completions of one token, whose probabilities can be enumerated."""
  night, states, _ = _imitation_night()
  state = states[1]
  rows = jax.tree.map(lambda x: x[:1], state.night.pools['anchor_old'])
  start = rows.prompt_length_B
  vocab = night.model.config.vocab_size
  reward_V = jnp.asarray(np.random.default_rng(0).normal(size=vocab), 'f4')

  def logits(fresh, rows):
    student = night.student(
      state.replace(night=state.night.replace(fresh=fresh))
    )
    return night.model.logits(student, night.states(student, rows))

  def probabilities(fresh):
    return jax.nn.softmax(logits(fresh, rows)[0, 0])

  def expected_reward(fresh):
    return jnp.sum(probabilities(fresh) * reward_V)

  # Every completion once, weighted by its probability: no sampling error.
  every_token = jax.tree.map(lambda x: jnp.repeat(x, vocab, 0), rows)
  every_token = every_token.replace(
    tokens_BT=every_token.tokens_BT.at[:, start[0]].set(jnp.arange(vocab)),
    length_B=every_token.prompt_length_B + 1,
  )
  weight_V = vocab * jax.jit(probabilities)(state.night.fresh) * reward_V

  def objective(fresh):
    return imitation.reinforce_objective(
      logits(fresh, every_token), every_token, weight_V, temperature=1.0
    )

  expected = jax.jit(jax.grad(expected_reward))(state.night.fresh)
  found = jax.jit(jax.grad(objective))(state.night.fresh)
  for here, there in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
  assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-4


@functools.cache
def _completions():
  """Returns the state of a first round, and the completions of its pools."""
  night, states, _ = _imitation_night()
  state = states[1].replace(night=states[1].night.replace(update=jnp.int32(0)))
  return state, jax.jit(night._sample_completions)(
    state, state.night.pools, jax.random.key(0)
  )


def test_a_completion_starts_inside_the_teachers_text():
  night, _, _ = _imitation_night()
  _, ((own, advantage), metrics) = _completions()
  assert own.tokens_BT.shape[:2] == advantage.shape == (8, 2 * 2 * 8)
  assert (own.prompt_length_B >= 1).all()
  assert (own.length_B > own.prompt_length_B).all()
  assert 0 < float(metrics['length_wanted']) <= night.settings.max_new


def test_completion_metrics_equal_those_of_whole_forward_passes():
  """The student's entropy and the teachers' log-likelihood."""
  night, _, _ = _imitation_night()
  state, ((own, _), metrics) = _completions()
  half = own.tokens_BT.shape[1] // 2  # Per update and teacher.
  sums = {'entropy': 0.0, 'likelihood': 0.0}
  for number, teacher in enumerate(('anchor', 'next')):
    rows = jax.tree.map(
      lambda x, n=number: x[:, n * half : (n + 1) * half].reshape(
        -1, *x.shape[2:]
      ),
      own,
    )
    log = {
      name: np.asarray(jax.nn.log_softmax(_logits(weights, rows)))[:, :-1]
      for name, weights in (
        ('student', night.student(state)),
        ('teacher', night.teacher(state, teacher)),
      )
    }
    place = np.arange(1, rows.tokens_BT.shape[1])[None]
    inside = (place >= rows.prompt_length_B[:, None]) & (
      place < rows.length_B[:, None]
    )
    entropy = -(np.exp(log['student']) * log['student']).sum(-1)
    tokens = np.asarray(rows.tokens_BT)[:, 1:, None]
    score = np.take_along_axis(log['teacher'], tokens, -1)[..., 0]
    sums['entropy'] += entropy[inside].mean() / 2
    sums['likelihood'] += score[inside].mean() / 2
  for name, expected in sums.items():
    assert float(metrics[name]) == pytest.approx(expected, rel=1e-4)


def _logits(weights, rows):
  model = nights.tiny()
  return model.forward(
    weights, *types.model_inputs(rows.tokens_BT, rows.length_B)
  )


@pytest.mark.parametrize(
  ('now', 'message'),
  [
    (dict(likelihood=-2.4), ''),
    (dict(likelihood=-2.6), '-2.6 nats per token, -1.5 .*stop_likelihood 1.0'),
    (dict(likelihood=math.nan), 'nan nats'),
    (dict(repetition=0.7), ''),
    (
      dict(repetition=0.8),
      '0.80 of themselves, .* 0.25: .*stop_repetition 0.5',
    ),
  ],
)
def test_a_collapse_of_the_completions_is_detected(now, message):
  first = dict(likelihood=-1.5, repetition=0.2, repetition_wanted=0.25)
  found = imitation.detect_collapse(
    first, first | now, nights.make_settings().imitation
  )
  assert bool(found) == bool(message)
  assert re.search(message, found)
