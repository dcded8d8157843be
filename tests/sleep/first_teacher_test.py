"""The teacher 'first' is the initial model, and 'pretrain' its prompts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.sleep import expert_merge
from tests import testing
from tests.sleep import nights

FIRST = dict(
  teacher='first', prompts='pretrain', sequences=4, draws=16, bos_share=0.0
)


def _initial_state(model):
  """Returns the state of a model that has learned nothing yet."""
  state = nights.awake_state(model=model)
  weights = testing.weights(model, 0)
  base = {
    name: {path: weights.params[path] for path in paths}
    for name, paths in state.anchor.items()
  }
  return state.replace(weights=weights, anchor=base)


def _logits(model, weights):
  tokens_BT, length_B = jnp.arange(1, 13).reshape(2, 6), jnp.full(2, 6)
  inputs = types.model_inputs(tokens_BT, length_B)
  return np.asarray(testing.forward(model)(weights, *inputs))


def test_it_is_the_initial_model_after_nights():
  model = nights.tiny(arrangement='independent')
  night = nights.make_consolidation(
    sender=1, model=model, on_policy=0.0, num_updates=20,
    teachers=nights.TEACHERS,
  )  # fmt: skip
  state = _initial_state(model)
  initial = _logits(model, state.weights)
  for _ in range(2):
    params = {
      path: leaf + 0.1 if path in state.anchor['1'] else leaf
      for path, leaf in state.weights.params.items()
    }
    state = state.replace(
      step=state.step + 1, weights=state.weights.with_params(params)
    )
    asleep, _ = jax.jit(night.seed)(night.fall_asleep(state))
    state = night.wake_up(asleep, jnp.bool_(True), jnp.zeros(()))
  assert np.asarray(state.weights.active_NE).sum() == 2
  assert np.abs(_logits(model, state.weights) - initial).max() > 1e-3
  np.testing.assert_array_equal(
    _logits(model, night.teacher(state, 'first')), initial
  )


def test_its_prompts_are_those_of_the_initial_model():
  night = nights.make_consolidation(
    teachers=(*nights.TEACHERS, FIRST), on_policy=0.0
  )
  teacher = night.settings.teachers[-1]
  new = night.sample_rollouts(nights.awake_state(), teacher, jax.random.key(1))
  rows = zip(
    np.asarray(new.tokens_BT).tolist(), np.asarray(new.prompt_length_B),
    strict=True,
  )  # fmt: skip
  found = {tuple(tokens[:length]) for tokens, length in rows}
  assert found == {tuple(prompt) for prompt in nights.PRETRAIN}


def test_a_merge_keeps_it_and_leaves_out_the_day():
  merge = expert_merge.merge_settings(
    nights.make_settings(teachers=(*nights.TEACHERS, FIRST))
  )
  assert [t.name for t in merge.teachers] == ['both_old', 'first_pretrain']
  night = nights.make_consolidation(on_policy=0.0)
  made = expert_merge.Merge(
    night.model, night.tx, night.templates, night.bos, night.eos, night.judge,
    merge, night,
  )  # fmt: skip
  state = nights.awake_state()
  first, both = (made.teacher(state, t.teacher) for t in merge.teachers[::-1])
  assert not np.asarray(first.active_NE).any()
  assert np.asarray(both.active_NE)[2].any()
  groups = [made.prompt_window(state, t.prompts)[0] for t in merge.teachers]
  assert groups == [('corpus', 'past'), ('corpus',)]
  seeded, metrics = jax.jit(made.seed)(made.fall_asleep(state))
  assert np.isfinite(metrics['first_pretrain']).all()
  assert seeded.night.pools['first_pretrain'].length_B.any()


@pytest.mark.parametrize(
  'changes', [dict(sender_after_sleep='updated'), dict(into='base')]
)
def test_it_is_refused_where_nights_change_the_initial_model(changes):
  with pytest.raises(errors.ConfigError, match="has 'first', which is"):
    nights.make_settings(teachers=(*nights.TEACHERS, FIRST), **changes)
