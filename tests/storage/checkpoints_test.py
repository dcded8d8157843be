"""Checkpoints restore every bit and survive interruptions and disk errors."""

import contextlib
import errno
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import struct

from sleep_jax import errors
from sleep_jax.storage import checkpoint_reading
from sleep_jax.storage import checkpoints as checkpoints_lib

CONFIG = {'seed': 0, 'levels': {'periods': (40, 120)}, 'name': 'tiny'}


def _open(folder, **changes):
  return checkpoints_lib.Checkpoints(folder, **{'config': CONFIG, **changes})


def _mesh(*shape):
  axis_types = (jax.sharding.AxisType.Auto,) * len(shape)
  axes = ('data', 'fsdp')[: len(shape)]
  return jax.make_mesh(shape, axes, axis_types=axis_types)


def _place(tree, mesh, axis):
  """Shards the leading axis where the mesh divides it; replicates the rest."""

  def place(leaf):
    divides = leaf.ndim and leaf.shape[0] % mesh.shape[axis] == 0
    spec = jax.P(axis) if divides else jax.P()
    return jax.device_put(leaf, jax.NamedSharding(mesh, spec))

  return jax.tree.map(place, tree)


def _state(seed=0, rows=16):
  """A state with every kind of leaf: floats, bf16, ints, keys, empty nodes."""
  random = np.random.default_rng(seed)
  state = {
    'weights': jnp.asarray(random.normal(size=(rows, 8)), jnp.float32),
    'half': jnp.asarray(random.normal(size=(8, 3)), jnp.bfloat16),
    'step': jnp.int32(seed),
    'bits': jnp.asarray([True, False]),
    'optimizer': ((), {'count': jnp.arange(3), 'levels/1/w': jnp.ones(4)}),
    'key': jax.random.key(seed),
    'keys': jax.random.split(jax.random.key(seed + 1), 8),
    'night': None,
  }
  mesh = _mesh(len(jax.devices()))
  return _place(state, mesh, 'data')


def _abstract(state):
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=leaf.sharding
    ),
    state,
  )


