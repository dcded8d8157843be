"""Programs lowered ahead of time, and the collectives that they contain."""

import math
import re

import jax
import pytest

from sleep_jax.planning import ahead_of_time
from sleep_jax.runtime import sharding
from tests import testing

_GATHER = re.compile(r'= \w+\[([\d,]*)\]\S* all-gather\(.*op_name="([^"]*)"')


def _config():
  c = testing.short_config()
  c.model.update(width=16, num_layers=2, num_heads=4, head_size=4, unroll=1)
  c.model.looped = True
  c.tokenizer.vocab_size = testing.VOCAB
  c.pretrain.steps = 0
  return c


@pytest.fixture(scope='module')
def night():
  """The state of a night on 8 devices, and (size, op) of its all-gathers."""
  placement = ahead_of_time.AheadOfTimePlacement(
    sharding.make(data=1, fsdp=8).mesh
  )
  run = ahead_of_time.abstract_run(_config(), placement)
  gathers = [
    (math.prod(int(n) for n in shape.split(',') if n), name)
    for shape, name in _GATHER.findall(run.lower_seed(1).compile().as_text())
  ]
  return run.state(night=1), gathers


def test_a_lowered_program_is_for_the_devices_of_the_mesh():
  placement = ahead_of_time.AheadOfTimePlacement(
    sharding.make(data=2, fsdp=4).mesh
  )
  args = {'count': 1.0}  # An argument without a sharding.
  program = placement.jit(lambda x: {'count': x['count'] + 1}, args)(args)
  (found,) = jax.tree.leaves(program.compile().input_shardings)
  assert found.device_set == set(jax.devices())


def test_a_pool_of_rehearsals_is_never_gathered(night):
  state, gathers = night
  pool = state.night.pools['next_day'].states_BGD
  assert gathers and max(size for size, _ in gathers) < math.prod(pool.shape)


def test_decoding_gathers_tokens_and_not_weights(night):
  state, gathers = night
  gate = state.weights.params['blocks/levels/1/base/mlp/gate']
  decode = [size for size, name in gathers if 'decode' in name]
  others = [size for size, name in gathers if 'decode' not in name]
  one_layer = math.prod(gate.shape[1:])
  assert max(decode, default=0) < one_layer <= max(others)
