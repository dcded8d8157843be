"""Compiled ahead, for devices that are pretended: what they send each other."""

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
  """A round on eight devices: its state, and all-gathers (size, where)."""
  place = ahead_of_time.AheadOfTimePlacement(sharding.make(data=1, fsdp=8).mesh)
  life = ahead_of_time.abstract_run(_config(), place)
  found = [
    (math.prod(int(n) for n in shape.split(',') if n), name)
    for shape, name in _GATHER.findall(life.seed(1).compile().as_text())
  ]
  return life.state(night=1), found


def test_what_comes_out_is_a_program_for_the_devices_of_the_mesh():
  place = ahead_of_time.AheadOfTimePlacement(sharding.make(data=2, fsdp=4).mesh)
  args = {'count': 1.0}  # Not placed by anyone.
  made = place.jit(lambda x: {'count': x['count'] + 1}, args)(args)
  (there,) = jax.tree.leaves(made.compile().input_shardings)
  assert there.device_set == set(jax.devices())


def test_rehearsals_are_written_and_read_where_they_lie(night):
  state, gathers = night
  pool = state.night.pools['next_day'].states_BGD
  assert gathers and max(size for size, _ in gathers) < math.prod(pool.shape)


def test_a_token_is_sent_to_the_weights_not_they_to_it(night):
  state, gathers = night
  gate = state.weights.params['blocks/levels/1/base/mlp/gate']
  per_token = [size for size, name in gathers if 'decode' in name]
  others = [size for size, name in gathers if 'decode' not in name]
  one = math.prod(gate.shape[1:])
  assert max(per_token, default=0) < one <= max(others)
