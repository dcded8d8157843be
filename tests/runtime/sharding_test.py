"""Eight devices or one: the same numbers, each array where the table says."""

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
def _life(shape):
  """Programs and the evening after one day of two steps."""
  place = _place(shape)
  with jax.set_mesh(place.mesh):
    programs, state = testing.life(testing.short_config(), place)
    for step in range(2):
      held = (1,) if step == 1 else ()
      state, metrics = programs.wake(state, testing.batch(step), held)
  # Kept as numbers: the state itself is donated to what comes next.
  return programs, state, jax.device_get((_plain(state), metrics))


def _plain(state):
  return state.replace(key=jax.random.key_data(state.key))


@functools.cache
def _morning(shape):
  programs, state, _ = _life(shape)
  compiled, counts = [], []
  listen = lambda name, *_, **__: compiled.append(name)
  jax.monitoring.register_event_duration_secs_listener(listen)
  with jax.set_mesh(programs.placement.mesh):
    for day in range(2):
      if day:
        for step in range(2):
          held = (1,) if step == 1 else ()
          state, _ = programs.wake(state, testing.batch(step), held)
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


def _apart(pools):
  """What was written, and what its teachers' heads read there."""
  written = {n: pool.replace(states_BGD=None) for n, pool in pools.items()}
  return written, {n: pool.states_BGD for n, pool in pools.items()}


@pytest.mark.parametrize('shape', MESHES)
def test_a_day_on_many_devices_is_the_day_on_one(shape):
  (one, loss), (many, other) = _life(ONE)[2], _life(shape)[2]
  testing.close(one.weights, many.weights)
  testing.close(one.sums, many.sums)
  testing.close(loss, other)
  # Prompts are drawn, not computed: the same to the last token.
  assert testing.same(one.replay, many.replay)
  assert int(one.replay['past'].count) == 2 * testing.ROWS
  initial_model = testing.weights(testing.tiny((1, 2)))
  moved = testing.changed(initial_model.params, one.weights.params)
  assert moved == set(one.anchor['1'])


@pytest.mark.parametrize('shape', MESHES)
def test_every_array_lies_where_the_table_says(shape):
  programs, state, _ = _life(shape)
  wanted = programs.placement.shardings(state)
  for (path, leaf), there in zip(
    jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(wanted),
    strict=True,
  ):  # fmt: skip
    assert leaf.sharding.is_equivalent_to(there, leaf.ndim), path
  if shape == NIGHT:
    gate = state.weights.params['blocks/levels/1/base/mlp/gate']
    assert {s.data.shape for s in gate.addressable_shards} == {(2, 8, 8)}
    assert len(gate.sharding.device_set) == 8
    scale = state.weights.params['norm/scale']
    assert scale.sharding.is_fully_replicated


def test_a_night_on_many_devices_is_the_night_on_one():
  (one, divergence, pools), _ = _morning(ONE)
  (many, other, pools_too), _ = _morning(NIGHT)
  written, read = _apart(pools)
  written_too, read_too = _apart(pools_too)
  assert testing.same(written, written_too)  # Every word.
  testing.close(read, read_too, 1e-4)
  testing.close(divergence, other, 1e-4)
  testing.close(one.weights.params, many.weights.params, 1e-4)
  assert one.weights.active_NE[1].sum() == 2
  assert testing.same(one.weights.active_NE, many.weights.active_NE)


@pytest.mark.parametrize('shape', [ONE, NIGHT])
def test_nothing_compiles_after_the_first_full_cycle(shape):
  _, counts = _morning(shape)
  first, second = counts
  assert 0 < first == second


@pytest.mark.parametrize('on_policy', [0.0, 0.5])
def test_every_array_of_a_night_has_a_place(on_policy):
  place = _place((8, 1, 1))
  config = testing.config((1, 2), on_policy=on_policy)
  with jax.set_mesh(place.mesh):
    programs, _ = testing.life(config, place)
    initial_model = testing.initial_model(programs.model)
    asleep = programs.abstract(initial_model, night=1)
  # Rows are written where a number says: no device has rows of its own.
  for pool in jax.tree.leaves(asleep.night.pools):
    assert pool.sharding.shard_shape(pool.shape)[0] == pool.shape[0]


def test_an_array_without_a_rule_is_named():
  with pytest.raises(ValueError, match=r"matches 'stray' of shape \(3,\)"):
    _place(ONE).shardings({'stray': jnp.zeros(3)})


def test_a_dimension_that_a_mesh_does_not_divide_is_named():
  tree = {'blocks/0/mlp/gate': jnp.zeros((2, 6, 8))}
  with pytest.raises(ValueError, match='fsdp of 4 .* dimension of 6'):
    _place((1, 4, 1)).shardings(tree)


def test_rows_that_an_axis_does_not_divide_are_named():
  place = testing.placement(data=1, fsdp=1, sequence=4, tensor=1)
  with pytest.raises(ValueError, match="sequence of 4 .* of 10 in 'batch/tok"):
    place.shardings(testing.batch(), prefix='batch/')


def test_the_mesh_takes_all_devices_or_says_how_many_there_are():
  made = sharding.make(fsdp=2, sequence=2)
  assert made.mesh.shape == {'data': 2, 'fsdp': 2, 'sequence': 2, 'tensor': 1}
  with pytest.raises(ValueError, match='needs 3 devices, but there are 8'):
    sharding.make(data=3)
  with pytest.raises(ValueError, match='data=1, fsdp=2, sequence=4, tensor=1'):
    sharding.make(fsdp=2, sequence=3)
