"""Predicts the loss increase of an earlier task caused by a later update.

Near a minimum of the earlier task's loss its gradient vanishes, and the damage
of a later update delta is 1/2 delta^T H delta. A Hessian-vector product costs
about as much as two gradients, and no matrix is formed.

Reference: 2606.02398; Pearlmutter 1994 (Hessian-vector products).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types

Loss = Callable[[Any], types.Array]  # Parameters -> mean loss, a scalar.


def hessian_product(loss: Loss, params: Any, delta: Any) -> Any:
  """Returns H delta, a tree like the parameters, at `params`."""
  return jax.jvp(jax.grad(loss), (params,), (delta,))[1]


def damage(loss: Loss, params: Any, delta: Any) -> dict[str, types.Array]:
  """Returns the expected and the measured increase of a loss by an update.

  Args:
    loss: of the earlier task.
    params: after the earlier task; a tree of arrays.
    delta: the later update; a tree like `params`.

  Returns:
    Scalars in the unit of the loss: 'first_order', g^T delta; 'second_order',
    1/2 delta^T H delta; 'measured', loss(params + delta) - loss(params).
  """
  gradient = jax.grad(loss)(params)
  after = jax.tree.map(jnp.add, params, delta)
  return {
    'first_order': _dot(gradient, delta),
    'second_order': 0.5 * _dot(delta, hessian_product(loss, params, delta)),
    'measured': loss(after) - loss(params),
  }


def _dot(tree: Any, other: Any) -> types.Array:
  """Returns the inner product of two trees."""
  products = jax.tree.map(jnp.vdot, tree, other)
  return jnp.sum(jnp.stack(jax.tree.leaves(products)))
