"""Adapters and opened gates: beside the weights, never in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import lora, transformer
from tests import testing

RANK, SCALE = 2, 0.5
DEEP = dict(arrangement='depth', layer_levels=(1, 2), num_layers=2)
CHANGES = [dict(), dict(arrangement='independent'), DEEP]


def _rows():
  batch = testing.batch()
  return batch.tokens_BT, batch.segments_BT, batch.positions_BT


def _drawn(params, targets=lora.TARGETS, seed=0):
  """An adapter that says something."""
  adapter = lora.init(jax.random.key(seed), params, rank=RANK, targets=targets)
  noise = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(noise.normal(size=x.shape), 'f4') * 0.3, adapter
  )


@pytest.mark.parametrize('changes', CHANGES)
def test_an_untrained_adapter_changes_no_bit(changes):
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  adapter = lora.init(
    jax.random.key(0), weights.params, rank=RANK, targets=lora.TARGETS
  )
  worn = lora.attach(weights, adapter, scale=SCALE)
  plain = model.forward(weights, *_rows())
  np.testing.assert_array_equal(plain, model.forward(worn, *_rows()))


@pytest.mark.parametrize('changes', CHANGES)
@pytest.mark.parametrize('targets', [lora.TARGETS, ('query', 'down')])
def test_an_adapter_is_as_its_product_added_to_the_matrix(changes, targets):
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  adapter = _drawn(weights.params, targets)
  assert {path.rsplit('/', 1)[-1] for path in adapter} == set(targets)
  merged = weights.with_params({
    path: weights.params[path] + SCALE * low['a'] @ low['b']
    for path, low in adapter.items()
  })  # fmt: skip
  worn = lora.attach(weights, adapter, scale=SCALE)
  wanted = testing.forward(model)(merged, *_rows())
  found = testing.forward(model)(worn, *_rows())
  np.testing.assert_allclose(found, wanted, atol=1e-4)
  assert (
    float(jnp.abs(found - testing.forward(model)(weights, *_rows())).max())
    > 0.1
  )


def test_who_wears_an_adapter_writes_as_it_reads():
  """Prefill and decode against whole rows."""
  model = testing.tiny()
  weights = testing.weights(model)
  worn = lora.attach(weights, _drawn(weights.params), scale=SCALE)
  prompts = testing.prompts([[1, 5, 9, 4]])
  written = jnp.concatenate([prompts.tokens_BP[:, :4], jnp.array([[7, 3]])], 1)
  logits, _ = model.prefill(
    worn, prompts.tokens_BP, prompts.length_B, cache_size=8
  )
  rows = transformer.rows(written, jnp.array([6]))
  whole = testing.forward(model)(worn, *rows)
  np.testing.assert_allclose(logits, whole[:, 3], atol=1e-4)


def _gated():
  """A model with two of its experts on, and where they stand."""
  model = testing.tiny()
  weights = testing.activate(testing.weights(model), 2, 0, 2)
  return model, weights


def _opened(weights, slot, row=0):
  opened = jnp.zeros((testing.ROWS, *weights.active_NE.shape))
  return weights.replace(opened_BNE=opened.at[row, 1, slot].set(1))


def test_an_opened_gate_is_one_for_that_row_alone():
  model, weights = _gated()
  plain = testing.forward(model)(weights, *_rows())
  found = testing.forward(model)(_opened(weights, 2, row=3), *_rows())
  others = np.flatnonzero(np.arange(testing.ROWS) != 3)
  np.testing.assert_array_equal(found[others], plain[others])
  assert float(jnp.abs(found[3] - plain[3]).max()) > 1e-3
  # As if its router said yes to everything.
  path = 'blocks/levels/2/experts/bias'
  bias = weights.params[path].at[:, 2].set(1e4)
  sure = testing.forward(model)(weights.with_params({path: bias}), *_rows())
  np.testing.assert_allclose(found[3], sure[3], atol=1e-4)


def test_what_is_not_active_cannot_be_opened():
  model, weights = _gated()
  plain = testing.forward(model)(weights, *_rows())
  found = testing.forward(model)(_opened(weights, 1), *_rows())
  np.testing.assert_array_equal(found, plain)
