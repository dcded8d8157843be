"""Who reads what of whom: softmax attention, by whichever kernel is fastest.

One interface over whole rows: plain XLA anywhere, splash attention on a TPU,
cuDNN's on a GPU. The plain form holds scores of all pairs of places, `[B, H, T,
T]`; the others never do.

References: grouped queries 2305.13245; blockwise softmax 2205.14135 (splash is
its form for TPUs, with masks known beforehand).
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash_lib
from jax.sharding import PartitionSpec

from sleep_jax import types
from sleep_jax.model import config as config_lib

Array = types.Array
_MASKED = -1e30  # Finite: a row that may see nothing stays free of NaN.
_LANES = 128  # Of a TPU: rows and heads are padded to so many.
_NOBODY = -2  # A segment that no row has.


def seen(segments_BT: Array, kind: str) -> Array:
  """What `whole` wants to know of who may see whom.

  Args:
    kind: see `config.Model.attention`.

  Returns:
    As `visible`; or for splash, which masks block by block, segments.
  """
  return segments_BT if by(kind) == 'splash' else visible(segments_BT)


def by(kind: str) -> str:
  """The kernel that 'auto' means here."""
  here = {'tpu': 'splash', 'gpu': 'cudnn'}.get(jax.default_backend(), 'xla')
  return here if kind == 'auto' else kind


def whole(
  q_BTHK: Array,
  k_BTHK: Array,
  v_BTHK: Array,
  seen: Array,
  positions_BT: Array,
  local: Array | None,
  config: config_lib.Model,
) -> Array:
  """Attention of whole rows to themselves, `[B, T, H, K]`.

  Args:
    seen: see above.
    local: bool scalar, whether only a window is seen; None: never.
  """
  c, how = config, dict(scale=config.query_scale, cap=config.attention_cap)
  kind = by(c.attention)
  if kind == 'splash':
    return splash(q_BTHK, k_BTHK, v_BTHK, seen, local, window=c.window, **how)
  mask_BTT = near(seen, positions_BT, positions_BT, local, c.window)
  # cuDNN's knows no cap, and no f32.
  if kind == 'cudnn' and not c.attention_cap and q_BTHK.dtype != jnp.float32:
    return jax.nn.dot_product_attention(
      q_BTHK, k_BTHK, v_BTHK, mask=mask_BTT[:, None],
      scale=c.query_scale or None, implementation='cudnn',
    )  # fmt: skip
  return attend(q_BTHK, k_BTHK, v_BTHK, mask_BTT, **how)


def near(mask_BTS, positions_BT, places_BS, local, window: int):
  """What a local block may see of what it could."""
  if local is None:
    return mask_BTS
  away_BTS = positions_BT[:, :, None] - places_BS[:, None]
  return mask_BTS & ((away_BTS < window) | ~local)


def splash(
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
  """`attend`, causal and within segments, in blocks that stay on the chip.

  Padding sees padding. Prefixes that all segments see are not known here.

  Args:
    window: tokens that a local block sees.
  """
  q_BTGRK = _grouped(q_BTHK, k_BTHK.shape[2], scale)
  # Heads of one key head are neighbours; places are the axis that is blocked.
  q, k, v = (
    _padded(q_BTGRK.transpose(0, 2, 3, 1, 4), -1, -2),
    _padded(k_BTHK.swapaxes(1, 2), -1, -2),
    _padded(v_BTHK.swapaxes(1, 2), -1, -2),
  )
  segments_BT = _padded(segments_BT, -1, fill=_NOBODY)
  R, T = q.shape[2:4]

  def all_rows(kernel, q, k, v, segments_BT):
    def heads(q_GRTK, k_GTK, v_GTK, segments_T):
      ids = splash_lib.SegmentIds(segments_T, segments_T)
      return jax.vmap(functools.partial(kernel, segment_ids=ids))(
        q_GRTK, k_GTK, v_GTK
      )

    return jax.vmap(heads)(q, k, v, segments_BT)

  def reads(mask, *args):
    mask = splash_lib.MultiHeadMask([mask] * R)
    make = lambda **how: functools.partial(
      all_rows,
      splash_lib.make_splash_mqa_single_device(
        mask, attn_logits_soft_cap=cap or None, **how
      ),
    )
    return jax.lax.platform_dependent(
      *args, tpu=make(), default=make(interpret=True)
    )

  def read(q, k, v, segments_BT, local):
    args = q, k, v, segments_BT
    far = functools.partial(reads, splash_lib.CausalMask((T, T)))
    if not window:
      return far(*args)
    window_mask = splash_lib.LocalMask((T, T), (window - 1, 0), 0)
    return jax.lax.cond(
      local, functools.partial(reads, window_mask), far, *args
    )

  local = jnp.zeros((), bool) if local is None else local
  y = _on_mesh(read, q, k, v, segments_BT, local)
  T, K = q_BTHK.shape[1], q_BTHK.shape[3]
  return y.transpose(0, 3, 1, 2, 4)[:, :T, ..., :K].reshape(q_BTHK.shape)


def _on_mesh(read, q, k, v, segments_BT, local):
  """`read`, by each device for its own rows and heads: no kernel is split."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return read(q, k, v, segments_BT, local)
  rows, heads = ('data', 'fsdp'), 'tensor'
  if q.shape[0] % (mesh.shape['data'] * mesh.shape['fsdp']):
    rows = None
  if q.shape[1] % mesh.shape['tensor']:
    heads = None
  by_head = PartitionSpec(rows, heads)
  return jax.shard_map(
    read, mesh=mesh, out_specs=by_head, check_vma=False,
    in_specs=(by_head, by_head, by_head, PartitionSpec(rows), PartitionSpec()),
  )(q, k, v, segments_BT, local)  # fmt: skip


