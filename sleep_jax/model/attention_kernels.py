"""Softmax attention kernels and the masks that they need.

Attention over whole rows has one interface and three kernels: plain XLA on any
device, splash attention on TPUs and cuDNN on GPUs. The plain kernel holds the
scores of all pairs of positions, `[B, H, T, T]`. The others never do.

Where the positions of a row are sharded over devices, each device keeps the
queries of its own positions and gathers the keys and values, which have fewer
heads. Every mask stays as it is without sharding.

References: grouped queries 2305.13245; blockwise softmax 2205.14135 (splash
attention is its TPU form with masks known at compile time); gathered keys and
values 2407.21783, section 3.3.2.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from sleep_jax import errors, types
from sleep_jax.model import config as config_lib
from sleep_jax.model import splash_attention

Array = types.Array
# Finite, so that a query with no visible key gives no NaN.
_MASKED_SCORE = -1e30


def prepare_mask(segments_BT: Array, kind: str) -> Array:
  """Returns the mask argument of `self_attention`.

  Args:
    segments_BT: as in `types.Batch`.
    kind: see `attention` in `config.Model`.

  Returns:
    The segments for splash attention, which computes its mask block by block,
    else `causal_mask`.
  """
  if resolve_kernel(kind) == 'splash':
    return segments_BT
  return causal_mask(segments_BT)


def resolve_kernel(kind: str) -> str:
  """Returns the kernel for `kind`, with 'auto' resolved for this machine."""
  if kind != 'auto':
    return kind
  kernel = {'tpu': 'splash', 'gpu': 'cudnn'}.get(jax.default_backend(), 'xla')
  # The compiler cannot partition splash attention: several devices need a mesh.
  no_mesh = jax.sharding.get_abstract_mesh().empty and jax.device_count() > 1
  return 'xla' if kernel == 'splash' and no_mesh else kernel


def self_attention(
  q_BTHK: Array,
  k_BTHK: Array,
  v_BTHK: Array,
  mask: Array,
  positions_BT: Array,
  local: Array | None,
  config: config_lib.Model,
  prefix: types.Params | None = None,
) -> Array:
  """Computes self-attention over whole rows.

  Args:
    mask: see `prepare_mask`.
    positions_BT: position of each token within its own sequence.
    local: bool scalar, whether attention is limited to a window. None means
      never.
    prefix: see `with_prefix`. The kernel is then plain XLA.

  Returns:
    Weighted values, `[B, T, H, K]`.

  Raises:
    ConfigError: cuDNN attention with positions sharded over devices.
  """
  c = config
  settings = dict(scale=config.query_scale, cap=config.attention_cap)
  kind = resolve_kernel(c.attention)
  if kind == 'splash' and prefix is None:
    return splash_attention.attend(
      q_BTHK, k_BTHK, v_BTHK, mask, local, window=c.window, **settings
    )
  mask_BTS = causal_mask(mask) if kind == 'splash' else mask
  mask_BTS = local_mask(mask_BTS, positions_BT, positions_BT, local, c.window)
  if prefix is not None:
    k_BTHK, v_BTHK, mask_BTS = with_prefix(
      prefix, k_BTHK, v_BTHK, mask_BTS, axis=1
    )
    kind = 'xla'
  # cuDNN attention supports neither a cap nor f32.
  if kind == 'cudnn' and not c.attention_cap and q_BTHK.dtype != jnp.float32:
    _check_unsharded_positions()
    return jax.nn.dot_product_attention(
      q_BTHK, k_BTHK, v_BTHK, mask=mask_BTS[:, None],
      scale=c.query_scale or None, implementation='cudnn',
    )  # fmt: skip
  return _attend_sharded(
    functools.partial(attend, **settings), q_BTHK, k_BTHK, v_BTHK, mask_BTS
  )


def _attend_sharded(attend_fn, q_BTHK, k_BTHK, v_BTHK, mask_BTT):
  """Calls `attend_fn` with queries sharded by position and gathered keys.

  Without these constraints the compiler would communicate scores where each
  query head has its own key head.
  """
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  if shards == 1 or q_BTHK.shape[1] % shards:
    return attend_fn(q_BTHK, k_BTHK, v_BTHK, mask_BTT)
  unconstrained = PartitionSpec.UNCONSTRAINED  # For rows and heads.
  constrain = lambda x, positions: jax.lax.with_sharding_constraint(
    x, PartitionSpec(unconstrained, positions, unconstrained, unconstrained)
  )
  y_BTHK = attend_fn(
    constrain(q_BTHK, 'sequence'), constrain(k_BTHK, None),
    constrain(v_BTHK, None), mask_BTT,
  )  # fmt: skip
  return constrain(y_BTHK, 'sequence')


def with_prefix(
  prefix: types.Params, k: Array, v: Array, mask_BTS: Array, *, axis: int
) -> tuple[Array, Array, Array]:
  """Puts the keys and values of a prefix before those of tokens.

  Every query sees the prefix, in layers with a window too.

  Args:
    prefix: of one layer, see `prefix.init`.
    k, v: keys and values, `[B, S, G, K]` or `[B, G, S, K]`.
    mask_BTS: bool, which keys each query attends to.
    axis: of S in `k` and `v`.
  """

  def extend(x, name):
    parts = prefix[f'past_{name}'], prefix[name]
    own = jnp.concatenate(parts).astype(x.dtype)
    own = own.reshape(len(own), x.shape[3 - axis], x.shape[3])
    own = own if axis == 1 else own.swapaxes(0, 1)
    own = jnp.broadcast_to(own[None], (len(x), *own.shape))
    return jnp.concatenate([own, x], axis)

  on_P = prefix['on'] > 0
  on_BTP = jnp.broadcast_to(on_P, (*mask_BTS.shape[:2], len(on_P)))
  mask_BTS = jnp.concatenate([on_BTP, mask_BTS], -1)
  return extend(k, 'key'), extend(v, 'value'), mask_BTS


def _check_unsharded_positions():
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  if shards > 1:
    raise errors.ConfigError(
      f'config.mesh.sequence is {shards}, but cuDNN attention does not support '
      "sharding the positions of a row: set config.model.attention='xla' or "
      'config.mesh.sequence=1.'
    )


def local_mask(mask_BTS, positions_BT, key_positions_BS, local, window: int):
  """Restricts a mask to a window where `local` is true.

  Args:
    mask_BTS: bool, queries first.
    positions_BT: positions of the queries.
    key_positions_BS: positions of the keys.
    local: bool scalar. None means that the mask is returned unchanged.
    window: number of visible tokens, including the query itself.
  """
  if local is None:
    return mask_BTS
  distance_BTS = positions_BT[:, :, None] - key_positions_BS[:, None]
  return mask_BTS & ((distance_BTS < window) | ~local)


def attend(
  q_BTHK, k_BSGK, v_BSGK, mask_BTS, *, scale: float = 0.0, cap: float = 0.0
) -> Array:
  """Computes softmax attention with plain XLA.

  Args:
    q_BTHK: queries. Equal groups of query heads share a key head.
    k_BSGK, v_BSGK: keys and values.
    mask_BTS: bool, which keys each query attends to.
    scale: factor of the queries. 0 means 1 / sqrt(K).
    cap: bound of the scores, see `soft_cap`.

  Returns:
    Weighted values, `[B, T, H, K]`.
  """
  B, T, H, K = q_BTHK.shape
  q = splash_attention.group_queries(q_BTHK, k_BSGK.shape[2], scale)
  scores = jnp.einsum(
    'btghk,bsgk->bghts', q, k_BSGK, preferred_element_type=jnp.float32
  )
  weights = _attention_weights(scores, mask_BTS[:, None, None], cap)
  weights = weights.astype(v_BSGK.dtype)
  y = jnp.einsum('bghts,bsgk->btghk', weights, v_BSGK)
  return y.reshape(B, T, H, K)


def attend_cached(
  q_BTHK, k_BGSK, v_BGSK, mask_BTS, *, scale: float = 0.0, cap: float = 0.0
) -> Array:
  """Computes `attend` for one token per row (T = 1) against a cache.

  Uses sums in place of matrix products: for matrix products a CPU transposes or
  copies every cache at every token.
  """
  G = k_BGSK.shape[1]
  q = splash_attention.group_queries(q_BTHK, G, scale)[:, 0, :, :, None]
  scores = jnp.sum(q * k_BGSK[:, :, None], -1, dtype=jnp.float32)
  weights = _attention_weights(scores, mask_BTS[:, None], cap)
  weights = weights.astype(v_BGSK.dtype)
  return jnp.sum(weights[..., None] * v_BGSK[:, :, None], 3).reshape(
    q_BTHK.shape
  )


def _attention_weights(scores, mask, cap):
  """Returns the softmax over visible keys, f32."""
  return jax.nn.softmax(
    jnp.where(mask, soft_cap(scores, cap), _MASKED_SCORE), -1
  )


def soft_cap(x: Array, cap: float) -> Array:
  """Returns `cap * tanh(x / cap)`, or `x` if `cap` is 0."""
  return cap * jnp.tanh(x / cap) if cap else x


def causal_mask(segments_BT: Array) -> Array:
  """Returns the causal mask within segments and to shared prefixes.

  A token attends to earlier tokens of its own segment and of the prefix.

  Args:
    segments_BT: as in `types.Batch`. No token attends to segment -1.

  Returns:
    bool [B, T, T], queries first.
  """
  T = segments_BT.shape[1]
  own = segments_BT[:, :, None] == segments_BT[:, None, :]
  prefix = (segments_BT == 0)[:, None, :]
  valid = (segments_BT >= 0)[:, None, :]
  causal = jnp.tril(jnp.ones((T, T), bool))[None]
  return (own | prefix) & valid & causal
