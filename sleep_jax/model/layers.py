"""Norm, rotary attention and the gated MLP: a block's ordinary parts.

Attention comes in two forms that must agree: over whole rows, for training and
prefill, and one token at a time against a cache, for sampling (`attention`).

References: RMSNorm 1910.07467, rotary positions 2104.09864 (scaled as
in Llama 3.1, 2407.21783), grouped queries
2305.13245, SwiGLU 2002.05202.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types

Array = types.Array
# Flax asks for the shape of each parameter wherever it is used: traced once.
matrix_init = jax.jit(nn.initializers.lecun_normal(), static_argnums=1)


class RMSNorm(nn.Module):
  eps: float = 1e-6
  offset: float = 0.0  # Of the scale.

  @nn.compact
  def __call__(self, x: Array) -> Array:
    one = nn.initializers.constant(1.0 - self.offset)
    scale = self.param('scale', one, (x.shape[-1],))
    scale = scale + self.offset if self.offset else scale
    mean = jnp.mean(jnp.square(x.astype(jnp.float32)), -1, keepdims=True)
    return (x * jax.lax.rsqrt(mean + self.eps)).astype(x.dtype) * match_rank(
      scale, x
    )


def act(name: str) -> Callable[[Array], Array]:
  """'silu' or 'gelu'."""
  return nn.silu if name == 'silu' else nn.gelu


class SwiGLU(nn.Module):
  """`down(act(gate(x)) * up(x))`; `zero_out` makes it start as zero."""

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
    hidden = act(self.act)(product(self, x, 'gate', gate))
    hidden = hidden * product(self, x, 'up', up)
    return product(self, hidden, 'down', down)


def product(module: nn.Module, x: Array, name: str, kernel: Array) -> Array:
  """`x W`, and what an adapter beside that matrix adds, if there is one.

  In the type of `x`: what learns is kept in f32, whatever is computed in.
  """
  y = x @ kernel.astype(x.dtype)
  if module.has_variable('adapter', name):
    low: Any = module.get_variable('adapter', name)
    y = y + _low(x, low['a'].astype(x.dtype), low['b'].astype(x.dtype))
  return y


@jax.custom_vjp
def _low(x: Array, a: Array, b: Array) -> Array:
  """`(x a) b`, narrow in the middle.

  Its own gradient, for speed alone: the product that gives the gradient of `a`
  is narrow as well, and on a CPU many times faster the other way round.
  """
  return (x @ a) @ b


def _low_forward(x, a, b):
  z = x @ a
  return z @ b, (x, z, a, b)


def _low_backward(kept, dy):
  x, z, a, b = kept
  flat = lambda v: v.reshape(-1, v.shape[-1])
  dz = dy @ b.T
  da = jax.lax.optimization_barrier(flat(dz).T @ flat(x))
  return dz @ a.T, da.T, flat(z).T @ flat(dy)


_low.defvjp(_low_forward, _low_backward)


def match_rank(scale: Array, x: Array) -> Array:
  shape = (1,) * (x.ndim - 1) + scale.shape
  return scale.reshape(shape).astype(x.dtype)
