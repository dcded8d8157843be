"""Predicted and measured damage of each later update to each earlier day.

The updates are delta_t = W_t - W_{t-1}, for the parameters W_t after day t. A
pair (a, b) has a < b. Its damage is loss_a(W_b) - loss_a(W_{b-1}), for the mean
loss on the rows of day a. All predictors are known before that is measured.

Reference: 2606.02398.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.evaluate import curvature, interference, update_conflict

# (parameters, rows of a day) -> mean loss, a scalar.
Loss = Callable[[types.Params, Any], types.Array]


def compare(
  steps: Sequence[tuple[types.Params, types.Params]],
  rows: Sequence[Any],
  loss: Loss,
) -> list[dict[str, Any]]:
  """Returns one record for each pair of an earlier day and a later update.

  Args:
    steps: parameters before and after the update of each day, in order. The
      end of an update and the start of the next one compute the same.
    rows: what each day was learned from; trees of equal shapes.
    loss: see `Loss`.

  Returns:
    Records with 'a' and 'b', numbers of days from 1; how the two updates
    interfere, see `update_conflict.compare`; 'first_order', g^T delta_b;
    'second_order', 1/2 delta_b^T H delta_b; 'both_orders', their sum;
    'loss_before' and 'loss_after'; and 'measured', their difference. Gradient
    g and Hessian H are those of the loss on day a at the parameters before
    update b. Losses and damages are in the unit of the loss.
  """
  loss = jax.jit(loss)
  predict = jax.jit(
    lambda params, delta, rows: curvature.damage(
      lambda p: loss(p, rows), params, delta
    )
  )
  updates = [interference.difference(*step) for step in steps]
  found = []
  for b, (before, after) in enumerate(steps, 1):
    delta = jax.tree.map(jnp.subtract, after, before)
    for a in range(1, b):
      damage = predict(before, delta, rows[a - 1])
      first, second = (
        float(damage[name]) for name in ('first_order', 'second_order')
      )
      # Of the given parameters: in f32, before + delta differs from after.
      losses = [float(loss(params, rows[a - 1])) for params in (before, after)]
      found.append({
        'a': a, 'b': b,
        **update_conflict.compare(updates[a - 1], updates[b - 1]),
        'first_order': first, 'second_order': second,
        'both_orders': first + second, 'loss_before': losses[0],
        'loss_after': losses[1], 'measured': losses[1] - losses[0],
      })  # fmt: skip
  return found