def _bits(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def _assert_same_bits(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(_bits(a), _bits(b))


def _at(event, night_updates=0):
  return {'event': event, 'night_updates': night_updates}


def _fill(folder, cycles, *, rows=16, **changes):
  checkpoints = _open(folder, **changes)
  for cycle in range(cycles):
    checkpoints.save_cycle(cycle, _state(cycle, rows), _at(10 * cycle))
  checkpoints.wait()
  return checkpoints


def test_restored_state_is_bit_identical(tmp_path):
  state = _state()
  progress = {**_at(7, 3), 'stream': {'next_index': 12}, 'phase': 'seed'}
  writer = _open(tmp_path)
  writer.save_moment(state, progress)
  writer.close()

  reader = _open(tmp_path)
  series, number, found = reader.latest_progress()
  assert (series, found) == ('moments', progress)
  restored = reader.restore(series, number, _abstract(state))
  _assert_same_bits(restored, state)
  draw = functools.partial(jax.random.uniform, shape=(3,))
  assert jnp.array_equal(draw(restored['key']), draw(jax.random.key(0)))


def test_state_is_restored_onto_other_meshes(tmp_path):
  state = _state()
  checkpoints = _open(tmp_path)
  checkpoints.save_cycle(0, state, _at(0))
  num_devices = len(jax.devices())
  for shape in {(1, num_devices), (num_devices, 1), (1, 1)}:
    target = _place(_state(seed=1), _mesh(*shape), 'fsdp')
    restored = checkpoints.restore('cycles', 0, _abstract(target))
    _assert_same_bits(restored, state)
    assert restored['weights'].sharding == target['weights'].sharding


def test_state_may_be_donated_while_it_is_being_saved(tmp_path):
  state = _state(rows=1 << 18)
  before = np.array(state['weights'])  # A copy: donation reuses the buffer.
  abstract = _abstract(state)
  checkpoints = _open(tmp_path)
  checkpoints.save_cycle(0, state, _at(0))
  overwrite = jax.jit(lambda weights: weights * 0 - 1, donate_argnums=0)
  jax.block_until_ready(overwrite(state['weights']))
  restored = checkpoints.restore('cycles', 0, abstract)
  np.testing.assert_array_equal(restored['weights'], before)


def test_latest_progress_is_that_of_the_most_advanced_checkpoint(tmp_path):
  checkpoints = _open(tmp_path)
  assert checkpoints.latest_progress() is None
  checkpoints.save_cycle(0, _state(), _at(5))
  for position, expected in [
    (_at(4), ('cycles', _at(5))),
    (_at(5, 20), ('moments', _at(5, 20))),
    (_at(5, 40), ('moments', _at(5, 40))),
  ]:
    checkpoints.save_moment(_state(), position)
    series, _, progress = checkpoints.latest_progress()
    assert (series, progress) == expected
  checkpoints.save_cycle(1, _state(), _at(6))
  assert checkpoints.latest_progress() == ('cycles', 1, _at(6))
  assert len(list((tmp_path / 'moments').iterdir())) == 1


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_found_again(
  tmp_path, monkeypatch
):
  checkpoints = _open(tmp_path)
  checkpoints.save_moment(_state(), _at(1))
  checkpoints.wait()
  is_finalized, calls = ocp.utils.is_checkpoint_finalized, []

  def replace(path):
    if not calls:
      checkpoints.save_moment(_state(), _at(2))
      checkpoints.wait()
    calls.append(path)
    return is_finalized(path) if len(calls) > 1 else True

  monkeypatch.setattr(ocp.utils, 'is_checkpoint_finalized', replace)
  found = checkpoint_reading.latest_progress(str(tmp_path))
  assert found['event'] == 2
  assert calls[0].name == 'moment_0' and calls[-1].name == 'moment_1'


def test_weights_that_are_replaced_while_they_are_read_are_read_again(
  tmp_path, monkeypatch
):
  """A chat may open a run that is learning."""
  checkpoints, restore = _open(tmp_path), checkpoint_reading._restore_part
  tried = []

  def save(number):
    weights = {'params': {'w': jnp.full(4, number)}, 'active_NE': jnp.ones(1)}
    checkpoints.save_moment({'weights': weights}, _at(number))
    checkpoints.wait()

  def replace(path, *part):
    if not tried:
      save(2)  # Deletes the first one.
    tried.append(path.name)
    return restore(path, *part)

  save(1)
  monkeypatch.setattr(checkpoint_reading, '_restore_part', replace)
  found, progress = checkpoint_reading.latest_weights(str(tmp_path))
  assert (found['params']['w'].tolist(), progress['event']) == ([2] * 4, 2)
  assert len(set(tried)) == 2
  # A damaged one is named at once.
  shutil.rmtree(tmp_path / 'moments' / tried[1] / 'state' / 'd')
  with pytest.raises(errors.WorkdirError, match=f'{tried[1]} cannot be read'):
    checkpoint_reading.latest_weights(str(tmp_path))
  assert len(tried) == 3


def test_a_checkpoint_without_its_progress_is_named(tmp_path):
  checkpoints = _fill(tmp_path, 1)
  checkpoints.close()
  (tmp_path / 'cycles' / 'cycle_0' / 'progress' / 'metadata').unlink()
  with pytest.raises(errors.WorkdirError, match='cycle_0.* delete its folder'):
    checkpoint_reading.latest_progress(str(tmp_path))


def test_one_that_was_being_deleted_when_its_process_was_killed_is_left_out(
  tmp_path,
):
  checkpoints = _open(tmp_path)
  checkpoints.save_cycle(0, _state(), _at(5))
  checkpoints.save_moment(_state(), _at(6))
  checkpoints.wait()
  partly = tmp_path / 'moments' / 'moment_0'
  kept = tmp_path / 'kept'
  shutil.copytree(partly, kept)
  checkpoints.save_moment(_state(), _at(7))
  checkpoints.close()
  kept.rename(partly)
  (partly / 'progress' / 'metadata').unlink()
  assert checkpoint_reading.latest_progress(str(tmp_path))['event'] == 7
  again = _open(tmp_path)
  assert again.latest_progress() == ('moments', 1, _at(7))
  again.save_moment(_state(), _at(8))
  again.close()
  assert [path.name for path in partly.parent.iterdir()] == ['moment_2']


def test_only_the_newest_cycles_are_kept(tmp_path):
  checkpoints = _fill(tmp_path, 5, keep=2)
  assert checkpoints.available_cycles() == [3, 4]
  names = sorted(path.name for path in (tmp_path / 'cycles').iterdir())
  assert names == ['cycle_3', 'cycle_4']


@pytest.mark.parametrize(
  'budget, kept', [(0, [4]), (3.5, [3, 4]), (99, [0, 1, 2, 3, 4])]
)
def test_cycles_beyond_the_disk_budget_are_dropped(tmp_path, budget, kept):
  rows = 4096  # Sizes of tiny checkpoints vary by a fifth.
  _fill(tmp_path / 'one', 1, rows=rows).close()
  files = (tmp_path / 'one').rglob('*')
  size = sum(path.stat().st_size for path in files if path.is_file())
  budget = int(budget * size)
  checkpoints = _fill(
    tmp_path / 'run', 5, rows=rows, keep=9, disk_budget_bytes=budget
  )
  assert checkpoints.available_cycles() == kept  # One moment must fit too.


def test_partial_checkpoints_are_skipped_and_deleted(tmp_path):
  _fill(tmp_path, 2).close()
  partial = tmp_path / 'cycles' / 'cycle_2.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / 'cycles' / 'cycle_1', partial)
  (partial / 'commit_success.txt').unlink(missing_ok=True)
  checkpoints = _open(tmp_path)
  assert checkpoints.available_cycles() == [0, 1]
  assert checkpoints.latest_progress() == ('cycles', 1, _at(10))
  checkpoints.save_cycle(2, _state(), _at(20))
  assert checkpoints.available_cycles() == [0, 1, 2]
  assert not partial.exists()


@pytest.mark.filterwarnings('ignore')  # Orbax does not await its other readers.
@pytest.mark.parametrize('damage', ['truncated', 'missing', 'unreadable'])
def test_error_of_a_damaged_checkpoint_says_what_to_do(tmp_path, damage):
  _fill(tmp_path, 3).close()
  folder = tmp_path / 'cycles' / 'cycle_2'
  if damage == 'unreadable':
    (folder / 'progress' / 'metadata').write_text('{"event": ')
  for path in [path for path in folder.rglob('d/*') if path.is_file()]:
    if damage == 'truncated':
      path.write_bytes(path.read_bytes()[:10])
    elif damage == 'missing':
      path.unlink()

  checkpoints = _open(tmp_path)
  with pytest.raises(ValueError, match='cycle_2 cannot be read') as caught:
    checkpoints.latest_progress()
    checkpoints.restore('cycles', 2, _abstract(_state()))
  assert 'delete that folder, or pass --restore_cycle=N' in str(caught.value)
  _assert_same_bits(
    checkpoints.restore('cycles', 1, _abstract(_state())), _state(1)
  )
  checkpoints.rewind(1)
  assert checkpoints.latest_progress() == ('cycles', 1, _at(10))


def test_error_of_another_config_names_the_different_keys(tmp_path):
  _fill(tmp_path, 1).close()
  other = {**CONFIG, 'levels': {'periods': (40, 160)}, 'seed': 1}
  with pytest.raises(ValueError) as caught:
    _open(tmp_path, config=other).latest_progress()
  message = str(caught.value)
  assert 'cycle_0 was saved under another config' in message
  assert 'config.seed: 0 there, 1 now' in message
  assert 'config.levels.periods[1]: 120 there, 160 now' in message
  assert 'name' not in message.split(':', 1)[1]


def test_only_rewind_deletes_later_checkpoints(tmp_path):
  checkpoints = _fill(tmp_path, 3)
  checkpoints.save_moment(_state(), _at(25))
  checkpoints.restore('cycles', 0, _abstract(_state()))
  assert checkpoints.latest_progress()[0] == 'moments'
  checkpoints.rewind(0)
  assert checkpoints.latest_progress() == ('cycles', 0, _at(0))
  checkpoints.save_cycle(1, _state(), _at(11))
  assert checkpoints.latest_progress() == ('cycles', 1, _at(11))


def test_error_of_a_missing_cycle_lists_the_existing_ones(tmp_path):
  checkpoints = _fill(tmp_path, 2)
  with pytest.raises(FileNotFoundError, match=r'cycle_7.*\[0, 1\]'):
    checkpoints.rewind(7)
  with pytest.raises(FileNotFoundError, match=r'cycle_7.*\[0, 1\]'):
    checkpoints.progress('cycles', 7)
  assert checkpoints.available_cycles() == [0, 1]


def test_error_names_a_folder_that_cannot_be_written_to(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='file/here is a file, or is in one'):
    _open(tmp_path / 'file' / 'here')


@pytest.mark.filterwarnings('ignore')  # Orbax does not await its other writers.
def test_full_disk_is_reported_and_earlier_checkpoints_survive(
  tmp_path, monkeypatch
):
  checkpoints = _fill(tmp_path, 2, keep=2)

  async def raise_no_space(*_, **__):
    # The error that TensorStore raised on a file system of 9 MB.
    raise ValueError(
      'RESOURCE_EXHAUSTED: Error writing "w/0": Failed to write 9 bytes to '
      "file 4: No space left on device [os_error_code='28']"
    )

  def raise_enospc(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  handler = ocp.type_handlers.ArrayHandler
  with monkeypatch.context() as full:
    full.setattr(handler, 'serialize', raise_no_space)
    with pytest.raises(OSError, match='The disk is full.*continues from the'):
      checkpoints.save_cycle(2, _state(), _at(20))
      checkpoints.wait()
    full.setattr(ocp.CheckpointManager, 'save', raise_enospc)
    with pytest.raises(OSError, match='The disk is full'):
      checkpoints.save_cycle(2, _state(), _at(20))
  assert checkpoints.available_cycles() == [0, 1]

  reopened = _open(tmp_path, keep=2)
  assert reopened.latest_progress() == ('cycles', 1, _at(10))
  reopened.save_cycle(2, _state(), _at(20))
  assert reopened.available_cycles() == [1, 2]


class _Old(struct.PyTreeNode):
  step: jax.Array


class _New(struct.PyTreeNode):
  step: jax.Array
  rows: jax.Array | None = None
  own: dict = struct.field(default_factory=dict)


class _Older(struct.PyTreeNode):
  step: jax.Array
  mean: dict = struct.field(default_factory=dict)
  night: jax.Array | None = None


class _Groups(struct.PyTreeNode):
  groups: dict
  last: _Older


def test_a_state_gets_fields_without_arrays_that_an_earlier_version_lacks(
  tmp_path,
):
  mesh = _mesh(len(jax.devices()))
  old = _place(_Old(jnp.arange(3)), mesh, 'data')
  with contextlib.closing(_open(tmp_path)) as saved:
    saved.save_moment(old, _at(1))
    found = saved.restore('moments', 0, _abstract(_New(old.step)))
    _assert_same_bits(found, _New(old.step))
    # A field with arrays cannot be made up.
    wanted = _abstract(_New(old.step, rows=old.step))
    with pytest.raises(errors.WorkdirError, match='cannot be read'):
      saved.restore('moments', 0, wanted)


def test_nested_fields_that_an_earlier_version_lacks_are_empty_too(tmp_path):
  """Such as answers in the groups of a replay buffer, in a dict of them."""
  mesh = _mesh(len(jax.devices()))
  leaf = _place(jnp.arange(3), mesh, 'data')
  old = _Groups({'day': _Older(leaf)}, _Older(leaf, {'1': leaf}))
  new = _Groups({'day': _New(leaf)}, _Older(leaf, {'1': leaf}))
  with contextlib.closing(_open(tmp_path)) as saved:
    saved.save_moment(old, _at(1))
    found = saved.restore('moments', 0, _abstract(new))
    assert isinstance(found.groups['day'], _New)
    _assert_same_bits(found, new)
    wanted = _Groups({'day': _New(leaf, rows=leaf)}, new.last)
    with pytest.raises(errors.WorkdirError, match='cannot be read'):
      saved.restore('moments', 0, _abstract(wanted))


def test_fields_without_arrays_that_were_removed_since_are_left_out(tmp_path):
  mesh = _mesh(len(jax.devices()))
  state = _place(_Old(jnp.arange(3)), mesh, 'data')
  with contextlib.closing(_open(tmp_path)) as saved:
    saved.save_moment(_Older(state.step), _at(1))
    _assert_same_bits(saved.restore('moments', 0, _abstract(state)), state)
    # One with arrays meant something.
    saved.save_moment(_Older(state.step, {'1': state.step}), _at(2))
    with pytest.raises(errors.WorkdirError, match='use the version that saved'):
      saved.restore('moments', 1, _abstract(state))
