"""The initial model teaches the texts that it wrote before the first day."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.objectives import losses
from sleep_jax.replay import buffer
from sleep_jax.runs import rehearsal_texts
from sleep_jax.runtime import sharding
from sleep_jax.sleep import expert_merge, settings, settings_checks
from tests import testing
from tests.sleep import nights

TEXTS = [[1, 5, 6, 7, 8], [1, 9, 9], [1, 4, 3, 2, 9, 8, 7, 6], [1, 2]]
STARTS = [1, 1, 4, 1]
FIRST = dict(
  teacher='first', prompts='own_texts', sequences=4, draws=8, max_new=7
)
STILL = dict(on_policy=0.0, num_updates=20, updates_per_round=20)


def _with_texts(model, state, weights):
  group = buffer.allocate_own_texts(4, width=8, state_size=model.config.width)
  texts = [
    rehearsal_texts.Text(*pair) for pair in zip(TEXTS, STARTS, strict=True)
  ]
  replay = rehearsal_texts.insert(
    {buffer.OWN_TEXTS: group}, texts, model, weights, sharding.make()
  )
  return state.replace(replay=state.replay | replay)


def _initial_state(model) -> state_lib.State:
  """Returns the state of a model that has learned nothing yet."""
  state, weights = nights.awake_state(model=model), testing.weights(model, 0)
  anchor = {
    name: {path: weights.params[path] for path in paths}
    for name, paths in state.anchor.items()
  }
  state = state.replace(weights=weights, anchor=anchor)
  return _with_texts(model, state, weights)


def _night(model, **changes):
  return nights.make_consolidation(
    sender=1, model=model, teachers=(*nights.TEACHERS, FIRST),
    **(STILL | changes),
  )  # fmt: skip


@functools.cache
def _parts():
  """Returns a model, a night and its compiled programs."""
  model = nights.tiny(arrangement='independent')
  night = _night(model)
  return model, night, jax.jit(night.fall_asleep), jax.jit(night.seed)


def test_a_model_that_learned_nothing_does_not_diverge_from_its_texts():
  model, _, fall_asleep, seed = _parts()
  seeded, metrics = seed(fall_asleep(_initial_state(model)))
  # Only the sender's due update differs, which this teacher does not have.
  assert metrics['first_own_texts'][0] < 1e-6 < metrics['next_day'][0]
  pool = seeded.night.pools['first_own_texts']
  found = {
    tuple(row[:length])
    for row, length in zip(
      np.asarray(pool.tokens_BT).tolist(), np.asarray(pool.length_B),
      strict=True,
    )
  }  # fmt: skip
  assert found == {tuple(text) for text in TEXTS}
  assert sorted(set(np.asarray(pool.prompt_length_B).tolist())) == [1, 4]


def test_what_was_learned_diverges_and_a_night_lowers_that():
  model, _, fall_asleep, seed = _parts()
  state = _initial_state(model)
  state = state.replace(
    weights=testing.activate(testing.weights(model, 3), 2, 0)
  )
  _, metrics = seed(fall_asleep(state))
  divergence_U = np.asarray(metrics['first_own_texts'])
  assert divergence_U[-1] < divergence_U[0]


def test_texts_are_cut_to_the_lengths_of_their_teacher():
  model = nights.tiny(arrangement='independent')
  state = _initial_state(model)
  group = state.replay[buffer.OWN_TEXTS]
  rows = buffer.draw_own_texts(group, jax.random.key(2), num=8, max_length=5)
  states_BGD = buffer.own_states(group, rows, max_new=3)
  assert rows.tokens_BT.shape == (8, 5) and states_BGD.shape[:2] == (8, 3)
  assert sorted(np.asarray(rows.length_B).tolist()) == [2, 2, 3, 3, 5, 5, 5, 5]


def test_a_night_and_the_penalty_do_not_copy_the_states_of_own_texts():
  """They are most of the memory of a rehearsal, and are there already."""
  model, night, fall_asleep, _ = _parts()
  state = _initial_state(model)
  asleep = jax.eval_shape(fall_asleep, state)
  pool = asleep.night.pools['first_own_texts']
  assert pool.states_BGD is None
  teacher = settings.Teacher(**FIRST)
  rows = night.sample_rollouts(state, teacher, jax.random.key(3))
  assert rows.states_BGD is None
  with_states = night.with_own_states(state, teacher, rows)
  # As the initial model reads them: each is after its own prompt.
  read = night.with_teacher_states(
    night.teacher(state, 'first'), rows, teacher.max_new
  )
  mask_BG = losses.generated_mask(rows, teacher.max_new)[..., None]
  np.testing.assert_allclose(
    jnp.where(mask_BG, with_states.states_BGD, 0),
    jnp.where(mask_BG, read.states_BGD, 0), atol=1e-5,
  )  # fmt: skip


def test_a_merge_keeps_them_and_leaves_out_the_day():
  made = nights.make_settings(teachers=(*nights.TEACHERS, FIRST), **STILL)
  merge = expert_merge.merge_settings(made)
  assert [t.name for t in merge.teachers] == ['both_old', 'first_own_texts']
  night = nights.make_consolidation(**STILL)
  made = expert_merge.Merge(
    night.model, night.tx, night.templates, night.bos, night.eos, night.judge,
    merge, night,
  )  # fmt: skip
  state = nights.awake_state()
  state = _with_texts(night.model, state, state.weights)
  seeded, metrics = jax.jit(made.seed)(made.fall_asleep(state))
  assert np.isfinite(metrics['first_own_texts']).all()
  assert np.asarray(seeded.night.pools['first_own_texts'].length_B).all()


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(teachers=(FIRST | dict(prompts='old'),)), 'Set both or neither'),
    (dict(teachers=(FIRST | dict(teacher='anchor'),)), 'Set both or neither'),
    (dict(teachers=(FIRST,), on_policy=0.5), 'no prompts that the student'),
    (dict(teachers=(FIRST | dict(max_new=8),)), 'max_new=7, or less'),
  ],
)
def test_settings_that_contradict_own_texts_are_refused(changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    nights.make_settings(**(dict(on_policy=0.0) | changes))


def test_absent_positions_have_no_loss():
  """Tokens after the end of a text are not learned."""
  model = nights.tiny(arrangement='independent')
  night, state = _night(model), _initial_state(model)
  group = state.replay[buffer.OWN_TEXTS]
  after_CP = jnp.arange(8)[None] >= group.length_C[:, None]
  noisy = group.replace(tokens_CP=jnp.where(after_CP, 7, group.tokens_CP))
  other = state.replace(replay=state.replay | {buffer.OWN_TEXTS: noisy})
  run = jax.jit(lambda state: night.seed(night.fall_asleep(state))[1]['loss'])
  np.testing.assert_allclose(run(state), run(other), rtol=1e-6)


@pytest.mark.parametrize('changes', [dict(max_new=8), dict(max_length=9)])
def test_lengths_of_the_penalty_are_checked_too(changes):
  teacher = settings.Teacher(**(FIRST | changes))
  with pytest.raises(errors.ConfigError, match='wake.kl_penalty has max_len'):
    settings_checks.check_first(
      nights.make_settings(), teacher, 'config.wake.kl_penalty'
    )
