"""Tests of the KL penalty to the anchor in wake steps."""

import functools

import jax
import numpy as np
import pytest

from sleep_jax import state as state_lib
from sleep_jax.replay import buffer
from tests import testing, tiny_study

PENALTY = dict(weight=1.0, sequences=8, draws=16, bos_share=0.5)
SECOND = PENALTY | dict(weight=3.0, draws=8, sequences=4)


@functools.cache
def _initial_model():
  """Returns an untrained model, which depends on no penalty."""
  program = tiny_study.TinyStudy(tiny_study.config()).programs('pretrain')
  state = jax.device_get(program.begin(None, jax.random.key(0)))
  return state_lib.InitialModel(state.weights, state.replay)


def _make_town(**wake):
  c = tiny_study.config()
  c.wake.update(wake)
  study = tiny_study.TinyStudy(c)
  study.initial_model = _initial_model()
  return study


@functools.cache
def _day(steps=12, **kl_penalty):
  """Returns a study, and its state and metrics after each wake step."""
  study = _make_town(kl_penalty=PENALTY | kl_penalty)
  program = study.programs('sleep')
  state = program.begin(study.initial_model, jax.random.key(0))
  states, history = [], []
  for step in range(steps):
    batch = study.stream.experiences[0].batch(step)
    state, metrics = program.wake(state, batch, ())
    states.append(jax.device_get(state))
    history.append(jax.device_get(metrics))
  return study, states, history


def test_rehearsals_are_written_once_at_waking():
  _, states, metrics = _day()
  assert states[0].kl_penalty.tokens_BT.shape == (16, 14)
  assert all(testing.same(states[0].kl_penalty, s.kl_penalty) for s in states)
  written = states[0].kl_penalty.length_B - states[0].kl_penalty.prompt_length_B
  assert [int(s['written']) for s in metrics] == [int(written.sum())] + 11 * [0]


def test_the_penalty_is_zero_at_waking_and_then_grows():
  _, _, metrics = _day()
  penalties = [float(s['penalty_loss']) for s in metrics]
  assert penalties[0] == pytest.approx(0, abs=1e-6)
  # During the first steps each one increases the divergence.
  assert 1e-6 < penalties[1] < penalties[2] < penalties[3]


def test_a_larger_weight_keeps_the_model_closer_to_the_anchor():
  """Compares the divergence, which is the penalty divided by its weight."""
  weak, strong = (
    float(_day(**settings)[2][-1]['penalty_loss']) / settings.get('weight', 1.0)
    for settings in ({}, {'weight': 1e4})
  )
  assert weak > 1.5 * strong > 0


def test_a_weight_of_zero_turns_the_penalty_off():
  study, states, metrics = _day(2, weight=0.0)
  assert states[0].kl_penalty is None
  assert {float(s['penalty_loss']) for s in metrics} == {0.0}
  for s, step in zip(metrics, range(2), strict=True):
    batch = study.stream.experiences[0].batch(step)
    assert int(s['tokens']) == int((batch.segments_BT >= 0).sum())


def test_each_rehearsal_is_read_before_one_is_read_again():
  """Two steps with 8 of 16 rehearsals each; tokens that they read count."""
  study, states, metrics = _day()
  length_B = np.asarray(states[0].kl_penalty.length_B)
  assert length_B[:8].sum() != length_B[8:].sum()
  extra = []
  for step, counts in enumerate(metrics[:4]):
    batch = study.stream.experiences[0].batch(step)
    extra.append(int(counts['tokens']) - int((batch.segments_BT >= 0).sum()))
  assert extra[:2] == extra[2:] == [length_B[:8].sum(), length_B[8:].sum()]


def test_rehearsals_are_written_anew_after_a_night():
  """The anchor then includes the new expert."""
  study, *_ = _day()
  program = study.programs('sleep')
  state = program.begin(study.initial_model, jax.random.key(0))
  batch = study.stream.experiences[0].batch(0)
  state, _ = program.wake(state, batch, (1,))
  before = jax.device_get(state.kl_penalty)
  state = program.fall_asleep(state, 1)
  while int(state.night.update) < program.settings(1).num_updates:
    state, _ = program.seed(state, 1)
  state = program.wake_up(state, 1, accept=True, guard=-1.0)
  assert testing.same(before, jax.device_get(state.kl_penalty))
  state, metrics = program.wake(state, batch, ())
  assert int(metrics['written']) > 0
  assert float(metrics['penalty_loss']) == pytest.approx(0, abs=1e-6)
  assert not testing.same(before, jax.device_get(state.kl_penalty))


