"""Free slots and a new slowest level change no bit of what a model answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.replay import buffer
from sleep_jax.runs import grown_levels, grown_state
from sleep_jax.schedule import checks
from tests import testing

CHAIN = (1, 'experience'), ('infinite', '2 days')


def _with_level(model, rank=3, slots=4, days=4):
  c = model.config
  levels = [dataclasses.asdict(level) for level in c.levels]
  config = testing.config().to_dict() | {'levels': levels}
  config['model']['arrangement'] = c.arrangement
  found = grown_levels.with_level(config, rank, slots, days)['levels']
  levels = tuple(map(config_lib.make_level, found))
  checks.check_periods(levels)
  return transformer.Transformer(dataclasses.replace(c, levels=levels))


def _trained(model):
  """Returns weights whose levels and active experts all add something."""
  weights = testing.weights(model, 1)
  active_NE = weights.active_NE
  for index, level in enumerate(model.config.levels):
    active_NE = active_NE.at[index, : level.slots - 1].set(level.slots > 0)
  return weights.replace(active_NE=active_NE)


def _state(weights, num_levels, replay):
  return state_lib.State(
    step=jnp.int32(7), key=jax.random.key(3), weights=weights, sums={}, opt={},
    anchor={}, woke_N=jnp.arange(num_levels, dtype=jnp.int32),
    guard_N=jnp.linspace(0, 1, num_levels), replay=replay,
  )  # fmt: skip


def _shapes(tree):
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree
  )


def _grow(old, new, old_slowest, replay=None, new_replay=None):
  """Returns the states before and after."""
  state = _state(_trained(old), old.config.num_levels, replay or {})
  wanted = _state(new.shapes(), new.config.num_levels, new_replay or {})
  return state, grown_state.grow(
    state, _shapes(wanted), old_slowest=old_slowest
  )


def _logits(model, weights):
  tokens_BT = jnp.arange(24).reshape(2, 12) % testing.VOCAB
  places = jnp.tile(jnp.arange(12), (2, 1))
  return testing.forward(model)(
    weights, tokens_BT, jnp.ones_like(tokens_BT), places
  )


@pytest.mark.parametrize(
  'changes',
  [
    {}, {'arrangement': 'independent'}, {'post_norms': True},
    {'pre_norms': False, 'post_norms': True}, {'router': 'softmax'},
  ],
)  # fmt: skip
def test_a_new_slowest_level_changes_no_logit(changes):
  old = testing.tiny(*CHAIN, **changes)
  once = _with_level(old)
  state, grown = _grow(old, once, 3)
  before = _logits(old, state.weights)
  np.testing.assert_array_equal(before, _logits(once, grown.weights))
  # The experts that are beside the base are not silent.
  silent = grown.weights.replace(active_NE=grown.weights.active_NE.at[2].set(0))
  assert np.abs(before - _logits(once, silent)).max() > 1e-3
  twice = _with_level(once, days=8)
  wanted = _state(twice.shapes(), 5, {})
  again = grown_state.grow(grown, _shapes(wanted), old_slowest=4)
  np.testing.assert_array_equal(before, _logits(twice, again.weights))


def test_free_slots_change_no_logit():
  old = testing.tiny(*CHAIN)
  levels = tuple(
    dataclasses.replace(x, slots=x.slots and x.slots + 4)
    for x in old.config.levels
  )
  new = transformer.Transformer(dataclasses.replace(old.config, levels=levels))
  state, grown = _grow(old, new, 0)
  before, after = _logits(old, state.weights), _logits(new, grown.weights)
  np.testing.assert_array_equal(before, after)
  assert float(grown.weights.active_NE.sum()) == state.weights.active_NE.sum()


def _past(num, capacity):
  group = buffer.allocate({'past': capacity}, width=2)['past']
  order = jnp.arange(capacity)
  return group.replace(
    tokens_CP=jnp.stack([order, order + 1], 1), step_C=order + 1,
    length_C=jnp.full((capacity,), 2), count=jnp.int32(num),
  )  # fmt: skip


@pytest.mark.parametrize(
  'offered, past, day, count', [(3, 4, 6, 3), (9, 4, 6, 4), (9, 6, 4, 9)]
)
def test_the_day_of_a_new_sender_is_the_past(offered, past, day, count):
  old = testing.tiny(*CHAIN)
  days = buffer.allocate({'day/1': day, 'day/2': day}, width=2)
  replay = {**days, 'past': _past(offered, past)}
  more = {**replay, **buffer.allocate({'day/3': day}, width=2)}
  _, grown = _grow(old, _with_level(old), 3, replay, more)
  found, num = grown.replay['day/3'], min(past, day)
  assert int(found.count) == count
  assert testing.same(found.tokens_CP[:num], replay['past'].tokens_CP[:num])
  assert found.step_C[:num].tolist() == list(range(1, num + 1))
  # It has not slept, and is guarded by the score of the level before it.
  assert grown.woke_N.tolist() == [0, 1, 2, 0]
  assert grown.guard_N.tolist() == [0, 0.5, 1, 1]


def test_anything_else_that_differs_is_an_error():
  old = testing.tiny(*CHAIN)
  wider = testing.tiny(*CHAIN, width=32)
  with pytest.raises(errors.WorkdirError, match='expected'):
    _grow(old, wider, 0)
  replay = buffer.allocate({'past': 4}, width=2)
  with pytest.raises(errors.WorkdirError, match='no such array'):
    _grow(old, old, 0, {}, replay)


def test_only_a_bank_that_is_not_the_slowest_is_beside_another():
  levels = [config_lib.make_level(x) for x in testing.levels(*CHAIN)]
  for number in (0, 2):
    wrong = [
      dataclasses.replace(x, beside=index == number)
      for index, x in enumerate(levels)
    ]
    with pytest.raises(errors.ConfigError, match=r'\.beside is True'):
      checks.check_periods(wrong)
