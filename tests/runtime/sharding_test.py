"""Results are equal on one and on eight devices; arrays follow the rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.runtime import sharding
from tests import testing

ONE = (1, 1, 1)
MESHES = [(8, 1, 1), (2, 2, 2)]
NIGHT = (2, 2, 2)


def _place(shape):
  data, fsdp, tensor = shape
  return testing.placement(data=data, fsdp=fsdp, tensor=tensor)


@functools.cache
def _run_day(shape):
  """Programs, the state after a day of two steps, and its numbers."""
  place = _place(shape)
  with jax.set_mesh(place.mesh):
    # New ones: their compilations are counted.
    programs, state = testing.make_run(
      testing.short_config(), place, is_new=True
    )
    for step in range(2):
      held = (1,) if step == 1 else ()
      state, metrics = programs.wake(state, testing.batch(step), held)
  # Copied to the host: the next program donates the state.
  return programs, state, jax.device_get((_plain(state), metrics))


def _plain(state):
  return state.replace(key=jax.random.key_data(state.key))


@functools.cache
def _run_nights(shape):
  """Numbers after two nights, and compilations counted after each."""
  programs, state, _ = _run_day(shape)
  compiled, counts = [], []
  listen = lambda name, *_, **__: compiled.append(name)
  jax.monitoring.register_event_duration_secs_listener(listen)
  with jax.set_mesh(programs.placement.mesh):
    for day in range(2):
      if day:
        for step in range(2):
          held = (1,) if step == 1 else ()
          # Other rows than on the first day. A weight whose gradient is 0 but
          # for rounding would be moved by Adam in any direction.
          state, _ = programs.wake(state, testing.batch(2 + step), held)
      state = programs.fall_asleep(state, 1)
      divergence = []
      for _ in range(2):
        state, metrics = programs.seed(state, 1)
        divergence.append(np.asarray(metrics['next_day']))
      pools = jax.device_get(state.night.pools)
      state = programs.wake_up(state, 1, accept=True, guard=0.5)
      counts.append(sum('backend_compile' in name for name in compiled))
  jax.monitoring.unregister_event_duration_listener(listen)
  return jax.device_get((_plain(state), divergence, pools)), counts


def _split_states(pools):
  """Rehearsals without teacher states, and the teacher states alone."""
  tokens = {n: pool.replace(states_BGD=None) for n, pool in pools.items()}
  return tokens, {n: pool.states_BGD for n, pool in pools.items()}


@pytest.mark.parametrize('shape', MESHES)
def test_day_on_many_devices_equals_the_day_on_one(shape):
  (one, metrics), (many, other) = _run_day(ONE)[2], _run_day(shape)[2]
  testing.close(one.weights, many.weights)
  testing.close(one.sums, many.sums)
  testing.close(metrics, other)
  # Prompts are copied, not computed, so they are equal exactly.
  assert testing.same(one.replay, many.replay)
  assert int(one.replay['past'].count) == 2 * testing.ROWS
  initial_model = testing.weights(testing.tiny((1, 2)))
  moved = testing.changed(initial_model.params, one.weights.params)
  assert moved == set(one.anchor['1'])


@pytest.mark.parametrize('shape', MESHES)
def test_every_array_is_sharded_by_its_rule(shape):
  programs, state, _ = _run_day(shape)
  wanted = programs.placement.shardings(state)
  for (path, leaf), place in zip(
    jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(wanted),
    strict=True,
  ):  # fmt: skip
    assert leaf.sharding.is_equivalent_to(place, leaf.ndim), path
  if shape == NIGHT:
    gate = state.weights.params['blocks/levels/1/base/mlp/gate']
    assert {s.data.shape for s in gate.addressable_shards} == {(2, 8, 8)}
    assert len(gate.sharding.device_set) == 8
    scale = state.weights.params['norm/scale']
    assert scale.sharding.is_fully_replicated


def test_night_on_many_devices_equals_the_night_on_one():
  (one, divergence, pools), _ = _run_nights(ONE)
  (many, other, many_pools), _ = _run_nights(NIGHT)
  tokens, states = _split_states(pools)
  many_tokens, many_states = _split_states(many_pools)
  assert testing.same(tokens, many_tokens)  # Exactly.
  testing.close(states, many_states, 1e-4)
  testing.close(divergence, other, 1e-4)
  testing.close(one.weights.params, many.weights.params, 1e-4)
  assert one.weights.active_NE[1].sum() == 2
  assert testing.same(one.weights.active_NE, many.weights.active_NE)


@pytest.mark.parametrize('shape', [ONE, NIGHT])
def test_nothing_compiles_after_the_first_full_cycle(shape):
  _, counts = _run_nights(shape)
  first, second = counts
  assert 0 < first == second


@pytest.mark.parametrize('on_policy', [0.0, 0.5])
def test_every_array_of_a_night_has_a_sharding(on_policy):
  place = _place((8, 1, 1))
  config = testing.config((1, 2), on_policy=on_policy)
  with jax.set_mesh(place.mesh):
    programs, _ = testing.make_run(config, place)
    initial_model = testing.initial_model(programs.model)
    night_state = programs.abstract(initial_model, night=1)
  # Rows are written by index, so no axis shards the rows.
  for pool in jax.tree.leaves(night_state.night.pools):
    assert pool.sharding.shard_shape(pool.shape)[0] == pool.shape[0]


def test_error_names_an_array_without_a_rule():
  with pytest.raises(ValueError, match=r"matches 'stray' of shape \(3,\)"):
    _place(ONE).shardings({'stray': jnp.zeros(3)})


def test_error_names_a_dimension_that_the_mesh_does_not_divide():
  tree = {'blocks/0/mlp/gate': jnp.zeros((2, 6, 8))}
  with pytest.raises(ValueError, match='fsdp of 4 .* dimension of 6'):
    _place((1, 4, 1)).shardings(tree)


def test_error_names_rows_that_an_axis_does_not_divide():
  place = testing.placement(data=1, fsdp=1, sequence=4, tensor=1)
  with pytest.raises(ValueError, match="sequence of 4 .* of 10 in 'batch/tok"):
    place.shardings(testing.batch(), prefix='batch/')


def test_mesh_uses_all_devices_or_the_error_gives_their_number():
  made = sharding.make(fsdp=2, sequence=2)
  assert made.mesh.shape == {'data': 2, 'fsdp': 2, 'sequence': 2, 'tensor': 1}
  with pytest.raises(ValueError, match='needs 3 devices, but there are 8'):
    sharding.make(data=3)
  with pytest.raises(ValueError, match='data=1, fsdp=2, sequence=4, tensor=1'):
    sharding.make(fsdp=2, sequence=3)
