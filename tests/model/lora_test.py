"""Tests of low-rank adapters and of gates that are forced open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.model import lora
from tests import testing

RANK, SCALE = 2, 0.5
DEEP = dict(arrangement='depth', layer_levels=(1, 2), num_layers=2)
CHANGES = [dict(), dict(arrangement='independent'), DEEP]


def _rows():
  batch = testing.batch()
  return batch.tokens_BT, batch.segments_BT, batch.positions_BT


def _random_adapter(params, targets=lora.TARGETS, seed=0):
  """Returns an adapter with random values, so that it changes outputs."""
  adapter = lora.init(jax.random.key(seed), params, rank=RANK, targets=targets)
  noise = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(noise.normal(size=x.shape), 'f4') * 0.3, adapter
  )


@pytest.mark.parametrize('changes', CHANGES)
def test_an_untrained_adapter_changes_no_output(changes):
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  adapter = lora.init(
    jax.random.key(0), weights.params, rank=RANK, targets=lora.TARGETS
  )
  adapted = lora.attach(weights, adapter, scale=SCALE)
  plain = model.forward(weights, *_rows())
  np.testing.assert_array_equal(plain, model.forward(adapted, *_rows()))


@pytest.mark.parametrize('changes', CHANGES)
@pytest.mark.parametrize('targets', [lora.TARGETS, ('query', 'down')])
def test_an_adapter_equals_its_product_added_to_the_matrix(changes, targets):
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  adapter = _random_adapter(weights.params, targets)
  assert {path.rsplit('/', 1)[-1] for path in adapter} == set(targets)
  merged = weights.with_params({
    path: weights.params[path] + SCALE * low['a'] @ low['b']
    for path, low in adapter.items()
  })  # fmt: skip
  adapted = lora.attach(weights, adapter, scale=SCALE)
  expected = testing.forward(model)(merged, *_rows())
  found = testing.forward(model)(adapted, *_rows())
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert (
    float(jnp.abs(found - testing.forward(model)(weights, *_rows())).max())
    > 0.1
  )


def test_prefill_with_an_adapter_gives_the_logits_of_whole_rows():
  model = testing.tiny()
  weights = testing.weights(model)
  adapted = lora.attach(weights, _random_adapter(weights.params), scale=SCALE)
  prompts = testing.prompts([[1, 5, 9, 4]])
  tokens_BT = jnp.concatenate(
    [prompts.tokens_BP[:, :4], jnp.array([[7, 3]])], 1
  )
  logits, _ = model.prefill(
    adapted, prompts.tokens_BP, prompts.length_B, cache_size=8
  )
  rows = types.model_inputs(tokens_BT, jnp.array([6]))
  whole = testing.forward(model)(adapted, *rows)
  np.testing.assert_allclose(logits, whole[:, 3], atol=1e-4)


def _model_with_experts():
  """Returns a model with two active experts, and its weights."""
  model = testing.tiny()
  weights = testing.activate(testing.weights(model), 2, 0, 2)
  return model, weights


def _open_gate(weights, slot, row=0):
  opened = jnp.zeros((testing.ROWS, *weights.active_NE.shape))
  return weights.replace(opened_BNE=opened.at[row, 1, slot].set(1))


def test_an_opened_gate_is_1_only_for_its_row():
  model, weights = _model_with_experts()
  plain = testing.forward(model)(weights, *_rows())
  found = testing.forward(model)(_open_gate(weights, 2, row=3), *_rows())
  others = np.flatnonzero(np.arange(testing.ROWS) != 3)
  np.testing.assert_array_equal(found[others], plain[others])
  assert float(jnp.abs(found[3] - plain[3]).max()) > 1e-3
  # The same as a router with a very large bias.
  path = 'blocks/levels/2/experts/bias'
  bias = weights.params[path].at[:, 2].set(1e4)
  expected = testing.forward(model)(weights.with_params({path: bias}), *_rows())
  np.testing.assert_allclose(found[3], expected[3], atol=1e-4)


def test_the_gate_of_an_inactive_expert_cannot_be_opened():
  model, weights = _model_with_experts()
  plain = testing.forward(model)(weights, *_rows())
  found = testing.forward(model)(_open_gate(weights, 1), *_rows())
  np.testing.assert_array_equal(found, plain)
