"""Common layers of a block: norm, linear maps with adapters, gated MLP.

References: RMSNorm 1910.07467, SwiGLU 2002.05202.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import ad_checkpoint

from sleep_jax import types
from sleep_jax.runtime import processor

Array = types.Array
FLOAT32, BFLOAT16, AUTO = 'float32', 'bfloat16', 'auto'
ROUNDED = 'rounded_product'  # Name for policies of `jax.checkpoint`.
INPUTS = 'inputs'  # Collection of the inputs of matrices, see `matrix_inputs`.
# Flax evaluates the shape of each parameter at every use. Jit traces it once.
matrix_init = jax.jit(nn.initializers.lecun_normal(), static_argnums=1)


class RMSNorm(nn.Module):
  """Root mean square norm with a learned scale.

  Attributes:
    eps: added to the mean square.
    offset: added to the stored scale. The effective scale starts at 1.
  """

  eps: float = 1e-6
  offset: float = 0.0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    one = nn.initializers.constant(1.0 - self.offset)
    scale = self.param('scale', one, (x.shape[-1],))
    scale = scale + self.offset if self.offset else scale
    mean = jnp.mean(jnp.square(x.astype(jnp.float32)), -1, keepdims=True)
    return (x * jax.lax.rsqrt(mean + self.eps)).astype(x.dtype) * match_rank(
      scale, x
    )


def activation(name: str) -> Callable[[Array], Array]:
  """Returns the activation function: 'silu', or 'gelu' (tanh form)."""
  return nn.silu if name == 'silu' else nn.gelu


class SwiGLU(nn.Module):
  """`down(act(gate(x)) * up(x))`.

  Attributes:
    hidden: hidden size.
    zero_out: whether `down` is initialized to zero.
    act: see `activation`.
    products: see `product`.
  """

  hidden: int
  zero_out: bool = False
  act: str = 'silu'
  products: str = FLOAT32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    width = x.shape[-1]
    out_init = nn.initializers.zeros if self.zero_out else matrix_init
    gate = self.param('gate', matrix_init, (width, self.hidden))
    up = self.param('up', matrix_init, (width, self.hidden))
    down = self.param('down', out_init, (self.hidden, width))
    read = functools.partial(linear, self, products=self.products)
    hidden = activation(self.act)(read(x, 'gate', gate))
    hidden = hidden * read(x, 'up', up)
    return read(hidden, 'down', down)


def linear(
  module: nn.Module, x: Array, name: str, kernel: Array, *, products: str
) -> Array:
  """Returns `x W` plus the output of the adapter of that matrix, if any.

  Computes in the dtype of `x`. Trained parameters are stored in f32 whatever
  the dtype of the computation.

  Args:
    module: which has the matrix.
    x: input, `[..., D]`.
    name: of the matrix.
    kernel: W, `[D, F]`.
    products: see `product`.
  """
  module.sow(INPUTS, name, x)  # Only where the collection is asked for.
  y = product(x, kernel, products)
  if module.has_variable('adapter', name):
    adapter: Any = module.get_variable('adapter', name)
    a, b = adapter['a'].astype(x.dtype), adapter['b'].astype(x.dtype)
    y = y + _low_rank_product(x, a, b)
  return y


def product(x: Array, kernel: Array, products: str = FLOAT32) -> Array:
  """Returns `x W` in the dtype of `x`.

  Args:
    x: input, `[..., D]`.
    kernel: W, `[D, F]`.
    products: 'float32', or 'bfloat16', which rounds both factors first, or
      'auto', the faster one on this machine. Sums are in f32 in either case,
      also in the gradients.
  """
  # With one token per row, rounding W takes longer than it saves.
  is_row = x.ndim < 3 or x.shape[1] > 1
  if x.dtype == jnp.float32 and not (rounds(products) and is_row):
    return x @ kernel
  # Named, because a policy of `jax.checkpoint` does not see the product inside.
  return ad_checkpoint.checkpoint_name(_rounded_product(x, kernel), ROUNDED)


def logits(states: Array, head_VD: Array, products: str) -> Array:
  """Returns `states head^T`, f32; see `product`."""
  if rounds(products):
    return product(states, head_VD.T, products).astype(jnp.float32)
  return jnp.dot(states, head_VD.T, preferred_element_type=jnp.float32)


def factor(kernel: Array, products: str) -> Array:
  """Returns a factor of products as they read it, see `product`."""
  return kernel.astype(jnp.bfloat16) if rounds(products) else kernel


def rounds(products: str) -> bool:
  """Returns whether factors are rounded on this machine; see `product`."""
  if products == AUTO:
    return processor.has_fast_bfloat16()
  return products == BFLOAT16


@jax.custom_vjp
def _rounded_product(x: Array, kernel: Array) -> Array:
  return _sum_products(x, kernel, x.ndim - 1, 0).astype(x.dtype)


def _rounded_forward(x, kernel):
  return _rounded_product(x, kernel), (x, kernel)


def _rounded_backward(residuals, dy):
  x, kernel = residuals
  dx = _sum_products(dy, kernel, x.ndim - 1, 1)
  flat = lambda v: v.reshape(-1, v.shape[-1])
  dkernel = _sum_products(flat(x), flat(dy), 0, 0)
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_rounded_product.defvjp(_rounded_forward, _rounded_backward)


def _sum_products(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
  """Returns the product of two arrays, rounded to 16 bits, over an axis."""
  return jax.lax.dot_general(
    a.astype(jnp.bfloat16), b.astype(jnp.bfloat16),
    (((a_axis,), (b_axis,)), ((), ())), preferred_element_type=jnp.float32,
  )  # fmt: skip


@jax.custom_vjp
def _low_rank_product(x: Array, a: Array, b: Array) -> Array:
  """Returns `(x a) b`.

  The custom gradient is for speed only. The gradient of `a` is a matrix product
  with one small dimension, which a CPU computes many times faster transposed.
  """
  return (x @ a) @ b


def _low_rank_forward(x, a, b):
  z = x @ a
  return z @ b, (x, z, a, b)


def _low_rank_backward(residuals, dy):
  x, z, a, b = residuals
  flat = lambda v: v.reshape(-1, v.shape[-1])
  dz = dy @ b.T
  da = jax.lax.optimization_barrier(flat(dz).T @ flat(x))
  return dz @ a.T, da.T, flat(z).T @ flat(dy)


_low_rank_product.defvjp(_low_rank_forward, _low_rank_backward)


def match_rank(scale: Array, x: Array) -> Array:
  """Returns a vector with leading axes of size 1, in the dtype of `x`."""
  shape = (1,) * (x.ndim - 1) + scale.shape
  return scale.reshape(shape).astype(x.dtype)
