"""Teachers whose sequences have lengths of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.sleep import expert_merge, phase
from tests import testing
from tests.sleep import nights

OLD, DAY = nights.TEACHERS
SHORT = dict(max_length=6, max_new=3)


@functools.cache
def _seeded():
  """Returns a night with a short teacher, its state after it, and metrics."""
  night = nights.make_consolidation(
    on_policy=0.0, updates_per_round=20, num_updates=20,
    teachers=(OLD, DAY | SHORT), max_new=6,
  )  # fmt: skip
  return night, jax.jit(night.seed)(night.fall_asleep(nights.awake_state()))


def test_a_teacher_writes_sequences_of_its_own_lengths():
  night, (state, metrics) = _seeded()
  old, day = (state.night.pools[t.name] for t in night.settings.teachers)
  assert old.tokens_BT.shape == (16, 8) and day.tokens_BT.shape == (16, 6)
  assert old.states_BGD.shape[1] == 6 and day.states_BGD.shape[1] == 3
  written_B = np.asarray(day.length_B - day.prompt_length_B)
  assert written_B.max() == 3 and np.asarray(day.length_B).max() <= 6
  assert np.asarray(old.length_B).max() == 8
  assert metrics['loss'][-1] < metrics['loss'][0]
  assert night.settings.tokens == 12 * 8 + 12 * 6


def test_padding_changes_no_loss_and_no_gradient():
  """The rows of a short teacher, padded, are rows of a long one."""
  night, (state, _) = _seeded()
  wide = nights.make_consolidation(on_policy=0.0, max_new=6)

  def pad(x, size):
    more = ((0, 0), (0, size - x.shape[1]), *((0, 0),) * (x.ndim - 2))
    return jnp.pad(x, more, constant_values=1)

  rows = state.night.pools
  padded = {
    name: row.replace(
      tokens_BT=pad(row.tokens_BT, 8),
      states_BGD=pad(row.states_BGD, wide.settings.max_new),
    )
    for name, row in rows.items()
  }
  sizes = dict.fromkeys(rows, jnp.float32(10))
  frozen = state.replace(night=None)
  (found, _), grads = jax.value_and_grad(night._loss, has_aux=True)(
    state.night.fresh, frozen, state.night, sizes, rows, None
  )
  (expected, _), expected_grads = jax.value_and_grad(wide._loss, has_aux=True)(
    state.night.fresh, frozen, state.night, sizes, padded, None
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
    grads, expected_grads,
  )  # fmt: skip


@pytest.mark.parametrize('longest', [32, 33])
def test_short_rows_are_read_at_half_the_width(longest):
  """The states and gradients are those of a pass over the whole width."""
  night = nights.make_consolidation(on_policy=0.0)
  lengths = jnp.array([longest, 5, 20])
  rows = types.Rollout(
    tokens_BT=jax.random.randint(jax.random.key(0), (3, 64), 1, 30),
    prompt_length_B=lengths - 4, length_B=lengths,
  )  # fmt: skip
  weights = testing.weights(night.model)

  def read(params, may_halve):
    states_BGD = night.states(
      weights.with_params(params), rows, num=6, may_halve=may_halve
    )
    return jnp.sum(jnp.square(states_BGD[:, :4])), states_BGD[:, :4]

  paths = [p for p in weights.params if '/base/' in p]
  params = {path: weights.params[path] for path in paths}
  run = jax.value_and_grad(read, has_aux=True)
  found, expected = run(params, True), run(params, False)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    found, expected,
  )  # fmt: skip


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(teachers=(OLD, DAY | dict(max_length=9))), r'teachers\[1\].max_le'),
    (dict(teachers=(OLD | SHORT, DAY), imitation=nights.IMITATION),
     r'teachers\[0\] has lengths of its own, but'),
  ],
)  # fmt: skip
def test_lengths_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    nights.make_settings(**changes)


def test_old_prompts_of_the_day_may_be_left_out():
  """Of the past, [1, 22] and [1, 20, 21] are also prompts of the day."""
  changes = dict(on_policy=0.0, updates_per_round=20, num_updates=20)
  state = nights.awake_state()
  state = state.replace(woke_N=state.woke_N.at[2].set(6))

  def asked(**changed):
    night = nights.make_consolidation(
      teachers=(OLD | dict(bos_share=0.0, draws=64) | changed,), **changes
    )
    (teacher,), key = night.settings.teachers, jax.random.key(3)
    new = night.sample_rollouts(state, teacher, key)
    rows = zip(
      np.asarray(new.tokens_BT).tolist(), np.asarray(new.prompt_length_B),
      strict=True,
    )  # fmt: skip
    return {tuple(tokens[:n]) for tokens, n in rows}

  left_out = asked() - asked(skip_repeated=True)
  assert left_out == {(1, 20, 21), (1, 22)}
  # A merge has no day: the same settings leave nothing out.
  merge = expert_merge.merge_settings(
    nights.make_settings(teachers=(OLD | dict(skip_repeated=True), DAY))
  )
  assert merge.teachers[0].skip_repeated
  assert not phase.SleepPhase.day_group.fget(None)
