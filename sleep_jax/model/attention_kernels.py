"""Who reads what of whom: softmax attention, by whichever kernel is fastest.

One interface over whole rows: plain XLA anywhere, splash attention on a TPU,
cuDNN's on a GPU. The plain form holds scores of all pairs of places, `[B, H, T,
T]`; the others never do.

Where devices share out the places of a row, each keeps the queries of its own
and gathers keys and values, which are few: any mask is as it was.

References: grouped queries 2305.13245; blockwise softmax 2205.14135 (splash is
its form for TPUs, with masks known beforehand); gathered keys and values
2407.21783, section 3.3.2.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import splash_attention

Array = types.Array
_MASKED = -1e30  # Finite: a row that may see nothing stays free of NaN.


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
  if kind != 'auto':
    return kind
  here = {'tpu': 'splash', 'gpu': 'cudnn'}.get(jax.default_backend(), 'xla')
  # Of several devices it must know the mesh, since nobody splits it.
  nowhere = jax.sharding.get_abstract_mesh().empty and jax.device_count() > 1
  return 'xla' if here == 'splash' and nowhere else here


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
    return splash_attention.attend(
      q_BTHK, k_BTHK, v_BTHK, seen, local, window=c.window, **how
    )
  mask_BTT = near(seen, positions_BT, positions_BT, local, c.window)
  # cuDNN's knows no cap, and no f32.
  if kind == 'cudnn' and not c.attention_cap and q_BTHK.dtype != jnp.float32:
    _refuse_shared()
    return jax.nn.dot_product_attention(
      q_BTHK, k_BTHK, v_BTHK, mask=mask_BTT[:, None],
      scale=c.query_scale or None, implementation='cudnn',
    )  # fmt: skip
  return _shared(
    functools.partial(attend, **how), q_BTHK, k_BTHK, v_BTHK, mask_BTT
  )


def _shared(read, q_BTHK, k_BTHK, v_BTHK, mask_BTT):
  """`read`, by each device for the queries of its own places.

  The compiler alone sends scores, where no two heads share a key head.
  """
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  if shards == 1 or q_BTHK.shape[1] % shards:
    return read(q_BTHK, k_BTHK, v_BTHK, mask_BTT)
  as_it_is = PartitionSpec.UNCONSTRAINED  # Rows and heads.
  there = lambda x, places: jax.lax.with_sharding_constraint(
    x, PartitionSpec(as_it_is, places, as_it_is, as_it_is)
  )
  y_BTHK = read(
    there(q_BTHK, 'sequence'), there(k_BTHK, None), there(v_BTHK, None),
    mask_BTT,
  )  # fmt: skip
  return there(y_BTHK, 'sequence')


def _refuse_shared():
  shards = jax.sharding.get_abstract_mesh().shape.get('sequence', 1)
  if shards > 1:
    raise ValueError(
      f'config.mesh.sequence is {shards}, but cuDNN attention does not share '
      "out the places of a row: set config.model.attention='xla', or "
      'config.mesh.sequence=1.'
    )


def near(mask_BTS, positions_BT, places_BS, local, window: int):
  """What a local block may see of what it could."""
  if local is None:
    return mask_BTS
  away_BTS = positions_BT[:, :, None] - places_BS[:, None]
  return mask_BTS & ((away_BTS < window) | ~local)


def attend(
  q_BTHK, k_BSGK, v_BSGK, mask_BTS, *, scale: float = 0.0, cap: float = 0.0
) -> Array:
  """Softmax attention; query heads share key heads in equal groups.

  Args:
    scale: of queries; 0: 1 / sqrt(K).
    cap: of scores, see `capped`.
  """
  B, T, H, K = q_BTHK.shape
  q = splash_attention.grouped(q_BTHK, k_BSGK.shape[2], scale)
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
  q = splash_attention.grouped(q_BTHK, G, scale)[:, 0, :, :, None]
  scores = jnp.sum(q * k_BGSK[:, :, None], -1, dtype=jnp.float32)
  weights = _shares(scores, mask_BTS[:, None], cap).astype(v_BGSK.dtype)
  return jnp.sum(weights[..., None] * v_BGSK[:, :, None], 3).reshape(
    q_BTHK.shape
  )


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
