"""The loss of rows of text, and its gradient.

Rows may be read in micro-batches, see `optim.gradient_accumulation`.
"""

import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.optim import gradient_accumulation
from sleep_jax.wake import terms

Array = types.Array


def value_and_grad(
  likelihood: terms.Likelihood,
  weights: types.Weights,
  params: types.Params,
  batch: types.Batch,
  *,
  num: int,
) -> tuple[Array, types.Params]:
  """Returns the mean loss of the targets of a batch, nats, and its gradient.

  Args:
    likelihood: computes token log-probabilities.
    weights: in which the parameters are replaced.
    params: path -> parameter that is trained.
    batch: rows; only their tokens and targets are read.
    num: number of micro-batches.
  """
  targets = jnp.maximum(jnp.sum(batch.loss_BT[:, 1:]), 1)

  def loss_fn(params, rows):
    score_BT = likelihood(weights.with_params(params), *rows)
    return -jnp.sum(score_BT * rows[-1][:, 1:]) / targets, ((), ())

  rows = (
    batch.tokens_BT, batch.segments_BT, batch.positions_BT, batch.loss_BT
  )  # fmt: skip
  (loss, _), grads = gradient_accumulation.value_and_grad(
    loss_fn, params, rows, num=num
  )
  return loss, grads
