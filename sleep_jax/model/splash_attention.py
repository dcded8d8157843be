"""Splash attention: softmax attention in blocks that stay on a TPU's chip.

A kernel that the compiler cannot split, so each device runs it for its own
rows, heads and, where rows are shared out, places. A causal row asks more of
its later places than of its earlier ones, and blocks that see nothing are
skipped; so that no device waits for the last, each takes a part of a row's
first half and the part that mirrors it in the second.

References: 2205.14135, with masks known beforehand; mirrored parts, 2407.21783,
section 3.3.2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash_lib
from jax.sharding import NamedSharding, PartitionSpec

from sleep_jax import types

Array = types.Array
_LANES = 128  # Of a TPU: parts of rows, and heads, are padded to so many.
_NOBODY = -2  # A segment that no row has.


def attend(
  q_BTHK: Array,
  k_BTHK: Array,
  v_BTHK: Array,
  segments_BT: Array,
  local: Array | None,
  *,
  window: int,
  scale: float = 0.0,
  cap: float = 0.0,
) -> Array:
  """`attention.attend`, causal and within segments.

  Padding sees padding. Prefixes that all segments see are not known here.

  Args:
    local: bool scalar, whether only a window is seen; None: never.
    window: tokens that a local block sees.
  """
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  q_BTGRK = grouped(q_BTHK, k_BTHK.shape[2], scale)
  # Heads of one key head are neighbours; places are the axis that is blocked.
  q, k, v = (
    _padded(x, {-1: _LANES, -2: shards * _LANES})
    for x in (
      q_BTGRK.transpose(0, 2, 3, 1, 4), k_BTHK.swapaxes(1, 2),
      v_BTHK.swapaxes(1, 2),
    )
  )  # fmt: skip
  segments_BT = _padded(segments_BT, {-1: shards * _LANES}, fill=_NOBODY)
  R, T = q.shape[2:4]
  masks = [splash_lib.CausalMask((T, T))]
  if window:
    masks.append(splash_lib.LocalMask((T, T), (window - 1, 0), 0))
  kernels = tuple(_kernel(mask, R, shards, cap) for mask in masks)
  local = jnp.zeros((), bool) if local is None else local
  y = _on_mesh(kernels, local, q, k, v, segments_BT)
  T, K = q_BTHK.shape[1], q_BTHK.shape[3]
  return y.transpose(0, 3, 1, 2, 4)[:, :T, ..., :K].reshape(q_BTHK.shape)


def grouped(q_BTHK: Array, G: int, scale: float) -> Array:
  """Scaled queries by the key head they share, `[B, T, G, R, K]`."""
  B, T, H, K = q_BTHK.shape
  q = q_BTHK.reshape(B, T, G, H // G, K)
  return q * jnp.asarray(scale or K**-0.5, q_BTHK.dtype)


def _kernel(mask, num_heads, shards, cap):
  """One whose mask's rows lie as `_dealt` lays the queries."""
  parts = mask.q_sequence.reshape(2 * shards, -1)
  mask.q_sequence = np.concatenate([
    parts[part]
    for device in range(shards)
    for part in sorted((device, _mirrored(device, shards)), key=_odd)
  ])  # fmt: skip
  return splash_lib.make_splash_mqa(
    splash_lib.MultiHeadMask([mask] * num_heads), head_shards=1,
    q_seq_shards=shards, attn_logits_soft_cap=cap or None,
  )  # fmt: skip


def _on_mesh(kernels, local, q, k, v, segments_BT):
  """`_read`, by each device for its own rows, heads and places."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _read(kernels, local, q, k, v, segments_BT, segments_BT)
  shards = mesh.shape['sequence']
  gather = functools.partial(
    jax.lax.all_gather, axis_name='sequence', tiled=True
  )

  def own(kernels, local, q, k, v, segments_BT):
    if shards == 1:
      return _read(kernels, local, q, k, v, segments_BT, segments_BT)
    y = _read(
      kernels, local, _dealt(q, 3, shards), gather(k, axis=2),
      gather(v, axis=2), _dealt(segments_BT, 1, shards),
      gather(segments_BT, axis=1),
    )  # fmt: skip
    return _dealt(y, 3, shards, back=True)

  rows, heads = ('data', 'fsdp'), 'tensor'
  if q.shape[0] % (mesh.shape['data'] * mesh.shape['fsdp']):
    rows = None
  if q.shape[1] % mesh.shape['tensor']:
    heads = None
  by_part = NamedSharding(mesh, PartitionSpec(None, 'sequence'))
  queries = PartitionSpec(rows, heads, None, 'sequence')
  keys = PartitionSpec(rows, heads, 'sequence')
  return jax.shard_map(
    own, mesh=mesh, out_specs=queries, check_vma=False,
    in_specs=(
      tuple(kernel.manual_sharding_spec(by_part) for kernel in kernels),
      PartitionSpec(), queries, keys, keys, PartitionSpec(rows, 'sequence'),
    ),
  )(kernels, local, q, k, v, segments_BT)  # fmt: skip


def _read(kernels, local, q, k, v, segments_BT, keys_BS):
  """Each row and key head by itself, by the kernel that is asked for."""

  def by(kernel, *args):
    def heads(q_GRTK, k_GSK, v_GSK, segments_T, keys_S):
      ids = splash_lib.SegmentIds(segments_T, keys_S)
      return jax.vmap(functools.partial(kernel, segment_ids=ids))(
        q_GRTK, k_GSK, v_GSK
      )

    return jax.vmap(heads)(*args)

  def anywhere(kernel, *args):
    infos, how = kernel.tree_flatten()
    return by(type(kernel).tree_unflatten(how | {'interpret': True}, infos),
              *args)  # fmt: skip

  def read(kernel, *args):
    return jax.lax.platform_dependent(kernel, *args, tpu=by, default=anywhere)

  args = q, k, v, segments_BT, keys_BS
  far, *near = (functools.partial(read, kernel) for kernel in kernels)
  return jax.lax.cond(local, near[0], far, *args) if near else far(*args)


def _dealt(x, axis, shards, *, back=False):
  """Of a row in `2 shards` parts, two to a device, one and its mirror.

  It comes with the parts `2 i` and `2 i + 1` on device `i`. Of a part and its
  mirror one is even, so that all even parts are a permutation of the devices,
  and all odd ones.
  """

  def owner(part):
    return min(part, _mirrored(part, shards))

  def sent(half, odd):
    pairs = [(i, owner(2 * i + odd)) for i in range(shards)]
    if back:
      pairs = [(there, here) for here, there in pairs]
    return jax.lax.ppermute(half, 'sequence', pairs)

  halves = jnp.split(x, 2, axis)
  return jnp.concatenate(
    [sent(half, odd) for odd, half in enumerate(halves)], axis
  )


def _mirrored(part, shards):
  return 2 * shards - 1 - part


def _odd(part):
  return part % 2


def _padded(x, room, fill=0):
  """With axes, counted from the last, that are multiples of their room."""
  pads = [
    (0, -size % room.get(axis - x.ndim, 1)) for axis, size in enumerate(x.shape)
  ]
  return jnp.pad(x, pads, constant_values=fill)
