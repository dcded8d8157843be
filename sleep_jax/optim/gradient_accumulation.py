"""Gradient accumulation: the gradient of a large batch, in micro-batches.

A sum over rows equals the sum of the sums over micro-batches. Each micro-batch
takes every `num`-th row, so that rows that are sharded over devices stay on
their device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import errors

# (params, rows) -> (sum over rows, (further sums, values per row [B, ...])).
SummedLoss = Callable[[Any, Any], tuple[jax.Array, tuple[Any, Any]]]


def value_and_grad(
  function: SummedLoss, params: Any, rows: Any, *, num: int = 1
):
  """Computes `jax.value_and_grad(function, has_aux=True)` in micro-batches.

  Args:
    function: see `SummedLoss`.
    params: argument of the gradient.
    rows: tree of arrays `[B, ...]`, where `num` divides every B.
    num: number of micro-batches.

  Returns:
    ((sum over rows, (further sums, values per row)), gradient). Values per row
    are in the order of `rows`.
  """
  grad = jax.value_and_grad(function, has_aux=True)
  if num == 1:
    return grad(params, rows)

  def add(total, micro_batch):
    (value, (sums, per_row)), grads = grad(params, micro_batch)
    return jax.tree.map(jnp.add, total, (value, sums, grads)), per_row

  fold = lambda x: jnp.swapaxes(x.reshape(-1, num, *x.shape[1:]), 0, 1)
  micro_batches = jax.tree.map(fold, rows)
  (value, (sums, _)), grads = jax.eval_shape(
    grad, params, jax.tree.map(lambda x: x[0], micro_batches)
  )
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (value, sums, grads)
  )
  (value, sums, grads), per_row = jax.lax.scan(add, zeros, micro_batches)
  unfold = lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])
  return (value, (sums, jax.tree.map(unfold, per_row))), grads


def check_divisible(num: int, sizes: dict[str, int], field: str) -> None:
  """Checks that batches can be divided into micro-batches.

  Args:
    num: number of micro-batches.
    sizes: name of a config field -> number of rows that it sets.
    field: config field that sets `num`.

  Raises:
    ConfigError: `num` is below 1 or does not divide a number of rows.
  """
  if num < 1:
    raise errors.ConfigError(f'config.{field} is {num}: expected 1 or more.')
  for name, size in sizes.items():
    if size % num:
      raise errors.ConfigError(
        f'config.{field} is {num}, which does not divide the {size} rows of '
        f'{name}: expected a divisor.'
      )
