"""Plans of a run: memory and work, checked against the compiler."""

import jax
import jax.numpy as jnp
import pytest

from configs import scale
from sleep_jax.planning import (
  ahead_of_time,
  memory_kinds,
  plan,
  run_shape,
  text,
  tpu_topology,
  work,
)
from sleep_jax.runtime import mesh as mesh_lib
from sleep_jax.runtime import sharding
from sleep_jax.sleep import settings_checks
from tests import testing


def _config(**pretrain):
  c = testing.config((1, 2))
  c.model.update(width=16, num_layers=2, num_heads=4, head_size=4, unroll=2)
  c.tokenizer.vocab_size = testing.VOCAB
  c.strategies = ('sleep',)
  c.pretrain.update(steps=0, **pretrain)
  return c


def _state_bytes(num_devices=1, **pretrain):
  c = _config(**pretrain)
  c.model.update(width=512, head_size=128)  # Whole tiles.
  placement = sharding.make_abstract(num_devices, fsdp=num_devices)
  state = ahead_of_time.abstract_run(c, placement).state(night=1)
  return memory_kinds.state_bytes(state, num_levels=2)


def _shape(c, **mesh):
  return run_shape.RunShape(
    ahead_of_time.build_model(c).config,
    c,
    settings_checks.make_settings(**c.consolidate.to_dict()),
    4,
    dict.fromkeys(mesh_lib.AXES, 1) | mesh,
  )


def test_each_of_four_devices_holds_a_quarter_of_the_large_arrays():
  one, four = _state_bytes(), _state_bytes(4)
  for kind in ('gradient sums', 'anchors', memory_kinds.FROZEN):
    # Norms are replicated; they are small but not zero.
    assert 0.25 * one[kind] <= four[kind] < 0.28 * one[kind], kind


def test_a_bfloat16_core_does_not_change_the_memory_of_trained_arrays():
  float32, bfloat16 = _state_bytes(), _state_bytes(dtype='bfloat16')
  frozen = memory_kinds.FROZEN
  assert bfloat16.pop(frozen) == float32.pop(frozen) / 2
  # Rehearsals store the inputs of the head in the type of the core.
  assert bfloat16.pop('rehearsals') < float32.pop('rehearsals')
  assert bfloat16 == float32


def test_padded_bytes_include_the_padding_of_tiles():
  """The values are those of the compiler, see tpu_compile_test.py."""
  padded = tpu_topology.padded_bytes
  # The dimension of 64 is laid along the rows of tiles.
  assert padded((32, 4096, 64), 4) == 32 * 4096 * 64 * 4
  assert padded((32, 10, 64, 64), 4) == 2 * 32 * 10 * 64 * 64 * 4
  assert padded((3, 1000), 4) == 4 * 1024 * 4
  assert padded((1, 1000), 2) == 2 * 1024 * 2
  assert padded((1000,), 4) == 1024 * 4
  assert padded((), 4) == 128 * 4
  assert padded((), 1) == 512


def test_estimated_flops_match_the_count_of_the_compiler():
  c, rows = _config(), 8
  model, shape = ahead_of_time.build_model(c), _shape(c)
  ints = jax.ShapeDtypeStruct((rows, 32), jnp.int32)
  weights = model.shapes()
  compiled = jax.jit(model.forward).lower(weights, *[ints] * 3).compile()
  counted = compiled.cost_analysis()['flops']
  estimated = work.forward_flops(shape, rows * 32, 32)
  assert 0.8 * counted < estimated < 1.05 * counted


def test_a_program_is_compiled_again_only_if_it_or_the_topology_changed():
  lower = lambda factor: jax.jit(lambda x: factor * x).lower(1.0)
  result = plan.compile_program(lower(2), 'a') | {'seconds': -1.0}
  assert plan.compile_program(lower(2), 'a', [result]) == result
  for program, topology in ((lower(3), 'a'), (lower(2), 'b')):
    assert plan.compile_program(program, topology, [result])['seconds'] > 0


