"""Programs of large base models, compiled by the TPU compiler: they fit.

The tests are slow and run only where libtpu is installed, see
launch/tpu_compile.sh. For a program that has not changed since the stored
results were measured, the stored results are used.
"""

import functools
import pathlib

import jax
import pytest

from benchmarks import tpu as cases
from benchmarks import two_copies
from sleep_jax.planning import ahead_of_time, plan, tpu_topology
from sleep_jax.runtime import sharding

RESULTS = pathlib.Path(__file__).parents[2] / 'docs/results/tpu/compiled.json'
pytestmark = pytest.mark.skipif(
  bool(tpu_topology.unavailable_reason()),
  reason=tpu_topology.unavailable_reason(),
)


@pytest.fixture(scope='module', autouse=True)
def production_compiler():
  """Enables all optimizations and disables the compilation cache on disk."""
  names = 'jax_disable_most_optimizations', 'jax_compilation_cache_dir'
  before = [jax.config.values[name] for name in names]
  for name, value in zip(names, (False, None), strict=True):
    jax.config.update(name, value)
  yield
  for name, value in zip(names, before, strict=True):
    jax.config.update(name, value)


@functools.cache
def _measured(case, program):
  return cases.measure(case, program, cases.read_rows(RESULTS))


@pytest.mark.parametrize('case, program', cases.PROGRAMS)
def test_a_program_fits_and_reuses_the_memory_of_its_state(case, program):
  found = _measured(case, program)
  compiled = found['compiled']
  assert 'refused' not in compiled and compiled['peak'] < found['chip_bytes']
  # The state is donated: the output takes the memory of the input.
  if program in ('wake', 'night'):
    state_bytes = sum(found['kept'].values())
    assert compiled['donated'] == pytest.approx(state_bytes, rel=1e-6)
    assert compiled['arguments'] == pytest.approx(state_bytes, rel=0.01)


SHAPES = (
  (), (1,), (5,), (512,), (513,), (10_000,), (1, 1), (1, 1000), (3, 1000),
  (100, 1), (10_000, 2), (300, 300), (7, 100, 3), (32, 64, 32), (40, 6, 48),
  (2, 1, 8, 30), (32, 10, 64, 64),
)  # fmt: skip


@pytest.mark.parametrize('name', ['v5e:2x2', 'v5p:2x2x1', 'v6e:2x2'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'bool'])
def test_padded_bytes_are_those_of_the_compiler(name, dtype):
  placement = jax.sharding.SingleDeviceSharding(
    tpu_topology.parse(name).devices()[0]
  )
  itemsize = jax.numpy.dtype(dtype).itemsize
  for shape in SHAPES:
    array = jax.ShapeDtypeStruct(shape, dtype, sharding=placement)
    compiled = jax.jit(lambda x: x).lower(array).compile().memory_analysis()
    expected = tpu_topology.padded_bytes(shape, itemsize)
    assert compiled.argument_size_in_bytes == expected, shape


def test_sharded_rows_need_a_third_of_the_memory():
  """The step is the same, and as many weights are gathered for a pass."""
  whole, sharded = (
    _measured(case, 'wake')['compiled']['peak']
    for case in ('8b-32k-whole', '8b-32k')
  )
  assert sharded < 0.33 * whole


def test_a_night_needs_no_second_model():
  """Its peak is the state plus the activations of one pass.

  It is 1.05 times that, see docs/results/tpu/README.md.
  """
  night, two = _measured('8b-v5e', 'night'), _measured('8b-v5e', cases.TWO)
  expected = sum(night['kept'].values()) + night['needed']['activations']
  assert night['compiled']['peak'] < 1.15 * expected
  assert two['compiled']['peak'] > 2 * night['compiled']['peak']


def test_a_program_that_cannot_fit_is_refused_with_a_message():
  """Two copies of an 8B model on a quarter of the chips."""
  c = cases.config('8b-v5e')
  c.mesh.fsdp = 4
  topology = tpu_topology.parse('v5e:2x2')
  program = two_copies.lower(c, topology.devices())
  compiled = plan.compile_program(program, topology.name)
  assert 'memory' in compiled['refused']


def test_the_error_for_a_topology_unknown_to_libtpu_lists_the_known_ones():
  with pytest.raises(ValueError, match='libtpu knows no topology .*v5e:4x4'):
    tpu_topology.Topology('v9:2x2', tpu_topology.CHIPS['v5e'], '2x2').devices()


def test_an_argument_without_a_sharding_is_placed_on_the_tpu():
  mesh = sharding.make(
    fsdp=4, devices=tpu_topology.parse('v5e:2x2').devices()
  ).mesh
  args = {'count': 1.0}
  jit = ahead_of_time.AheadOfTimePlacement(mesh).jit
  program = jit(lambda x: {'count': x['count'] + 1}, args)(args)
  (found,) = jax.tree.leaves(program.compile().input_shardings)
  assert {device.platform for device in found.device_set} == {'tpu'}
  assert found.num_devices == 4
