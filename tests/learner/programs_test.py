"""A life's programs agree with each other on what a state is."""

import jax
import numpy as np
import pytest

from sleep_jax.learner import initial_state
from tests import testing, town

NAMES = ('sleep', 'hope', 'sft', 'er', 'joint_wake')


@pytest.fixture(scope='module')
def here():
  """A town on a mesh, whose newborn has not been taught a thing."""
  made = town.Town(town.config((1, 2), (2, 'experience')), (2, 2, 2))
  state = made.programs('pretrain').begin(None, jax.random.key(0))
  made.initial_model = initial_state.InitialModel(state.weights, state.replay)
  return made


@pytest.mark.parametrize('name', NAMES)
def test_a_state_begins_as_its_blueprint_says(here, name):
  program = here.programs(name)
  shapes = program.abstract(here.initial_model)
  state = program.begin(here.initial_model, jax.random.key(0), guard=0.5)
  assert jax.tree.structure(shapes) == jax.tree.structure(state)
  for shape, leaf in zip(
    jax.tree.leaves(shapes), jax.tree.leaves(state), strict=True
  ):
    assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)
    assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)
    # Nor will one from a checkpoint be: it is to meet the same programs.
    assert not jax.typeof(leaf).weak_type
  assert np.asarray(state.guard_N).tolist() == [0.5] * 3
  assert testing.same(
    jax.device_get(state.weights), jax.device_get(here.initial_model.weights)
  )


def test_the_newborn_outlives_every_life(here):
  """A state's arrays are given away with each step; the newborn's are not."""
  before = jax.device_get(here.initial_model)
  program = here.programs('hope')
  state = program.begin(here.initial_model, jax.random.key(0))
  batch = here.stream.experiences[0].batch(0)
  program.wake(state, batch, ())
  after = jax.device_get(here.initial_model)
  assert testing.same(before.weights, after.weights)
  assert testing.same(before.replay, after.replay)


def test_a_night_has_a_blueprint_of_its_own(here):
  program = here.programs('sleep')
  program.check(here.initial_model)
  awake = program.abstract(here.initial_model)
  assert awake.night is None
  for sender in (1, 2):
    night = program.abstract(here.initial_model, night=sender).night
    assert set(night.fresh) == {str(sender + 1)}


def test_only_sleep_keeps_prompts_and_anchors(here):
  for name in NAMES:
    state = here.programs(name).abstract(here.initial_model)
    age_groups = (
      {'corpus', 'past', 'day/1', 'day/2'} if name == 'sleep' else set()
    )
    assert set(state.replay) == age_groups
    assert set(state.anchor) == ({'1', '2'} if name == 'sleep' else set())


def test_without_a_store_nothing_is_kept():
  config = town.config()
  config.replay.store = 'none'
  other = town.Town(config)
  born = other.programs('pretrain').abstract(None)
  assert born.replay == {}
  initial_model = initial_state.InitialModel(born.weights, born.replay)
  assert other.programs('sleep').abstract(initial_model).replay == {}


def test_a_level_with_a_day_of_its_own_takes_no_night_into_its_base():
  c = testing.config((1, 2), (2, 4), into='base')
  with pytest.raises(ValueError, match="into is 'base'.*only the slowest"):
    testing.life(c, testing.placement(data=1, fsdp=1, tensor=1))


def test_without_expansion_a_night_moves_the_base_and_nothing_else():
  c = testing.config(into='base')
  program, state = testing.life(c, testing.placement(data=1, fsdp=1, tensor=1))
  born = {path: np.asarray(x) for path, x in state.weights.params.items()}
  for step in range(2):
    state, _ = program.wake(state, testing.batch(step), ())
  awake = {path: np.asarray(x) for path, x in state.weights.params.items()}
  state = program.fall_asleep(state, 1)
  for _ in range(2):
    state, _ = program.seed(state, 1)
  assert not testing.changed(awake, state.weights.params)  # Until it wakes.
  morning = program.wake_up(state, 1, accept=True, guard=0.0)
  changed = testing.changed(born, morning.weights.params)
  assert changed == {p for p in born if p.startswith('blocks/levels/2/base')}
  assert not np.asarray(morning.weights.active_NE).any()


def test_an_average_follows_the_day_and_begins_anew_in_the_morning():
  teachers = (dict(teacher='average', prompts='day', sequences=8, draws=8),)
  c = testing.config(teachers=teachers, average_decay=0.75)
  program, state = testing.life(c, testing.placement(data=1, fsdp=1, tensor=1))
  path = 'blocks/levels/1/base/mlp/up'
  mean = np.asarray(state.weights.params[path])
  for step in range(3):
    state, _ = program.wake(state, testing.batch(step), ())
    mean = mean + 0.25 * (np.asarray(state.weights.params[path]) - mean)
  np.testing.assert_allclose(state.average['1'][path], mean, atol=1e-6)
  night = program._nights[1]
  teacher = night.teacher(state, 'average')
  np.testing.assert_allclose(teacher.params[path], mean, atol=1e-6)
  state = program.fall_asleep(state, 1)
  state, _ = program.seed(state, 1)
  morning = program.wake_up(state, 1, accept=True, guard=0.0)
  np.testing.assert_array_equal(
    morning.average['1'][path], morning.weights.params[path]
  )
