"""Arrays that never change are saved once, and read like all others."""

import shutil

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from sleep_jax import errors
from sleep_jax.storage import checkpoint_reading, checkpoints, constant_arrays
from tests import testing, tiny_study

FIXED = 'weights/params/fixed'


def _state(step):
  params = {'fixed': jnp.arange(50_000.0), 'moved': jnp.full(4, step)}
  return {'weights': {'params': params}, 'night': None}


def _abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


def _open(folder):
  return checkpoints.Checkpoints(str(folder), config={}, keep=5)


def _fill(folder, steps, *, constant):
  saved = _open(folder)
  if constant:
    saved.keep_constant(_state(0), FIXED.__eq__)
  for step in steps:
    progress = {'event': step, 'night_updates': 0}
    saved.save_cycle(step, _state(step), progress)
  saved.wait()
  return saved


def _size(folder):
  return sum(p.stat().st_size for p in folder.rglob('*') if p.is_file())


def test_a_checkpoint_is_restored_whole_and_does_not_have_them(tmp_path):
  _fill(tmp_path, [1, 2], constant=True)
  again = _open(tmp_path)
  restored = again.restore('cycles', 2, _abstract(_state(2)))
  assert testing.same(restored, _state(2))
  assert _size(tmp_path / 'cycles') < 50_000 < _size(tmp_path / 'constant')
  assert again.progress('cycles', 2) == {'event': 2, 'night_updates': 0}


def test_a_later_start_leaves_them_out_as_well(tmp_path):
  _fill(tmp_path, [1], constant=True)
  again = _fill(tmp_path, [2], constant=False)
  assert _size(tmp_path / 'cycles') < 50_000
  restored = again.restore('cycles', 2, _abstract(_state(2)))
  assert testing.same(restored, _state(2))


def test_weights_alone_are_read_whole(tmp_path):
  _fill(tmp_path, [3], constant=True)
  weights, progress = checkpoint_reading.latest_weights(str(tmp_path))
  assert testing.same(weights['params'], _state(3)['weights']['params'])
  assert progress['event'] == 3


def test_the_weights_of_an_earlier_cycle_are_read_whole(tmp_path):
  _fill(tmp_path, [1, 3], constant=True)
  weights = checkpoint_reading.cycle_weights(str(tmp_path), 1)
  assert testing.same(weights['params'], _state(1)['weights']['params'])
  with pytest.raises(errors.MissingFileError, match=r'cycle 2: .* \[1, 3\]'):
    checkpoint_reading.cycle_weights(str(tmp_path), 2)


def test_a_checkpoint_that_has_them_itself_is_read_as_it_is(tmp_path):
  _fill(tmp_path, [1], constant=False)
  other = {FIXED: jnp.zeros(50_000)}
  constant_arrays.write(epath.Path(tmp_path), other)
  restored = _open(tmp_path).restore('cycles', 1, _abstract(_state(1)))
  assert testing.same(restored, _state(1))
  weights, _ = checkpoint_reading.latest_weights(str(tmp_path))
  assert testing.same(weights['params'], _state(1)['weights']['params'])


def test_missing_ones_are_an_error_that_names_the_folder(tmp_path):
  _fill(tmp_path, [1], constant=True)
  shutil.rmtree(tmp_path / 'constant')
  saved = _open(tmp_path)
  with pytest.raises(errors.WorkdirError, match='constant'):
    saved.restore('cycles', 1, _abstract(_state(1)))
  with pytest.raises(errors.WorkdirError, match='constant'):
    checkpoint_reading.latest_weights(str(tmp_path))


@pytest.mark.parametrize('name', ['sleep', 'hope', 'lora'])
def test_what_is_called_constant_does_not_change(name, tmp_path):
  study = tiny_study.TinyStudy(tiny_study.config((1, 'experience')))
  study.make_initial_model(tmp_path / 'pretrain')
  state, _ = study.run(name, tmp_path / 'run')
  programs = study.programs(name)
  before = constant_arrays.select(
    {'weights': study.initial_model.weights}, programs.is_constant
  )
  after = constant_arrays.select(state, programs.is_constant)
  assert 'weights/params/embed' in after
  assert testing.same(jax.device_get(after), jax.device_get(before))


@pytest.mark.parametrize('name', ['sft', 'er', 'joint_wake', 'merge', 'olora'])
def test_nothing_is_constant_where_steps_or_reviews_move_all_weights(name):
  study = tiny_study.TinyStudy(tiny_study.config((1, 'experience')))
  assert not study.programs(name).is_constant('weights/params/embed')


@pytest.mark.parametrize('change', [{'into': 'base'}, {'full': 'absorb'}])
def test_nothing_is_constant_where_nights_train_a_base(change):
  config = tiny_study.config((1, 'experience'), prompts=('old', 'day'))
  config.consolidate.update(change)
  study = tiny_study.TinyStudy(config)
  assert not study.programs('sleep').is_constant('weights/params/embed')
