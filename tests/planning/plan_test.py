"""A plan says what a life needs, and is right where it can be checked."""

import jax
import jax.numpy as jnp
import pytest

from configs import scale
from sleep_jax.planning import ahead_of_time, budget, plan, text, tpu_topology
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


def _kept(num=1, **pretrain):
  c = _config(**pretrain)
  c.model.update(width=512, head_size=128)  # Whole tiles.
  place = sharding.make_abstract(num, fsdp=num)
  state = ahead_of_time.abstract_run(c, place).state(night=1)
  return budget.kept(state, num_levels=2)


def _reckoning(c, **mesh):
  return budget.Budget(
    ahead_of_time.build_model(c).config, c,
    settings_checks.make_settings(**c.consolidate.to_dict()), 4,
    dict.fromkeys(mesh_lib.AXES, 1) | mesh,
  )  # fmt: skip


def test_four_devices_hold_a_quarter_of_what_is_large():
  one, four = _kept(), _kept(4)
  for kind in ('gradient sums', 'anchors', budget.FROZEN):
    # Norms, which are whole everywhere, are small but not nothing.
    assert 0.25 * one[kind] <= four[kind] < 0.28 * one[kind], kind


def test_a_core_of_half_the_width_leaves_what_learns_as_it_was():
  wide, narrow = _kept(), _kept(dtype='bfloat16')
  assert narrow.pop(budget.FROZEN) == wide.pop(budget.FROZEN) / 2
  # Rehearsals hold what the head reads, in the type of the core.
  assert narrow.pop('rehearsals') < wide.pop('rehearsals')
  assert narrow == wide


def test_what_tiles_take_up_is_reckoned():
  """As compiled, see tests/tpu_compile_test.py."""
  assert (
    tpu_topology.padded_bytes((32, 4096, 64), 4) == 32 * 4096 * 64 * 4
  )  # 64 in rows.
  assert tpu_topology.padded_bytes((32, 10, 64, 64), 4) == 2 * 32 * 10 * 64 * 64 * 4
  assert tpu_topology.padded_bytes((3, 1000), 4) == 4 * 1024 * 4
  assert tpu_topology.padded_bytes((1, 1000), 2) == 2 * 1024 * 2
  assert tpu_topology.padded_bytes((1000,), 4) == 1024 * 4
  assert tpu_topology.padded_bytes((), 4) == 128 * 4
  assert tpu_topology.padded_bytes((), 1) == 512


def test_products_are_as_many_as_the_compiler_counts():
  c, rows = _config(), 8
  model, reckoned = ahead_of_time.build_model(c), _reckoning(c)
  ints = jax.ShapeDtypeStruct((rows, 32), jnp.int32)
  weights = model.shapes()
  made = jax.jit(model.forward).lower(weights, *[ints] * 3).compile()
  counted = made.cost_analysis()['flops']
  expected = reckoned.forward(rows * 32, 32)
  assert 0.8 * counted < expected < 1.05 * counted


def test_what_was_compiled_is_not_compiled_again_unless_it_is_another():
  lower = lambda times: jax.jit(lambda x: times * x).lower(1.0)
  said = plan.compile_program(lower(2), 'here') | {'seconds': -1.0}
  assert plan.compile_program(lower(2), 'here', [said]) == said
  for program, where in ((lower(3), 'here'), (lower(2), 'there')):
    assert plan.compile_program(program, where, [said])['seconds'] > 0


@pytest.mark.parametrize(
  'size, name, mesh',
  [
    ('qwen3-0.6b', 'v5e:2x2', dict(fsdp=4)),
    ('llama3-8b', 'v5e:4x4', {}),
    ('llama3-8b', '2*v5e:4x4', {}),
    ('llama3-70b', 'v5p:4x4x4', dict(fsdp=64)),
  ],
)
def test_large_hosts_fit(size, name, mesh):
  c = scale.get_config(size)
  c.mesh.update(mesh)
  found = plan.plan(c, tpu_topology.parse(name))
  assert not found['too_much']
  assert {'wake', 'night'} == set(found['programs'])
  assert 'nights per day' in text.format_plan(found)


def test_devices_that_share_out_a_row_share_out_what_it_leaves():
  c = scale.get_config('llama3-8b')
  # As many rows to a device at a time.
  c.data.update(context=32768, batch_size=16)
  c.wake.micro_batches = 1
  whole, shared = (
    plan.plan(c, tpu_topology.parse(name))
    for name, c.mesh.sequence in (('v5e:4x4', 1), ('v5e:8x8', 4))
  )
  assert 'sequence=4' in text.format_plan(shared)
  assert [x for x in whole['too_much'] if 'or mesh.sequence' in x]
  assert not shared['too_much']
  for program, part, kind, most in (
    ('wake', 'needed', budget.ACTIVATIONS, 0.28),  # And keys and values.
    ('night', 'needed', budget.ACTIVATIONS, 0.28),
    ('wake', 'kept', budget.FROZEN, 0.26),
  ):
    one, four = (
      found['programs'][program][part][kind] for found in (whole, shared)
    )
    assert 0.25 * one <= four < most * one, kind


def test_what_does_not_fit_is_named_with_what_to_turn():
  c = scale.get_config('llama3-70b')
  c.mesh.fsdp = 4
  wake, night = plan.plan(c, tpu_topology.parse('v5e:2x2'))['too_much']
  assert 'wake does not fit' in wake and 'night does not fit' in night
  assert f'{budget.FROZEN} take 32.' in wake
  assert budget.KNOBS[budget.FROZEN] in wake


def test_rows_that_devices_do_not_divide_are_named_with_how_many_to_take():
  c = scale.get_config('llama3-70b')
  c.dream.on = True
  assert not _reckoning(c, fsdp=16).uneven()
  c.mesh.fsdp = 64
  c.dream.update(candidates=64, top=48, random=16)
  found = plan.plan(c, tpu_topology.parse('v5p:4x4x4'))
  said = [x for x in found['uneven'] if 'dream.writer.batch' in x]
  assert 'is 16, which the 64 devices' in said[0] and 'to 64.' in said[0]
  assert said[0] in text.format_plan(found)


def test_a_mesh_that_does_not_fit_the_topology_is_answered_with_one_that_does():
  c = scale.get_config('llama3-8b')
  c.mesh.update(data=1, fsdp=12)
  with pytest.raises(ValueError, match='16: change .* data=1, fsdp=16'):
    plan.plan(c, tpu_topology.parse('v5e:4x4'))
  c.mesh.update(data=1, fsdp=32)
  with pytest.raises(ValueError, match='2 slices share .* data=2, fsdp=16'):
    plan.plan(c, tpu_topology.parse('2*v5e:4x4'))


def test_an_axis_that_divides_no_width_is_named_with_the_next_that_does():
  c = _config()
  with pytest.raises(ValueError, match='fsdp of 32 .*16 in .*is 16'):
    ahead_of_time.abstract_run(c, sharding.make_abstract(32, fsdp=32))


@pytest.mark.parametrize('name', ['v9:2x2', 'v5e:3x5', 'v5e', '', 'v5p:4x4'])
def test_an_unknown_topology_is_answered_with_those_known(name):
  with pytest.raises(ValueError, match=f'{name!r} is unknown: .*v5e:4x4.*v6e'):
    tpu_topology.parse(name)
