"""A-GEM: the projected gradient never increases the loss on stored rows."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax.strategies import agem
from tests import testing


def _gradient(seed):
  random = np.random.default_rng(seed)
  return {
    'a': jnp.asarray(random.normal(size=(3, 4)), jnp.float32),
    'b': jnp.asarray(random.normal(size=(5,)), jnp.float32),
  }


@pytest.mark.parametrize('seed', range(6))
def test_the_projected_gradient_has_no_negative_product_with_the_reference(
  seed,
):
  grads, reference = _gradient(seed), _gradient(seed + 100)
  before = float(optax.tree.vdot(grads, reference))
  found = agem.project(grads, reference)
  after = float(optax.tree.vdot(found, reference))
  assert after >= -1e-5
  if before < 0:  # It is the nearest such gradient: it stands on the plane.
    assert after == pytest.approx(0, abs=1e-5)
    removed = optax.tree.sub(found, grads)
    cosine = optax.tree.vdot(removed, reference) / (
      optax.tree.norm(removed) * optax.tree.norm(reference)
    )
    assert float(cosine) == pytest.approx(1, abs=1e-5)
  else:
    assert testing.same(found, grads)


def test_both_signs_occur_among_these_gradients():
  products = [
    float(optax.tree.vdot(_gradient(seed), _gradient(seed + 100)))
    for seed in range(6)
  ]
  assert min(products) < 0 < max(products)


def test_without_a_reference_the_gradient_stays():
  grads = _gradient(0)
  found = agem.project(grads, optax.tree.zeros_like(grads))
  assert testing.same(found, grads)