def test_rehearsals_are_written_anew_if_an_expert_was_switched_off():
  """They may repeat what it held, and no night may be accepted since."""
  study, states, _ = _day()
  program = study.programs('sleep')
  assert states[3].kl_penalty.length_B.min() > 0
  state = program.disable_expert(jax.device_put(states[3]), 2, 0)
  assert int(state.kl_penalty.length_B.max()) == 0
  batch = study.stream.experiences[0].batch(4)
  state, metrics = program.wake(state, batch, ())
  assert int(metrics['written']) > 0 and float(metrics['penalty_loss']) > 1e-6
  assert int(state.kl_penalty.length_B.min()) > 0


def test_a_level_that_never_sleeps_is_refused():
  c = tiny_study.config((1, 'infinite'), (2, 'experience'))
  c.wake.kl_penalty = PENALTY
  study = tiny_study.TinyStudy(c)
  with pytest.raises(ValueError, match='the fastest level never sleeps'):
    study.programs('sleep')


def test_a_second_penalty_adds_to_the_first_and_has_rehearsals_of_its_own():
  study = _make_town(kl_penalty=PENALTY, second_kl_penalty=SECOND)
  program = study.programs('sleep')
  state = program.begin(study.initial_model, jax.random.key(0))
  penalties, written = [], []
  for step in range(3):
    batch = study.stream.experiences[0].batch(step)
    state, metrics = program.wake(state, batch, ())
    penalties.append(float(metrics['penalty_loss']))
    written.append(int(metrics['written']))
  first, second = (
    jax.device_get(rollout)
    for rollout in (state.kl_penalty, state.second_kl_penalty)
  )
  assert (len(first.length_B), len(second.length_B)) == (16, 8)
  lengths = [x.length_B - x.prompt_length_B for x in (first, second)]
  assert written == [sum(int(x.sum()) for x in lengths), 0, 0]
  # The first one alone is as it was, so both start alike and then differ.
  _, _, alone = _day()
  assert penalties[0] == pytest.approx(0, abs=1e-6)
  assert penalties[1] > 1.5 * float(alone[1]['penalty_loss'])


def test_prompts_that_the_day_asks_again_are_not_held():
  """The day may correct what the anchor says."""
  shares = dict(bos_share=0.0, cut_share=0.0, template_share=0.0)
  study, states, metrics = _day(2, skip_repeated=True, **shares)
  assert float(metrics[1]['penalty_loss']) > 0  # The day asks nothing again.
  program, state = study.programs('sleep'), states[-1]
  rows, day = state.kl_penalty, state.replay[buffer.day_group(1)]
  capacity, width = day.tokens_CP.shape
  everything = day.replace(
    tokens_CP=np.zeros((capacity, width), np.int32),
    length_C=np.resize(rows.prompt_length_B, capacity),
    count=np.full_like(day.count, capacity),
  )
  same = min(width, rows.tokens_BT.shape[1])
  everything.tokens_CP[:, :same] = np.resize(
    rows.tokens_BT, (capacity, rows.tokens_BT.shape[1])
  )[:, :same]
  assert capacity >= len(rows.length_B)
  state = state.replace(
    replay={**state.replay, buffer.day_group(1): everything}
  )
  batch = study.stream.experiences[0].batch(2)
  _, metrics = program.wake(state, batch, ())
  assert float(metrics['penalty_loss']) == 0.0


def test_micro_batches_do_not_change_a_step():
  """Gradients are sums, and both penalties are read in parts."""
  found = []
  for num in (1, 2):
    study = _make_town(
      kl_penalty=PENALTY, second_kl_penalty=SECOND, micro_batches=num
    )
    program = study.programs('sleep')
    state = program.begin(study.initial_model, jax.random.key(0))
    for step in range(8):
      batch = study.stream.experiences[0].batch(step)
      state, metrics = program.wake(state, batch, ())
    found.append(
      (jax.device_get(state.weights), float(metrics['penalty_loss']))
    )
  (whole, penalty), (parts, same_penalty) = found
  # A divergence is a difference of f32 numbers near 1: it has 1e-7 of error,
  # so the model has to differ enough for a relative comparison.
  assert same_penalty == pytest.approx(penalty, rel=1e-3) and penalty > 2e-4
  for path, leaf in whole.trainable.items():
    np.testing.assert_allclose(leaf, parts.trainable[path], atol=2e-4)
