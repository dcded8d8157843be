"""Splash attention: blockwise softmax attention in the on-chip memory of a TPU.

The compiler cannot partition the kernel, so each device runs it on its own
rows, heads and, where positions are sharded, positions. Later queries of a
causal row attend to more keys than earlier ones, and the kernel skips blocks
without visible keys. To balance the work, each device takes one part of the
first half of a row and the mirrored part of the second half.

References: 2205.14135, with masks known at compile time; mirrored parts,
2407.21783, section 3.3.2.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sleep_jax import types

Array = types.Array
# Lanes of a TPU: parts of rows and heads are padded to multiples of this.
_LANES = 128
_PAD_SEGMENT = -2  # A segment that no token of a batch has.


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
  """Computes `attention_kernels.attend`, causal and within segments.

  Padding attends to padding. Prefixes that all segments attend to are not
  supported.

  Args:
    local: bool scalar, whether attention is limited to a window. None means
      never.
    window: number of tokens that a local block attends to. 0 means no local
      blocks.
    scale, cap: see `attention_kernels.attend`.
  """
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  q_BTGRK = group_queries(q_BTHK, k_BTHK.shape[2], scale)
  # The kernel takes heads first; query heads of one key head are neighbours.
  q, k, v = (
    _pad_axes(x, {-1: _LANES, -2: shards * _LANES})
    for x in (
      q_BTGRK.transpose(0, 2, 3, 1, 4),
      k_BTHK.swapaxes(1, 2),
      v_BTHK.swapaxes(1, 2),
    )
  )
  segments_BT = _pad_axes(segments_BT, {-1: shards * _LANES}, fill=_PAD_SEGMENT)
  R, T = q.shape[2:4]
  splash_lib = _library()
  masks = [splash_lib.CausalMask((T, T))]
  if window:
    masks.append(splash_lib.LocalMask((T, T), (window - 1, 0), 0))
  kernels = tuple(_make_kernel(mask, R, shards, cap) for mask in masks)
  local = jnp.zeros((), bool) if local is None else local
  y = _run_on_mesh(kernels, local, q, k, v, segments_BT)
  T, K = q_BTHK.shape[1], q_BTHK.shape[3]
  return y.transpose(0, 3, 1, 2, 4)[:, :T, ..., :K].reshape(q_BTHK.shape)


def _library():
  """Imports the kernels; a CPU or GPU saves 5 MB and a tenth of a second."""
  from jax.experimental.pallas.ops.tpu import splash_attention

  return splash_attention


def group_queries(q_BTHK: Array, G: int, scale: float) -> Array:
  """Scales queries and groups them by their key head, `[B, T, G, R, K]`."""
  B, T, H, K = q_BTHK.shape
  q = q_BTHK.reshape(B, T, G, H // G, K)
  return q * jnp.asarray(scale or K**-0.5, q_BTHK.dtype)


def _make_kernel(mask, num_heads, shards, cap):
  """Makes a kernel whose mask has its rows in the order of `_exchange`."""
  parts = mask.q_sequence.reshape(2 * shards, -1)
  mask.q_sequence = np.concatenate([
    parts[part]
    for device in range(shards)
    for part in sorted((device, _mirror(device, shards)), key=_parity)
  ])  # fmt: skip
  splash_lib = _library()
  return splash_lib.make_splash_mqa(
    splash_lib.MultiHeadMask([mask] * num_heads), head_shards=1,
    q_seq_shards=shards, attn_logits_soft_cap=cap or None,
  )  # fmt: skip


def _run_on_mesh(kernels, local, q, k, v, segments_BT):
  """Calls `_run_kernel` on each device for its rows, heads and positions."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _run_kernel(kernels, local, q, k, v, segments_BT, segments_BT)
  shards = mesh.shape['sequence']
  gather = functools.partial(
    jax.lax.all_gather, axis_name='sequence', tiled=True
  )

  def run_shard(kernels, local, q, k, v, segments_BT):
    if shards == 1:
      return _run_kernel(kernels, local, q, k, v, segments_BT, segments_BT)
    y = _run_kernel(
      kernels, local, _exchange(q, 3, shards), gather(k, axis=2),
      gather(v, axis=2), _exchange(segments_BT, 1, shards),
      gather(segments_BT, axis=1),
    )  # fmt: skip
    return _exchange(y, 3, shards, inverse=True)

  rows, heads = ('data', 'fsdp'), 'tensor'
  if q.shape[0] % (mesh.shape['data'] * mesh.shape['fsdp']):
    rows = None
  if q.shape[1] % mesh.shape['tensor']:
    heads = None
  by_part = NamedSharding(mesh, PartitionSpec(None, 'sequence'))
  queries = PartitionSpec(rows, heads, None, 'sequence')
  keys = PartitionSpec(rows, heads, 'sequence')
  return jax.shard_map(
    run_shard, mesh=mesh, out_specs=queries, check_vma=False,
    in_specs=(
      tuple(kernel.manual_sharding_spec(by_part) for kernel in kernels),
      PartitionSpec(), queries, keys, keys, PartitionSpec(rows, 'sequence'),
    ),
  )(kernels, local, q, k, v, segments_BT)  # fmt: skip


def _run_kernel(kernels, local, q, k, v, segments_BT, key_segments_BS):
  """Maps the global or the local kernel over rows and key heads."""

  def map_kernel(kernel, *args):
    def map_heads(q_GRTK, k_GSK, v_GSK, segments_T, key_segments_S):
      ids = _library().SegmentIds(segments_T, key_segments_S)
      return jax.vmap(functools.partial(kernel, segment_ids=ids))(
        q_GRTK, k_GSK, v_GSK
      )

    return jax.vmap(map_heads)(*args)

  def interpret(kernel, *args):
    infos, settings = kernel.tree_flatten()
    interpreted = type(kernel).tree_unflatten(
      settings | {'interpret': True}, infos
    )
    return map_kernel(interpreted, *args)

  def run(kernel, *args):
    return jax.lax.platform_dependent(
      kernel, *args, tpu=map_kernel, default=interpret
    )

  args = q, k, v, segments_BT, key_segments_BS
  run_global, *run_local = (
    functools.partial(run, kernel) for kernel in kernels
  )
  if not run_local:
    return run_global(*args)
  return jax.lax.cond(local, run_local[0], run_global, *args)


def _exchange(x, axis, shards, *, inverse=False):
  """Moves the parts of a row so that each device has a part and its mirror.

  A row has `2 shards` parts. Before the exchange device `i` has the parts `2 i`
  and `2 i + 1`. Of a part and its mirror one is even and one is odd, so the
  even parts are a permutation of the devices, and so are the odd parts.

  Args:
    inverse: moves the parts back.
  """

  def owner(part):
    return min(part, _mirror(part, shards))

  def send(half, odd):
    pairs = [(i, owner(2 * i + odd)) for i in range(shards)]
    if inverse:
      pairs = [(target, source) for source, target in pairs]
    return jax.lax.ppermute(half, 'sequence', pairs)

  halves = jnp.split(x, 2, axis)
  return jnp.concatenate(
    [send(half, odd) for odd, half in enumerate(halves)], axis
  )


def _mirror(part, shards):
  return 2 * shards - 1 - part


def _parity(part):
  return part % 2


def _pad_axes(x, multiples, fill=0):
  """Pads axes to multiples.

  Args:
    multiples: axis, counted from the last, -> number that divides its size.
    fill: value of the padding.
  """
  pads = [
    (0, -size % multiples.get(axis - x.ndim, 1))
    for axis, size in enumerate(x.shape)
  ]
  return jnp.pad(x, pads, constant_values=fill)
