"""Divergence of the trained model from a frozen one, as a term of the loss."""

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.objectives import losses

Array = types.Array


def mean_divergence(
  model: types.Model,
  teacher: types.Weights,
  weights: types.Weights,
  rows: tuple[Array, Array, Array],
  target_BT: Array,
  *,
  temperature: float = 1.0,
  num: int = 1,
) -> Array:
  """Returns the mean KL(teacher || model), nats per target token.

  The gradient reaches all weights of the model, its head included.

  Args:
    model: computes logits.
    teacher: constant weights.
    weights: of the trained model.
    rows: tokens, segments and positions, `[B, T]` each.
    target_BT: 1 where the prediction of this token counts; its first column is
      not used.
    temperature: divides the logits of both.
    num: number of parts that the rows are read in, one after the other.
  """
  teacher = jax.lax.stop_gradient(teacher)

  @jax.checkpoint
  def total(part):
    *inputs, on_BT = part
    old_BTV = model.forward(teacher, *inputs)[:, :-1]
    new_BTV = model.forward(weights, *inputs)[:, :-1]
    value_BT = losses.divergence(
      old_BTV, new_BTV, beta=0.0, temperature=temperature
    )
    return jnp.sum(value_BT * on_BT[:, 1:])

  # Each part takes every `num`-th row, as in `optim.gradient_accumulation`.
  fold = lambda x: jnp.swapaxes(x.reshape(-1, num, *x.shape[1:]), 0, 1)
  parts = jax.tree.map(fold, (*rows, target_BT))
  sums = jax.lax.map(total, parts)
  return jnp.sum(sums) / jnp.maximum(jnp.sum(target_BT[:, 1:]), 1)
