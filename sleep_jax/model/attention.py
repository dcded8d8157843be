"""TODO: model.attention (from model.layers)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax.model import attention_kernels, layers, rope
from sleep_jax.model import config as config_lib


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
      kernel = self.param(
        name, layers.matrix_init, (width, count * c.head_size)
      )
      x_BTF = layers.product(self, x_BTD, name, kernel)
      if c.qkv_bias:
        zero = nn.initializers.zeros
        bias = self.param(f'{name}_bias', zero, (count * c.head_size,))
        x_BTF = x_BTF + layers.match_rank(bias, x_BTF)
      return x_BTF.reshape(*x_BTD.shape[:2], count, c.head_size)

    q_BTHK = heads('query', c.num_heads)
    k_BTHK = heads('key', c.num_kv_heads)
    v_BTHK = heads('value', c.num_kv_heads)
    if c.qk_norm:
      q_BTHK, k_BTHK = self.query_norm(q_BTHK), self.key_norm(k_BTHK)
    turns: Any = rope.frequencies(
      c.head_size, theta=c.rope_theta, scaling=c.rope_scaling
    )
    if local is not None and c.local_theta:
      near = rope.frequencies(c.head_size, theta=c.local_theta)
      turns = jnp.where(local, near, turns)
    q_BTHK = rope.rotate(q_BTHK, positions_BT, turns)
    k_BTHK = rope.rotate(k_BTHK, positions_BT, turns)
    out = self.param(
      'out', layers.matrix_init, (c.num_heads * c.head_size, width)
    )
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
    y_BTHK = attention_kernels.whole(
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
    mask_BTS = attention_kernels.near(
      mask_BTS, positions_BT, place_BS, local, self.config.window
    )
    y_BTHK = attention_kernels.attend_cached(
      q_BTHK, k_BGSK, v_BGSK, mask_BTS, scale=self.config.query_scale,
      cap=self.config.attention_cap,
    )  # fmt: skip
    return self._branch(y_BTHK, out), (k_BGSK, v_BGSK)

  def _branch(self, y_BTHK, out):
    y_BTF = y_BTHK.reshape(*y_BTHK.shape[:2], -1)
    kernel, bias = out
    y_BTD = layers.product(self, y_BTF, 'out', kernel)
    if bias is not None:
      y_BTD = y_BTD + layers.match_rank(bias, y_BTD)
    return self.post_norm(y_BTD) if self.config.post_norms else y_BTD

  def _norm(self):
    return layers.RMSNorm(self.config.norm_eps, self.config.norm_offset)
