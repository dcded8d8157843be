"""Common layers of a block: norm, linear maps with adapters, gated MLP.

References: RMSNorm 1910.07467, SwiGLU 2002.05202.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types

Array = types.Array
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
  """

  hidden: int
  zero_out: bool = False
  act: str = 'silu'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    width = x.shape[-1]
    out_init = nn.initializers.zeros if self.zero_out else matrix_init
    gate = self.param('gate', matrix_init, (width, self.hidden))
    up = self.param('up', matrix_init, (width, self.hidden))
    down = self.param('down', out_init, (self.hidden, width))
    hidden = activation(self.act)(linear(self, x, 'gate', gate))
    hidden = hidden * linear(self, x, 'up', up)
    return linear(self, hidden, 'down', down)


def linear(module: nn.Module, x: Array, name: str, kernel: Array) -> Array:
  """Returns `x W` plus the output of the adapter of that matrix, if any.

  Computes in the dtype of `x`. Trained parameters are stored in f32 whatever
  the dtype of the computation.
  """
  y = product(x, kernel)
  if module.has_variable('adapter', name):
    adapter: Any = module.get_variable('adapter', name)
    a, b = adapter['a'].astype(x.dtype), adapter['b'].astype(x.dtype)
    y = y + _low_rank_product(x, a, b)
  return y


def product(x: Array, kernel: Array) -> Array:
  """Returns `x W` in the dtype of `x`.

  Products of 16-bit numbers are summed in f32, also in the gradients. A CPU
  with 16-bit products is then twice as fast as in f32; without the sums it
  would convert to f32 first, and be as slow.
  """
  return x @ kernel if x.dtype == jnp.float32 else _product_16(x, kernel)


@jax.custom_vjp
def _product_16(x: Array, kernel: Array) -> Array:
  return _sum_products(x, kernel.astype(x.dtype), x.ndim - 1, 0).astype(x.dtype)


def _product_16_forward(x, kernel):
  return _product_16(x, kernel), (x, kernel)


def _product_16_backward(residuals, dy):
  x, kernel = residuals
  dx = _sum_products(dy, kernel.astype(x.dtype), x.ndim - 1, 1)
  flat = lambda v: v.reshape(-1, v.shape[-1])
  dkernel = _sum_products(flat(x), flat(dy), 0, 0)
  return dx.astype(x.dtype), dkernel.astype(kernel.dtype)


_product_16.defvjp(_product_16_forward, _product_16_backward)


def _sum_products(a: Array, b: Array, a_axis: int, b_axis: int) -> Array:
  """Returns the product of two arrays over an axis of each, summed in f32."""
  return jax.lax.dot_general(
    a, b, (((a_axis,), (b_axis,)), ((), ())),
    preferred_element_type=jnp.float32,
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
