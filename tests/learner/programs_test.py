"""Tests of a run's programs: they agree on the structure of the state."""

import jax
import numpy as np
import pytest

from sleep_jax import state as state_lib
from tests import testing, tiny_study

NAMES = ('sleep', 'hope', 'sft', 'er', 'joint_wake')


@pytest.fixture(scope='module')
def study():
  """A tiny study on a mesh, with an untrained initial model."""
  study = tiny_study.TinyStudy(
    tiny_study.config((1, 2), (2, 'experience')), (2, 2, 2)
  )
  state = study.programs('pretrain').begin(None, jax.random.key(0))
  study.initial_model = state_lib.InitialModel(state.weights, state.replay)
  return study


@pytest.mark.parametrize('name', NAMES)
def test_the_initial_state_has_the_abstract_shapes_and_shardings(study, name):
  program = study.programs(name)
  shapes = program.abstract(study.initial_model)
  state = program.begin(study.initial_model, jax.random.key(0), guard=0.5)
  assert jax.tree.structure(shapes) == jax.tree.structure(state)
  for shape, leaf in zip(
    jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True
  ):
    assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
    assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)
    # A state from a checkpoint has no weak types: it shall use the same
    # compiled programs.
    assert not jax.typeof(leaf).weak_type
  assert np.asarray(state.guard_N).tolist() == [0.5] * 3
  assert testing.same(
    jax.device_get(state.weights), jax.device_get(study.initial_model.weights)
  )


def test_a_run_leaves_the_initial_model_intact(study):
  """Each step donates the arrays of the state, but not of the initial model."""
  before = jax.device_get(study.initial_model)
  program = study.programs('hope')
  state = program.begin(study.initial_model, jax.random.key(0))
  batch = study.stream.experiences[0].batch(0)
  program.wake(state, batch, ())
  after = jax.device_get(study.initial_model)
  assert testing.same(before.weights, after.weights)
  assert testing.same(before.replay, after.replay)


def test_the_state_of_a_night_has_abstract_shapes_too(study):
  program = study.programs('sleep')
  program.check(study.initial_model)
  awake = program.abstract(study.initial_model)
  assert awake.night is None
  for sender in (1, 2):
    night = program.abstract(study.initial_model, night=sender).night
    assert set(night.fresh) == {str(sender + 1)}


def test_only_sleep_stores_prompts_and_anchors(study):
  for name in NAMES:
    state = study.programs(name).abstract(study.initial_model)
    age_groups = (
      {'corpus', 'past', 'day/1', 'day/2'} if name == 'sleep' else set()
    )
    assert set(state.replay) == age_groups
    assert set(state.anchor) == ({'1', '2'} if name == 'sleep' else set())


def test_without_a_store_no_prompts_are_stored():
  config = tiny_study.config()
  config.replay.store = 'none'
  other = tiny_study.TinyStudy(config)
  pretrained = other.programs('pretrain').abstract(None)
  assert pretrained.replay == {}
  initial_model = state_lib.InitialModel(pretrained.weights, pretrained.replay)
  assert other.programs('sleep').abstract(initial_model).replay == {}


def test_a_base_that_is_updated_awake_cannot_be_trained_by_a_night():
  c = testing.config((1, 2), (2, 4), into='base')
  with pytest.raises(ValueError, match="into is 'base'.*only the slowest"):
    testing.make_run(c, testing.placement(data=1, fsdp=1, tensor=1))


def test_without_expansion_a_night_changes_only_the_base():
  c = testing.config(into='base')
  program, state = testing.make_run(
    c, testing.placement(data=1, fsdp=1, tensor=1)
  )
  initial = {path: np.asarray(x) for path, x in state.weights.params.items()}
  for step in range(2):
    state, _ = program.wake(state, testing.batch(step), ())
  awake = {path: np.asarray(x) for path, x in state.weights.params.items()}
  state = program.fall_asleep(state, 1)
  for _ in range(2):
    state, _ = program.seed(state, 1)
  assert not testing.changed(
    awake, state.weights.params
  )  # Before it is committed.
  morning = program.wake_up(state, 1, accept=True, guard=0.0)
  changed = testing.changed(initial, morning.weights.params)
  assert changed == {p for p in initial if p.startswith('blocks/levels/2/base')}
  assert not np.asarray(morning.weights.active_NE).any()
