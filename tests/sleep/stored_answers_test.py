"""Tests of nights that rehearse stored answers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.objectives import losses
from sleep_jax.replay import buffer
from sleep_jax.strategies import registry
from tests import testing, tiny_study
from tests.sleep import nights

ANSWER = [30, 31, testing.EOS]


def _with_answers(state, *, known):
  """Returns the state; all prompts have the same answer, or an unknown one."""

  def of_group(group):
    num = len(group.length_C)
    length_C = jnp.full((num,), len(ANSWER) * known, jnp.int32)
    tokens_CA = jnp.tile(jnp.asarray(ANSWER, jnp.int32), (num, 1))
    return group.replace(answers=types.Texts(tokens_CA, length_C))

  replay = {name: of_group(group) for name, group in state.replay.items()}
  return state.replace(replay=replay)


@functools.cache
def _night():
  night = nights.make_consolidation()
  settings = dataclasses.replace(night.settings, stored_answers=True)
  night = dataclasses.replace(night, settings=settings)
  return night, jax.jit(night.fall_asleep), jax.jit(night.seed)


def _first_round(*, known):
  night, fall_asleep, seed = _night()
  asleep = fall_asleep(_with_answers(nights.awake_state(), known=known))
  seeded, metrics = seed(asleep)
  return night, asleep, jax.device_get(seeded), metrics


def test_known_answers_are_rehearsed_and_the_teacher_answers_the_rest():
  _, _, seeded, _ = _first_round(known=True)
  old, day = (seeded.night.pools[n] for n in ('anchor_old', 'next_day'))
  for pool, num in ((old, 16), (day, 16)):
    rows = zip(
      pool.tokens_BT[:num], pool.prompt_length_B[:num], pool.length_B[:num],
      pool.is_stored_B[:num], strict=True,
    )  # fmt: skip
    for tokens, start, stop, is_stored in rows:
      assert (tokens[start:stop].tolist() == ANSWER) == is_stored
  # Prompts of BOS alone have none.
  assert day.is_stored_B[:16].all()
  bos_only = old.prompt_length_B[:16] == 1
  np.testing.assert_array_equal(old.is_stored_B[:16], ~bos_only)
  assert 0 < bos_only.sum() < 16


def test_the_student_reads_sequences_of_all_teachers_alike():
  """Own texts have no stored answers; rows of equal width are joined."""
  night, _, seeded, _ = _first_round(known=True)
  pool = seeded.night.pools['next_day']
  own = pool.replace(is_stored_B=None)
  read = [night.student_input(None, rollout) for rollout in (pool, own)]
  assert testing.same(*read)
  assert jax.tree.structure(read[0]) == jax.tree.structure(read[1])


def test_the_loss_of_a_stored_answer_is_its_cross_entropy():
  night, asleep, seeded, metrics = _first_round(known=True)
  student = night.student(asleep)
  tokens_1T = jnp.asarray([[*nights.TODAY[0], *ANSWER]], jnp.int32)
  logits_1TV = night.model.forward(
    student, *types.model_inputs(tokens_1T, jnp.array([tokens_1T.shape[1]]))
  )
  score = np.asarray(losses.log_likelihood(logits_1TV, tokens_1T))[0]
  expected = -score[len(nights.TODAY[0]) - 1 :]
  pool = jax.tree.map(lambda x: x[:16], seeded.night.pools['next_day'])
  (row,) = np.flatnonzero(
    (pool.tokens_BT[:, : tokens_1T.shape[1]] == tokens_1T).all(1)
  )[:1]
  rollout = jax.tree.map(lambda x: jnp.asarray(x[row : row + 1]), pool)
  value_BG = night.divergence(
    student, student, rollout,
    night.states(student, night.student_input(None, rollout)),
  )  # fmt: skip
  np.testing.assert_allclose(value_BG[0, : len(ANSWER)], expected, rtol=1e-4)
  # It is learned.
  falling = np.asarray(metrics['next_day'])
  assert falling[-1] < falling[0] - 0.1


def test_unknown_answers_leave_a_night_as_it_is():
  night, _, seeded, metrics = _first_round(known=False)
  plain = dataclasses.replace(
    night, settings=dataclasses.replace(night.settings, stored_answers=False)
  )
  asleep = jax.jit(plain.fall_asleep)(nights.awake_state())
  expected, plain_metrics = jax.jit(plain.seed)(asleep)
  np.testing.assert_allclose(
    metrics['loss'], plain_metrics['loss'], rtol=1e-5, atol=1e-6
  )
  testing.close(seeded.night.fresh, jax.device_get(expected.night.fresh))


def _study(**replay):
  c = tiny_study.config()
  c.replay.update(replay)
  return tiny_study.TinyStudy(c)


def test_the_strategy_stores_answers_and_sleep_does_not(tmp_path):
  study = _study(store='rows').make_initial_model(tmp_path)
  corpus = study.initial_model.replay[buffer.PRETRAIN]
  valid = np.arange(len(corpus.length_C)) < int(corpus.count)
  assert (np.asarray(corpus.answers.length_B)[valid] > 0).all()
  state, _ = study.run('sleep_rows', tmp_path / 'rows')
  past = state.replay[buffer.PAST]
  assert int(past.count) and int(past.answers.length_B.max()) > 0
  plain = study.programs('sleep').abstract(study.initial_model)
  assert all(group.answers is None for group in plain.replay.values())
  # `er` may store as many tokens.
  stored = study.programs('sleep_rows').abstract(study.initial_model).replay
  rows = study.programs('er').abstract(study.initial_model).row_buffer.rows
  room, size = buffer.token_capacity(stored), rows['tokens_BT'].size
  assert room - rows['tokens_BT'].shape[1] < size <= room


@pytest.mark.parametrize(
  'change, message',
  [
    (
      {'replay.store': 'prompts'},
      "replay.store is 'prompts': set it to 'rows'",
    ),
    ({'dream.on': True}, "'sleep_rows' has no dreaming nights: leave it out"),
  ],
)
def test_what_the_strategy_needs_is_said(change, message):
  c = tiny_study.config()
  c.replay.store = 'rows'
  c.update_from_flattened_dict(change)
  with pytest.raises(errors.ConfigError, match=message):
    tiny_study.TinyStudy(c).programs('sleep_rows')
  assert 'sleep_rows' in registry.names()