@pytest.mark.parametrize(
  'size, name, mesh',
  [
    ('qwen3-0.6b', 'v5e:2x2', dict(fsdp=4)),
    ('llama3-8b', 'v5e:4x4', {}),
    ('llama3-8b', '2*v5e:4x4', {}),
    ('llama3-70b', 'v5p:4x4x4', dict(fsdp=64)),
  ],
)
def test_large_base_models_fit(size, name, mesh):
  c = scale.get_config(size)
  c.mesh.update(mesh)
  found = plan.plan(c, tpu_topology.parse(name))
  assert not found['too_much']
  assert {'wake', 'night'} == set(found['programs'])
  assert 'nights per day' in text.format_plan(found)


def test_sharding_the_sequence_axis_divides_the_activations():
  c = scale.get_config('llama3-8b')
  # Both meshes process the same number of rows per device at a time.
  c.data.update(context=32768, batch_size=16)
  c.wake.micro_batches = 1
  whole, sharded = (
    plan.plan(c, tpu_topology.parse(name))
    for name, c.mesh.sequence in (('v5e:4x4', 1), ('v5e:8x8', 4))
  )
  assert 'sequence=4' in text.format_plan(sharded)
  assert [x for x in whole['too_much'] if 'or raise mesh.sequence' in x]
  assert not sharded['too_much']
  activations, frozen = memory_kinds.ACTIVATIONS, memory_kinds.FROZEN
  for program, part, kind, max_share in (
    ('wake', 'needed', activations, 0.28),  # With gathered keys and values.
    ('night', 'needed', activations, 0.28),
    ('wake', 'kept', frozen, 0.26),
  ):
    one, four = (
      found['programs'][program][part][kind] for found in (whole, sharded)
    )
    assert 0.25 * one <= four < max_share * one, kind


def test_a_program_that_does_not_fit_is_reported_with_a_remedy():
  c = scale.get_config('llama3-70b')
  c.mesh.fsdp = 4
  wake, night = plan.plan(c, tpu_topology.parse('v5e:2x2'))['too_much']
  assert 'wake does not fit' in wake and 'night does not fit' in night
  assert f'{memory_kinds.FROZEN}: 32.' in wake
  assert memory_kinds.remedy(memory_kinds.FROZEN) in wake


def test_rows_that_the_devices_do_not_divide_are_reported_with_a_remedy():
  c = scale.get_config('llama3-70b')
  c.dream.on = True
  assert not _shape(c, fsdp=16).uneven_rows()
  c.mesh.fsdp = 64
  c.dream.update(candidates=64, top=48, random=16)
  found = plan.plan(c, tpu_topology.parse('v5p:4x4x4'))
  messages = [x for x in found['uneven'] if 'dream.writer.batch' in x]
  assert 'is 16, not a multiple of the 64 devices' in messages[0]
  assert 'Set it to 64.' in messages[0]
  assert messages[0] in text.format_plan(found)


def test_the_error_for_a_mesh_of_the_wrong_size_names_one_that_fits():
  c = scale.get_config('llama3-8b')
  c.mesh.update(data=1, fsdp=12)
  with pytest.raises(ValueError, match='16: change .* data=1, fsdp=16'):
    plan.plan(c, tpu_topology.parse('v5e:4x4'))
  c.mesh.update(data=1, fsdp=32)
  with pytest.raises(
    ValueError, match='multiple of the 2 slices, .* data=2, fsdp=16'
  ):
    plan.plan(c, tpu_topology.parse('2*v5e:4x4'))


def test_the_error_for_an_axis_that_divides_no_width_names_the_next_size():
  c = _config()
  with pytest.raises(ValueError, match='fsdp of 32 .*16 in .*is 16'):
    ahead_of_time.abstract_run(c, sharding.make_abstract(32, fsdp=32))


@pytest.mark.parametrize('name', ['v9:2x2', 'v5e:3x5', 'v5e', '', 'v5p:4x4'])
def test_the_error_for_an_unknown_topology_lists_the_known_ones(name):
  with pytest.raises(ValueError, match=f'{name!r} is unknown: .*v5e:4x4.*v6e'):
    tpu_topology.parse(name)
