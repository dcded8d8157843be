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
import numpy as np
from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import attention
from sleep_jax.model import config as config_lib

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
    return (x * jax.lax.rsqrt(mean + self.eps)).astype(x.dtype) * _like(
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


class Attention(nn.Module):
  """Causal grouped-query attention with rotary positions."""

  config: config_lib.Model

  def setup(self):
    c = self.config
    self.norm = self._norm()
    if c.qk_norm:
      self.query_norm, self.key_norm = self._norm(), self._norm()
    if c.post_norms:
      self.post_norm = self._norm()

  @nn.compact
  def _project(self, x_BTD, positions_BT, local):
    c, width = self.config, x_BTD.shape[-1]
    x_BTD = self.norm(x_BTD)

    def heads(name, count):
      kernel = self.param(name, matrix_init, (width, count * c.head_size))
      x_BTF = product(self, x_BTD, name, kernel)
      if c.qkv_bias:
        zero = nn.initializers.zeros
        bias = self.param(f'{name}_bias', zero, (count * c.head_size,))
        x_BTF = x_BTF + _like(bias, x_BTF)
      return x_BTF.reshape(*x_BTD.shape[:2], count, c.head_size)

    q_BTHK = heads('query', c.num_heads)
    k_BTHK = heads('key', c.num_kv_heads)
    v_BTHK = heads('value', c.num_kv_heads)
    if c.qk_norm:
      q_BTHK, k_BTHK = self.query_norm(q_BTHK), self.key_norm(k_BTHK)
    turns: Any = frequencies(
      c.head_size, theta=c.rope_theta, scaling=c.rope_scaling
    )
    if local is not None and c.local_theta:
      near = frequencies(c.head_size, theta=c.local_theta)
      turns = jnp.where(local, near, turns)
    q_BTHK = rotate(q_BTHK, positions_BT, turns)
    k_BTHK = rotate(k_BTHK, positions_BT, turns)
    out = self.param('out', matrix_init, (c.num_heads * c.head_size, width))
    bias = None
    if c.out_bias:
      bias = self.param('out_bias', nn.initializers.zeros, (width,))
    return q_BTHK, k_BTHK, v_BTHK, (out, bias)

  def __call__(self, x_BTD, seen, positions_BT, local=None):
    """Whole rows. Returns the branch and this layer's keys and values.

    Args:
      seen: see `attention.seen`.
      local: bool scalar, whether only a window is seen; None: never.
    """
    q_BTHK, k_BTHK, v_BTHK, out = self._project(x_BTD, positions_BT, local)
    y_BTHK = attention.whole(
      q_BTHK, k_BTHK, v_BTHK, seen, positions_BT, local, self.config
    )
    return self._branch(y_BTHK, out), (k_BTHK, v_BTHK)

  def decode(self, x_BTD, mask_BTS, positions_BT, cache, slot, local=None):
    """One token per row (T = 1) against a cache `[B, G, S, K]` pair.

    The token's keys and values go to `slot`, the same for all rows: gaps that
    ragged prompts leave are masked, so that the write is one cheap slice.
    """
    q_BTHK, k_BTHK, v_BTHK, out = self._project(x_BTD, positions_BT, local)
    k_BGSK, v_BGSK = (
      jax.lax.dynamic_update_slice_in_dim(
        old, new.swapaxes(1, 2).astype(old.dtype), slot, 2
      )
      for old, new in zip(cache, (k_BTHK, v_BTHK), strict=True)
    )
    # Slots lie in the order of their tokens.
    place_BS = jnp.cumsum(mask_BTS[:, 0], 1) - 1
    mask_BTS = attention.near(
      mask_BTS, positions_BT, place_BS, local, self.config.window
    )
    y_BTHK = attention.attend_cached(
      q_BTHK, k_BGSK, v_BGSK, mask_BTS, scale=self.config.query_scale,
      cap=self.config.attention_cap,
    )  # fmt: skip
    return self._branch(y_BTHK, out), (k_BGSK, v_BGSK)

  def _branch(self, y_BTHK, out):
    y_BTF = y_BTHK.reshape(*y_BTHK.shape[:2], -1)
    kernel, bias = out
    y_BTD = product(self, y_BTF, 'out', kernel)
    if bias is not None:
      y_BTD = y_BTD + _like(bias, y_BTD)
    return self.post_norm(y_BTD) if self.config.post_norms else y_BTD

  def _norm(self):
    return RMSNorm(self.config.norm_eps, self.config.norm_offset)


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


def frequencies(
  head_size: int, *, theta: float, scaling: tuple[float, ...] = ()
) -> np.ndarray:
  """Radians per position of each pair of a head, `[head_size / 2]`, f32.

  Args:
    scaling: (); (factor,): all are that many times slower; or (factor, low,
      high, positions), as in Llama 3.1: slower are those that turn less than
      `low` times in `positions`, as before those that turn more than `high`
      times, and in between it goes over linearly.
  """
  half = head_size // 2
  plain = theta ** (-np.arange(half) / half)
  if not scaling:
    return plain.astype(np.float32)
  factor, *bounds = scaling
  if not bounds:
    return (plain / factor).astype(np.float32)
  low, high, positions = bounds
  turns = positions * plain / (2 * np.pi)
  kept = np.clip((turns - low) / (high - low), 0, 1)
  return (kept * plain + (1 - kept) * plain / factor).astype(np.float32)


def rotate(
  x_BTHK: Array, positions_BT: Array, turns: Array | np.ndarray
) -> Array:
  """Rotary positions, first and second half of a head as pairs.

  Args:
    turns: see `frequencies`.
  """
  angle = positions_BT[..., None, None] * jnp.asarray(turns)[None, None, None]
  # Else they are computed again for every head that they turn.
  cos, sin = jax.lax.optimization_barrier((jnp.cos(angle), jnp.sin(angle)))
  first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, -1)
  turned = (first * cos - second * sin, second * cos + first * sin)
  return jnp.concatenate(turned, -1).astype(x_BTHK.dtype)


def _like(scale: Array, x: Array) -> Array:
  shape = (1,) * (x.ndim - 1) + scale.shape
  return scale.reshape(shape).astype(x.dtype)
