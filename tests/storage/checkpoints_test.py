"""Checkpoints come back bit for bit, and survive what goes wrong on disks."""

import errno
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from sleep_jax.storage import checkpoints as checkpoints_lib

CONFIG = {'seed': 0, 'levels': {'periods': (40, 120)}, 'name': 'tiny'}


def _open(folder, **changes):
  return checkpoints_lib.Checkpoints(folder, **{'config': CONFIG, **changes})


def _mesh(*shape):
  axis_types = (jax.sharding.AxisType.Auto,) * len(shape)
  axes = ('data', 'fsdp')[: len(shape)]
  return jax.make_mesh(shape, axes, axis_types=axis_types)


def _place(tree, mesh, axis):
  """Shards the leading axis where it divides, replicates everything else."""

  def place(leaf):
    divides = leaf.ndim and leaf.shape[0] % mesh.shape[axis] == 0
    spec = jax.P(axis) if divides else jax.P()
    return jax.device_put(leaf, jax.NamedSharding(mesh, spec))

  return jax.tree.map(place, tree)


def _state(seed=0, rows=16):
  """Every kind of leaf a state has: floats, bf16, ints, keys, empty nodes."""
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
  for one, other in zip(
    jax.tree.leaves(left), jax.tree.leaves(right), strict=True
  ):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(_bits(one), _bits(other))


def _at(event, night_updates=0):
  return {'event': event, 'night_updates': night_updates}


def _fill(folder, cycles, *, rows=16, **changes):
  checkpoints = _open(folder, **changes)
  for cycle in range(cycles):
    checkpoints.save_cycle(cycle, _state(cycle, rows), _at(10 * cycle))
  checkpoints.wait()
  return checkpoints


def test_a_state_comes_back_bit_for_bit(tmp_path):
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


def test_a_state_comes_back_onto_other_devices(tmp_path):
  state = _state()
  checkpoints = _open(tmp_path)
  checkpoints.save_cycle(0, state, _at(0))
  num_devices = len(jax.devices())
  for shape in {(1, num_devices), (num_devices, 1), (1, 1)}:
    elsewhere = _place(_state(seed=1), _mesh(*shape), 'fsdp')
    restored = checkpoints.restore('cycles', 0, _abstract(elsewhere))
    _assert_same_bits(restored, state)
    assert restored['weights'].sharding == elsewhere['weights'].sharding


def test_a_state_may_be_donated_while_it_is_being_saved(tmp_path):
  state = _state(rows=1 << 18)
  before = np.array(state['weights'])  # A copy: donation reuses the buffer.
  abstract = _abstract(state)
  checkpoints = _open(tmp_path)
  checkpoints.save_cycle(0, state, _at(0))
  overwrite = jax.jit(lambda weights: weights * 0 - 1, donate_argnums=0)
  jax.block_until_ready(overwrite(state['weights']))
  restored = checkpoints.restore('cycles', 0, abstract)
  np.testing.assert_array_equal(restored['weights'], before)


def test_the_most_advanced_checkpoint_is_the_latest(tmp_path):
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
  assert checkpoints.available_cycles() == kept  # And room for a moment.


def test_half_written_checkpoints_are_skipped_and_swept_away(tmp_path):
  _fill(tmp_path, 2).close()
  half = tmp_path / 'cycles' / 'cycle_2.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / 'cycles' / 'cycle_1', half)
  (half / 'commit_success.txt').unlink(missing_ok=True)
  checkpoints = _open(tmp_path)
  assert checkpoints.available_cycles() == [0, 1]
  assert checkpoints.latest_progress() == ('cycles', 1, _at(10))
  checkpoints.save_cycle(2, _state(), _at(20))
  assert checkpoints.available_cycles() == [0, 1, 2]
  assert not half.exists()


@pytest.mark.filterwarnings('ignore')  # Orbax abandons its other readers.
@pytest.mark.parametrize('damage', ['truncated', 'missing', 'unreadable'])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path, damage):
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


def test_a_checkpoint_of_another_config_names_the_keys(tmp_path):
  _fill(tmp_path, 1).close()
  other = {**CONFIG, 'levels': {'periods': (40, 160)}, 'seed': 1}
  with pytest.raises(ValueError) as caught:
    _open(tmp_path, config=other).latest_progress()
  message = str(caught.value)
  assert 'cycle_0 was made under another config' in message
  assert 'seed: 0 in the checkpoint, 1 now' in message
  assert 'levels.periods: [40, 120] in the checkpoint' in message
  assert 'name' not in message.split(':', 1)[1]


def test_going_back_deletes_the_future_only_when_asked(tmp_path):
  checkpoints = _fill(tmp_path, 3)
  checkpoints.save_moment(_state(), _at(25))
  checkpoints.restore('cycles', 0, _abstract(_state()))
  assert checkpoints.latest_progress()[0] == 'moments'
  checkpoints.rewind(0)
  assert checkpoints.latest_progress() == ('cycles', 0, _at(0))
  checkpoints.save_cycle(1, _state(), _at(11))
  assert checkpoints.latest_progress() == ('cycles', 1, _at(11))


def test_a_missing_cycle_lists_those_there_are(tmp_path):
  checkpoints = _fill(tmp_path, 2)
  with pytest.raises(FileNotFoundError, match=r'cycle_7.*\[0, 1\]'):
    checkpoints.rewind(7)
  with pytest.raises(FileNotFoundError, match=r'cycle_7.*\[0, 1\]'):
    checkpoints.progress('cycles', 7)
  assert checkpoints.available_cycles() == [0, 1]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='file/here cannot be written to'):
    _open(tmp_path / 'file' / 'here')


@pytest.mark.filterwarnings('ignore')  # Orbax abandons its other writers.
def test_a_full_disk_is_told_in_words_and_loses_nothing_earlier(
  tmp_path, monkeypatch
):
  checkpoints = _fill(tmp_path, 2, keep=2)

  async def fill_up(*_, **__):
    # What TensorStore raised on a file system of 9 MB.
    raise ValueError(
      'RESOURCE_EXHAUSTED: Error writing "w/0": Failed to write 9 bytes to '
      "file 4: No space left on device [os_error_code='28']"
    )

  def fill_up_at_once(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  handler = ocp.type_handlers.ArrayHandler
  with monkeypatch.context() as full:
    full.setattr(handler, 'serialize', fill_up)
    with pytest.raises(OSError, match='The disk is full.*goes on from the'):
      checkpoints.save_cycle(2, _state(), _at(20))
      checkpoints.wait()
    full.setattr(ocp.CheckpointManager, 'save', fill_up_at_once)
    with pytest.raises(OSError, match='The disk is full'):
      checkpoints.save_cycle(2, _state(), _at(20))
  assert checkpoints.available_cycles() == [0, 1]

  again = _open(tmp_path, keep=2)
  assert again.latest_progress() == ('cycles', 1, _at(10))
  again.save_cycle(2, _state(), _at(20))
  assert again.available_cycles() == [1, 2]
