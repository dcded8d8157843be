"""A night whose fresh expert starts as a copy of the sender's units."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax import types as types_lib
from sleep_jax.learner import checks
from sleep_jax.model import transformer
from sleep_jax.sleep import settings
from tests import testing
from tests.sleep import nights

HIDDEN = nights.tiny().config.levels[1].hidden


@functools.cache
def _model(rank):
  """Returns the model of `nights`, with experts of this rank at level 3."""
  found = nights.tiny(
    arrangement='independent', router='always', gated_experts=True
  ).config
  levels = *found.levels[:2], dataclasses.replace(found.levels[2], rank=rank)
  return transformer.Transformer(dataclasses.replace(found, levels=levels))


def _state(rank):
  """Returns a state whose sender added nothing at its last waking."""
  state = nights.awake_state(model=_model(rank))
  down = 'blocks/levels/2/base/mlp/down'
  anchor = dict(state.anchor['2'])
  anchor[down] = jnp.zeros_like(anchor[down])
  active_NE = state.weights.active_NE.at[1].set(0)
  return state.replace(
    anchor=state.anchor | {'2': anchor},
    weights=state.weights.replace(active_NE=active_NE),
  )


def _states(model, weights):
  tokens_BT = testing.batch().tokens_BT
  length_B = jnp.full((len(tokens_BT),), tokens_BT.shape[1])
  rows = types_lib.model_inputs(tokens_BT, length_B)
  return np.asarray(jax.jit(model.states)(weights, *rows))


@pytest.mark.parametrize('extra', [0, 3])
def test_the_student_starts_as_the_model_of_the_evening(extra):
  """With the due update applied. More units than needed change nothing."""
  model = _model(HIDDEN + extra)
  night = nights.make_consolidation(model=model, start='sender')
  asleep = night.fall_asleep(_state(HIDDEN + extra))
  evening = night.teacher(asleep, 'next')
  assert (
    np.abs(
      _states(model, evening) - _states(model, night.teacher(asleep, 'anchor'))
    ).max()
    > 0.1
  )
  for weights in (night.student(asleep), night.committed(asleep)):
    np.testing.assert_allclose(
      _states(model, weights), _states(model, evening), atol=1e-5
    )


def test_a_smaller_expert_takes_the_units_that_write_most():
  state, rank = _state(2), 2
  night = nights.make_consolidation(model=_model(rank), start='sender')
  asleep = night.fall_asleep(state)
  base = asleep.night.sender_next
  mlp = {
    name: np.asarray(base[f'blocks/levels/2/base/mlp/{name}'])
    for name in ('gate', 'up', 'down')
  }
  size_LF = np.linalg.norm(mlp['down'], axis=2) * np.linalg.norm(
    mlp['up'], axis=1
  )
  fresh = asleep.night.fresh['3']
  equal = np.testing.assert_array_equal
  for layer, size_F in enumerate(size_LF):
    units = np.argsort(size_F)[::-1][:rank]
    np.testing.assert_array_equal(
      fresh['A'][layer], mlp['gate'][layer][:, units]
    )
    equal(fresh['U'][layer], mlp['up'][layer][:, units])
    equal(fresh['B'][layer], mlp['down'][layer][units])


def test_experts_of_the_sender_are_copied_with_its_mlp():
  own = _model(1).config.levels[1]
  rank = own.hidden + own.slots * own.rank
  model, state = _model(rank), _state(rank)
  path = 'blocks/levels/2/experts/B'
  random = jax.random.normal(
    jax.random.key(0), state.weights.params[path].shape
  )
  weights = testing.activate(state.weights, 2, 0)
  state = state.replace(weights=weights.with_params({path: random}))
  night = nights.make_consolidation(model=model, start='sender')
  asleep = night.fall_asleep(state)
  evening = _states(model, night.teacher(asleep, 'next'))
  off = _states(model, night.student(asleep).replace(fresh=None))
  assert np.abs(evening - off).max() > 0.1
  for weights in (night.student(asleep), night.committed(asleep)):
    np.testing.assert_allclose(_states(model, weights), evening, atol=1e-4)


def test_a_merge_starts_from_the_units_of_both_experts_that_write_most():
  """Here one of the two adds nothing, so all units of the other one stay."""
  c = testing.config(full='merge', start='sender')
  c.model.update(arrangement='independent', router='always', gated_experts=True)
  programs, state = testing.make_run(
    c, testing.placement(data=1, fsdp=1, tensor=1)
  )
  merge = programs._merges[1]
  path = 'blocks/levels/2/experts/B'
  down = jax.random.normal(jax.random.key(0), state.weights.params[path].shape)
  weights = testing.activate(state.weights, 2, 0, 1)
  state = state.replace(
    weights=weights.with_params({path: down.at[:, 1].set(0)})
  )
  asleep = jax.jit(merge.fall_asleep)(state)
  assert asleep.night.pair_2.tolist() == [0, 1]
  both = _states(merge.model, merge.teacher(asleep, 'both'))
  np.testing.assert_allclose(
    _states(merge.model, merge.student(asleep)), both, atol=1e-4
  )


def test_the_context_window_has_no_units_to_copy():
  with pytest.raises(errors.ConfigError, match='context window has no units'):
    checks.check_copied_sender(
      nights.make_settings(start='sender'), _model(2).config, 0
    )


def test_configs_in_which_a_copy_would_do_something_else_are_refused():
  good = nights.make_settings(start='sender')
  checks.check_copied_sender(good, _model(2).config, 2)
  with pytest.raises(errors.ConfigError) as error:
    checks.check_copied_sender(
      dataclasses.replace(good, sender_after_sleep=settings.UPDATED),
      nights.tiny().config,
      2,
    )
  for field in (
    "config.consolidate.sender_after_sleep is 'updated', not 'cleared'",
    "config.model.arrangement is 'sequential', not 'independent'",
    'config.model.gated_experts is False, not True',
    "config.model.router is 'sigmoid', not 'always'",
  ):
    assert field in str(error.value)
