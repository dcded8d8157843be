"""Micro-batches: a gradient over many rows, in the room of a few.

What is summed over rows may be summed part by part. Each part takes every
`num`-th row, so that rows which are spread over devices stay where they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# (params, rows) -> (a sum over rows, (further sums, [B, ...] of each row)).
Sum = Callable[[Any, Any], tuple[jax.Array, tuple[Any, Any]]]


def value_and_grad(function: Sum, params: Any, rows: Any, *, num: int = 1):
  """`jax.value_and_grad(function, has_aux=True)(params, rows)` in `num` parts.

  Args:
    rows: leaves `[B, ...]`, B of each a multiple of `num`.
  """
  grad = jax.value_and_grad(function, has_aux=True)
  if num == 1:
    return grad(params, rows)

  def one(total, part):
    (value, (sums, each)), grads = grad(params, part)
    return jax.tree.map(jnp.add, total, (value, sums, grads)), each

  fold = lambda x: jnp.swapaxes(x.reshape(-1, num, *x.shape[1:]), 0, 1)
  parts = jax.tree.map(fold, rows)
  (value, (sums, _)), grads = jax.eval_shape(
    grad, params, jax.tree.map(lambda x: x[0], parts)
  )
  nothing = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype), (value, sums, grads)
  )
  (value, sums, grads), each = jax.lax.scan(one, nothing, parts)
  unfold = lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])
  return (value, (sums, jax.tree.map(unfold, each))), grads


def check(num: int, sizes: dict[str, int], field: str) -> None:
  """Whether all rows can be dealt out.

  Args:
    sizes: rows, by the name of the field that says how many.
    field: that says how many parts.

  Raises:
    ValueError: they cannot; names both fields.
  """
  if num < 1:
    raise ValueError(f'config.{field} is {num}: expected 1 or more.')
  for name, size in sizes.items():
    if size % num:
      raise ValueError(
        f'config.{field} is {num}, which does not divide the {size} rows of '
        f'{name}: choose one that does.'
      )
