"""Strategies with arrays of their own and reviews: runs of a tiny study."""

import jax
import pytest

from sleep_jax.schedule import events
from sleep_jax.strategies import method, registry, strategy
from tests import testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
# Strategies whose arrays are updated in reviews.
REVIEWED = (
  'ewc', 'merge', 'refresh', 'rollback', 'sparse', 'sdft', 'opsd', 'cartridge',
  'protoada',
)  # fmt: skip


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A tiny study with an initial model of a few steps."""
  made = tiny_study.TinyStudy(tiny_study.config())
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


@pytest.mark.parametrize('name', REVIEWED)
def test_an_interrupted_run_ends_as_an_unbroken_one(study, name, tmp_path):
  whole, record = study.run(name, tmp_path / 'whole')
  whole = jax.device_get(whole.replace(key=jax.random.key_data(whole.key)))
  parts, again = study.run_in_pieces(name, tmp_path / 'parts', every=3)
  parts = jax.device_get(parts.replace(key=jax.random.key_data(parts.key)))
  assert testing.same(whole, parts)
  assert tiny_study.without_times(record) == tiny_study.without_times(again)


def test_reviews_are_before_or_after_the_wake_steps_of_an_experience(study):
  plan = strategy.sequential_plan(study.levels, 2, 2, {}, reviews=(
    events.INITIAL, events.START, events.END
  ))  # fmt: skip
  found = [(e.kind, e.moment, e.experience, e.step) for e in plan]
  assert found == [
    ('review', 'initial', 0, 0),
    ('review', 'start', 1, 0), ('wake', '', 1, 1), ('wake', '', 1, 2),
    ('review', 'end', 1, 2), ('evaluate', 'evening', 1, 2), ('save', '', 1, 2),
    ('review', 'start', 2, 2), ('wake', '', 2, 3), ('wake', '', 2, 4),
    ('review', 'end', 2, 4), ('evaluate', 'evening', 2, 4), ('save', '', 2, 4),
  ]  # fmt: skip


def test_a_strategy_without_a_method_has_no_arrays_of_its_own(study):
  assert study.programs('sft').abstract(study.initial_model).strategy == {}
  assert study.programs('sft').method == method.Method()


# The dataset has no tasks, which `seal` needs; `joint` is two strategies.
@pytest.mark.parametrize(
  'name', sorted({*registry.names(), 'joint_wake'} - {'seal', 'joint'})
)
def test_the_arrays_of_a_strategy_are_placed_like_the_weights(name):
  """Nothing is compiled: shapes and shardings on a mesh of eight devices."""
  c = tiny_study.config()
  c.replay.store = 'rows'  # For `sleep_rows`.
  sharded = tiny_study.TinyStudy(c, (2, 2, 2))
  state = sharded.programs(name).abstract(None)
  places = {path: x.sharding for path, x in state.weights.params.items()}
  copies = [
    (path, leaf.sharding)
    for own in state.strategy.values()
    if isinstance(own, dict)
    for path, leaf in own.items()
    if path in places and isinstance(leaf, jax.ShapeDtypeStruct)
  ]
  expected = {
    'ewc', 'lwf', 'anchor_kl', 'merge', 'rollback', 'sdft', 'opsd', 'protoada',
  }  # fmt: skip
  assert bool(copies) == (name in expected)
  assert all(place == places[path] for path, place in copies)
