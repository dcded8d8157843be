"""Attention layer: projections, rotary positions and the output projection.

The layer has two forms that must agree: whole rows for training and prefill
(`__call__`), and one token per row against a cache for sampling (`decode`).

References: grouped queries 2305.13245; rotary positions 2104.09864.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import (
  attention_kernels,
  layers,
  prefix,
  rope,
  rope_scaling,
)
from sleep_jax.model import config as config_lib


class LayerKind(NamedTuple):
  """In what the attention of one block differs from that of others.

  Attributes:
    local: bool scalar, whether attention is limited to a window. None means
      never.
    rotated: bool scalar, whether queries and keys have rotary positions. None
      means always.
  """

  local: types.Array | None = None
  rotated: types.Array | None = None


class Attention(nn.Module):
  """Causal grouped-query attention with rotary positions."""

  config: config_lib.Model

  def setup(self):
    c = self.config
    if c.pre_norms:
      self.norm = self._make_norm()
    if c.qk_norm:
      self.query_norm, self.key_norm = self._make_norm(), self._make_norm()
    if c.post_norms:
      self.post_norm = self._make_norm()

  @nn.compact
  def _project(self, x_BTD, positions, kind):
    """Returns rotated queries and keys, values, and the output projection."""
    c, width = self.config, x_BTD.shape[-1]
    x_BTD = self.norm(x_BTD) if c.pre_norms else x_BTD

    def project_heads(name, num_heads):
      kernel = self.param(
        name, layers.matrix_init, (width, num_heads * c.head_size)
      )
      x_BTF = layers.linear(self, x_BTD, name, kernel, products=c.products)
      if c.qkv_bias:
        bias = self.param(
          f'{name}_bias', nn.initializers.zeros, (num_heads * c.head_size,)
        )
        x_BTF = x_BTF + layers.match_rank(bias, x_BTF)
      return x_BTF.reshape(*x_BTD.shape[:2], num_heads, c.head_size)

    q_BTHK = project_heads('query', c.num_heads)
    k_BTHK = project_heads('key', c.num_kv_heads)
    v_BTHK = project_heads('value', c.num_kv_heads)
    if c.qk_norm:
      q_BTHK = self._norm_heads(self.query_norm, q_BTHK)
      k_BTHK = self._norm_heads(self.key_norm, k_BTHK)
    rotation = self._rotation(positions, kind)
    q_BTHK = rope.rotate(q_BTHK, positions.index_BT, *rotation)
    k_BTHK = rope.rotate(k_BTHK, positions.index_BT, *rotation)
    out = self.param(
      'out', layers.matrix_init, (c.num_heads * c.head_size, width)
    )
    bias = None
    if c.out_bias:
      bias = self.param('out_bias', nn.initializers.zeros, (width,))
    return q_BTHK, k_BTHK, v_BTHK, (out, bias)

  def _norm_heads(self, norm, x_BTHK):
    if not self.config.qk_norm_whole:
      return norm(x_BTHK)
    x_BTF = x_BTHK.reshape(*x_BTHK.shape[:2], -1)
    return norm(x_BTF).reshape(x_BTHK.shape)

  def _rotation(self, positions, kind) -> tuple[Any, Any]:
    """Returns frequencies and magnitude of the rotary positions."""
    c = self.config
    make = lambda theta, scaling: (
      rope.frequencies(
        c.head_size, theta=theta, scaling=scaling,
        length_BT=positions.length_BT,
      ),
      rope_scaling.magnitude(scaling),
    )  # fmt: skip
    frequencies: Any
    magnitude: Any
    frequencies, magnitude = make(c.rope_theta, c.rope_scaling)
    if kind.local is not None and c.local_theta:
      ours, local_magnitude = make(c.local_theta, c.local_scaling)
      rank = max(frequencies.ndim, ours.ndim)
      expand = lambda x: x.reshape((1,) * (rank - x.ndim) + x.shape)
      frequencies = jnp.where(kind.local, expand(ours), expand(frequencies))
      if local_magnitude != magnitude:
        magnitude = jnp.where(kind.local, local_magnitude, magnitude)
    if kind.rotated is not None:
      # A rotation by 0 radians is exact.
      frequencies = jnp.where(kind.rotated, frequencies, 0.0)
      magnitude = jnp.where(kind.rotated, magnitude, 1.0)
    return frequencies, magnitude

  def __call__(self, x_BTD, mask, positions, kind):
    """Attends within whole rows.

    Args:
      x_BTD: input of the residual branch.
      mask: see `attention_kernels.prepare_mask`.
      positions: `rope.Positions`.
      kind: `LayerKind` of this block.

    Returns:
      The output of the residual branch, and the keys and values of this layer.
    """
    q_BTHK, k_BTHK, v_BTHK, out = self._project(x_BTD, positions, kind)
    y_BTHK = attention_kernels.self_attention(
      q_BTHK, k_BTHK, v_BTHK, mask, positions.index_BT, kind.local, self.config,
      self._prefix,
    )  # fmt: skip
    return self._project_out(y_BTHK, out), (k_BTHK, v_BTHK)

  def decode(self, x_BTD, mask_BTS, positions, cache, slot, kind):
    """Attends from one token per row (T = 1) to a cache `[B, G, S, K]` pair.

    The keys and values of the token are written to `slot`, the same for all
    rows, so that the write is a single slice. Slots that are unused because
    prompts differ in length are masked.
    """
    q_BTHK, k_BTHK, v_BTHK, out = self._project(x_BTD, positions, kind)
    k_BGSK, v_BGSK = (
      jax.lax.dynamic_update_slice_in_dim(
        old, new.swapaxes(1, 2).astype(old.dtype), slot, 2
      )
      for old, new in zip(cache, (k_BTHK, v_BTHK), strict=True)
    )
    # The valid slots are in the order of their tokens.
    key_positions_BS = jnp.cumsum(mask_BTS[:, 0], 1) - 1
    mask_BTS = attention_kernels.local_mask(
      mask_BTS, positions.index_BT, key_positions_BS, kind.local,
      self.config.window,
    )  # fmt: skip
    seen = k_BGSK, v_BGSK, mask_BTS
    if self._prefix is not None:
      seen = attention_kernels.with_prefix(self._prefix, *seen, axis=2)
    y_BTHK = attention_kernels.attend_cached(
      q_BTHK, *seen, scale=self.config.query_scale,
      cap=self.config.attention_cap,
    )  # fmt: skip
    return self._project_out(y_BTHK, out), (k_BGSK, v_BGSK)

  @property
  def _prefix(self) -> Any:
    """Keys and values before those of all tokens, see `model.prefix`."""
    return self.get_variable('adapter', prefix.NAME)

  def _project_out(self, y_BTHK, out):
    y_BTF = y_BTHK.reshape(*y_BTHK.shape[:2], -1)
    kernel, bias = out
    products = self.config.products
    y_BTD = layers.linear(self, y_BTF, 'out', kernel, products=products)
    if bias is not None:
      y_BTD = y_BTD + layers.match_rank(bias, y_BTD)
    return self.post_norm(y_BTD) if self.config.post_norms else y_BTD

  def _make_norm(self):
    return layers.RMSNorm(self.config.norm_eps, self.config.norm_offset)
