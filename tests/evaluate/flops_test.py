"""Model FLOPs: counted by hand, and as the plan of a run counts them."""

import types as python_types

import pytest

from sleep_jax.evaluate import cost, flops
from sleep_jax.model import parameters
from sleep_jax.planning import run_shape, work
from tests import testing


def _array(*shape):
  return python_types.SimpleNamespace(shape=shape)


def test_a_small_model_is_counted_by_hand():
  params = {
    'blocks/attention/query': _array(2, 3, 4),
    'blocks/attention/norm/scale': _array(2, 3),  # No product.
    'embed': _array(10, 3), 'norm/scale': _array(3),
  }  # fmt: skip
  found = flops.forward_per_token(params, length=5, num_layers=2, heads_size=4)
  # Two per parameter of `query` and of the tied head; queries times keys, and
  # weights times values, over 5 tokens in 2 layers.
  assert found == 2 * 24 + 2 * 30 + 2 * (2 * 4 * 5) * 2
  untied = params | {'head': _array(3, 20)}
  assert flops.forward_per_token(
    untied, length=5, num_layers=2, heads_size=4
  ) == found - 2 * 30 + 2 * 60  # fmt: skip


def test_the_count_is_that_of_the_plan_and_the_routers():
  config = testing.tiny().config
  params = parameters.shapes(config).params
  shape = run_shape.RunShape(config, None, None, 4, {})
  routers = sum(
    leaf.size for path, leaf in params.items() if path.endswith('router')
  )
  found = flops.forward_per_token(
    params, length=7, num_layers=config.num_layers,
    heads_size=config.num_heads * config.head_size,
  )  # fmt: skip
  assert found == work.forward_flops(shape, 1, 7) + 2 * routers


def test_a_trained_token_costs_three_generated_ones_or_three_only_read():
  totals = cost.Cost()
  totals.set_sizes(flops_per_token=100)
  totals.add(tokens_read=7, tokens_generated=5, tokens_forward=11)
  assert flops.of_run(totals.totals()) == 100 * (3 * 7 + 5 + 11)


def test_a_run_of_an_earlier_version_has_no_count():
  assert flops.of_run({'tokens_read': 7, 'tokens_generated': 5}) is None
  assert flops.of_run(cost.Cost({'tokens_read': 7}).totals()) is None


def test_attention_grows_with_the_row():
  config = testing.tiny().config
  params = parameters.shapes(config).params
  count = lambda length: flops.forward_per_token(
    params, length=length, num_layers=2, heads_size=16
  )
  assert count(11) - count(10) == pytest.approx(4 * 2 * 16)