def _padded(x, *axes, fill=0):
  at = [axis % x.ndim for axis in axes]
  room = [(0, -x.shape[a] % _LANES * (a in at)) for a in range(x.ndim)]
  return jnp.pad(x, room, constant_values=fill)


def attend(
  q_BTHK, k_BSGK, v_BSGK, mask_BTS, *, scale: float = 0.0, cap: float = 0.0
) -> Array:
  """Softmax attention; query heads share key heads in equal groups.

  Args:
    scale: of queries; 0: 1 / sqrt(K).
    cap: of scores, see `capped`.
  """
  B, T, H, K = q_BTHK.shape
  q = _grouped(q_BTHK, k_BSGK.shape[2], scale)
  scores = jnp.einsum(
    'btghk,bsgk->bghts', q, k_BSGK, preferred_element_type=jnp.float32
  )
  weights = _shares(scores, mask_BTS[:, None, None], cap).astype(v_BSGK.dtype)
  y = jnp.einsum('bghts,bsgk->btghk', weights, v_BSGK)
  return y.reshape(B, T, H, K)


def attend_cached(
  q_BTHK, k_BGSK, v_BGSK, mask_BTS, *, scale: float = 0.0, cap: float = 0.0
) -> Array:
  """`attend` of one token per row (T = 1) to a cache.

  Sums, not products of matrices: for those a CPU turns or copies every cache
  at every token.
  """
  G = k_BGSK.shape[1]
  q = _grouped(q_BTHK, G, scale)[:, 0, :, :, None]
  scores = jnp.sum(q * k_BGSK[:, :, None], -1, dtype=jnp.float32)
  weights = _shares(scores, mask_BTS[:, None], cap).astype(v_BGSK.dtype)
  return jnp.sum(weights[..., None] * v_BGSK[:, :, None], 3).reshape(
    q_BTHK.shape
  )


def _grouped(q_BTHK, G, scale):
  B, T, H, K = q_BTHK.shape
  q = q_BTHK.reshape(B, T, G, H // G, K)
  return q * jnp.asarray(scale or K**-0.5, q_BTHK.dtype)


def _shares(scores, mask, cap):
  """How much of each place is read, f32."""
  return jax.nn.softmax(jnp.where(mask, capped(scores, cap), _MASKED), -1)


def capped(x: Array, cap: float) -> Array:
  """Values that near `cap` and never reach it; 0: as they are."""
  return cap * jnp.tanh(x / cap) if cap else x


def visible(segments_BT: Array) -> Array:
  """Who may see whom: earlier tokens of one's own segment or the prefix.

  Args:
    segments_BT: as in `types.Batch`; -1 is seen by nobody.

  Returns:
    bool [B, T, T], queries first.
  """
  T = segments_BT.shape[1]
  own = segments_BT[:, :, None] == segments_BT[:, None, :]
  prefix = (segments_BT == 0)[:, None, :]
  valid = (segments_BT >= 0)[:, None, :]
  causal = jnp.tril(jnp.ones((T, T), bool))[None]
  return (own | prefix) & valid & causal
