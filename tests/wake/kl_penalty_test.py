"""Held to the morning: what was known at waking, not how it was stored."""

import functools

import jax
import numpy as np
import pytest

from sleep_jax.learner import initial_state
from tests import testing, town

TETHER = dict(weight=1.0, sequences=8, draws=16, bos_share=0.5)


def _here(**kl_penalty):
  c = town.config()
  c.wake.kl_penalty = TETHER | kl_penalty
  here = town.Town(c)
  state = here.programs('pretrain').begin(None, jax.random.key(0))
  here.initial_model = initial_state.InitialModel(state.weights, state.replay)
  return here


@functools.cache
def _day(steps=12, **kl_penalty):
  """A town; its state after each wake step, and what the steps said."""
  here = _here(**kl_penalty)
  program = here.programs('sleep')
  state, states, said = (
    program.begin(here.initial_model, jax.random.key(0)),
    [],
    [],
  )
  for step in range(steps):
    batch = here.stream.experiences[0].batch(step)
    state, metrics = program.wake(state, batch, ())
    states.append(jax.device_get(state))
    said.append(jax.device_get(metrics))
  return here, states, said


def test_the_morning_is_written_once_and_by_the_anchor_alone():
  _, states, said = _day()
  assert states[0].kl_penalty.tokens_BT.shape == (16, 14)
  assert all(testing.same(states[0].kl_penalty, s.kl_penalty) for s in states)
  written = states[0].kl_penalty.length_B - states[0].kl_penalty.prompt_length_B
  assert [int(s['written']) for s in said] == [int(written.sum())] + 11 * [0]


def test_at_waking_nothing_pulls_and_then_something_does():
  _, _, said = _day()
  strains = [float(s['strain']) for s in said]
  assert strains[0] == pytest.approx(0, abs=1e-6)
  # At first each step counts: it grows with every one of them.
  assert 1e-6 < strains[1] < strains[2] < strains[3]


def test_a_tight_tether_keeps_the_day_near_the_morning():
  """By the divergence itself: the strain less its weight."""
  loose, tight = (
    float(_day(**how)[2][-1]['strain']) / how.get('weight', 1.0)
    for how in ({}, {'weight': 1e4})
  )
  assert loose > 1.5 * tight > 0


def test_without_weight_there_is_no_tether():
  here, states, said = _day(2, weight=0.0)
  assert states[0].kl_penalty is None
  assert {float(s['strain']) for s in said} == {0.0}
  for s, step in zip(said, range(2), strict=True):
    batch = here.stream.experiences[0].batch(step)
    assert int(s['tokens']) == int((batch.segments_BT >= 0).sum())


def test_what_is_read_for_it_is_counted():
  here, states, said = _day()
  batch = here.stream.experiences[0].batch(0)
  rows = np.asarray(states[0].kl_penalty.length_B)
  extra = int(said[0]['tokens']) - int((batch.segments_BT >= 0).sum())
  assert 8 * rows.min() <= extra <= 8 * rows.max()


def test_after_a_night_the_day_is_held_to_the_new_morning():
  """What the anchor had known before is written anew, with the new expert."""
  here, *_ = _day()
  program = here.programs('sleep')
  state = program.begin(here.initial_model, jax.random.key(0))
  batch = here.stream.experiences[0].batch(0)
  state, _ = program.wake(state, batch, (1,))
  before = jax.device_get(state.kl_penalty)
  state = program.fall_asleep(state, 1)
  while int(state.night.update) < program.settings['consolidate'].num_updates:
    state, _ = program.seed(state, 1)
  state = program.wake_up(state, 1, accept=True, guard=-1.0)
  assert testing.same(before, jax.device_get(state.kl_penalty))
  state, metrics = program.wake(state, batch, ())
  assert int(metrics['written']) > 0
  assert float(metrics['strain']) == pytest.approx(0, abs=1e-6)
  assert not testing.same(before, jax.device_get(state.kl_penalty))


def test_a_level_that_never_wakes_cannot_be_held():
  c = town.config((1, 'infinite'), (2, 'experience'))
  c.wake.kl_penalty = TETHER
  here = town.Town(c)
  with pytest.raises(ValueError, match='the fastest level never sleeps'):
    here.programs('sleep')


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'weight': -1.0}, 'wake.kl_penalty.weight is -1.0: expected 0 or more'),
    ({'bos_share': 2.0}, 'wake.kl_penalty: bos_share is 2.0: expected 0 to 1'),
    ({'sequences': 0}, 'wake.kl_penalty: sequences is 0: expected 1 or more'),
  ],
)
def test_a_tether_that_cannot_be_is_refused(change, said):
  c = town.config()
  c.wake.kl_penalty = TETHER | change
  with pytest.raises(ValueError, match=said):
    town.Town(c).programs('sleep')
