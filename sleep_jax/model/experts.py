"""The expert bank: spare low-rank capacity that sleep switches on.

Slots are allocated once and their shapes never change, so growing a model is
flipping a bit in `active_NE`, not recompiling. A masked slot adds exactly zero.
The fresh expert of a night stands outside the bank, with the same arrays less
the slot axis: nothing else is in its optimizer's reach, and no selection can
drop it while it is seeded.

An expert's unit is `u * act(u)`, with the host's act: a gated unit with a tied
gate, so that with gates fixed to 1 a bank is just more hidden units of the
host's MLP.

References: 2606.03979 section 3.2 (expansion); routing and the unit are ours.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import layers

Array = types.Array
# Slots that are computed together, or not at all.
_GROUP = 4


class ExpertBank(nn.Module):
  """`sum_e active_e g_e(x) phi(x A_e) B_e` over slots, plus the fresh one."""

  slots: int
  rank: int
  router: str
  spread: float
  top_k: int
  gate_bias: float
  act: str = 'silu'

  @nn.compact
  def __call__(
    self, x_BTD: Array, active_E: Array, fresh=None, opened_BE=None
  ) -> Array:
    """Args: x_BTD normed input; active_E this level's row, `slots` entries."""
    D = x_BTD.shape[-1]
    sizes = self.slots, D, self.rank, self.gate_bias
    bank = {
      name: self.param(name, _drawn, name, *sizes)
      for name in ('A', 'B', 'router', 'bias')
    }
    self.sow('seen', 'inputs', x_BTD)
    gates_BTE = gates(
      x_BTD, bank, active_E, router=self.router, top_k=self.top_k,
      spread=self.spread,
    )  # fmt: skip
    if opened_BE is not None:
      wide_BE = (opened_BE > 0) & (active_E > 0)[None]
      gates_BTE = jnp.where(wide_BE[:, None], 1.0, gates_BTE)
    y_BTD = _active(x_BTD, bank, gates_BTE, active_E, self.act)
    if fresh is not None:
      one = {name: leaf[None] for name, leaf in fresh.items()}
      # A lone gate also under softmax: the newcomer competes after commit.
      logits_BT1 = _logits(x_BTD, one, self.router, self.spread)
      gates_BT1 = _lone(logits_BT1, self.router)
      y_BTD = y_BTD + apply(x_BTD, one['A'], one['B'], gates_BT1, act=self.act)
    return y_BTD


def init(
  key: Array, width: int, rank: int, *, gate_bias: float
) -> types.Params:
  """One untrained expert: B = 0, so that it changes no output."""
  a_key, router_key = jax.random.split(key)
  return {
    'A': layers.matrix_init(a_key, (width, rank)),
    'B': jnp.zeros((rank, width)),
    'router': jax.random.normal(router_key, (width,)) * 0.1 * width**-0.5,
    'bias': jnp.full((), gate_bias, jnp.float32),
  }


def gates(
  x_BTD: Array,
  bank: types.Params,
  active_E: Array,
  *,
  router: str,
  top_k: int,
  spread: float,
) -> Array:
  """Gates `[B, T, E]` of a bank; see `select` and `config.Model`."""
  logits_BTE = _logits(x_BTD, bank, router, spread)
  return select(logits_BTE, active_E, router=router, top_k=top_k)


def select(
  logits_BTE: Array, active_E: Array, *, router: str, top_k: int
) -> Array:
  """Gates of the bank: exactly 0 for masked slots and for those not chosen.

  Args:
    logits_BTE: router scores of all slots.
    active_E: f32, 1 where a slot takes part.
    router: see `config.Model`.
    top_k: slots that take part per token; 0 means all active ones.
  """
  on_BTE = jnp.broadcast_to((active_E > 0)[None, None], logits_BTE.shape)
  if top_k and top_k < logits_BTE.shape[-1]:
    masked = jnp.where(on_BTE, logits_BTE, -jnp.inf)
    threshold = jax.lax.top_k(masked, top_k)[0][..., -1:]
    on_BTE = on_BTE & (masked >= threshold)
  if router == 'softmax':
    gates_BTE = jax.nn.softmax(jnp.where(on_BTE, logits_BTE, -1e30), -1)
  else:
    gates_BTE = _lone(logits_BTE, router)
  return jnp.where(on_BTE, gates_BTE, 0.0)


def apply(
  x_BTD: Array,
  A_EDR: Array,
  B_ERD: Array,
  gates_BTE: Array,
  *,
  act: str = 'silu',
) -> Array:
  """All experts as one wide hidden layer: two large products, not 2 E."""
  E, D, R = A_EDR.shape
  A_EDR, B_ERD, gates_BTE = _as(x_BTD, A_EDR, B_ERD, gates_BTE)
  u = x_BTD @ A_EDR.transpose(1, 0, 2).reshape(D, E * R)
  u = (u * layers.act(act)(u)).reshape(*x_BTD.shape[:2], E, R)
  u = (u * gates_BTE[..., None]).reshape(*x_BTD.shape[:2], E * R)
  return u @ B_ERD.reshape(E * R, D)


def _active(x_BTD, bank, gates_BTE, active_E, act):
  """`apply`, less the groups in which no slot is on: they cost nothing."""
  y_BTD = jnp.zeros_like(x_BTD)
  for start in range(0, len(active_E), _GROUP):
    of = slice(start, start + _GROUP)
    y_BTD += jax.lax.cond(
      jnp.any(active_E[of] > 0), functools.partial(apply, act=act),
      lambda x, *_: jnp.zeros_like(x),
      x_BTD, bank['A'][of], bank['B'][of], gates_BTE[..., of],
    )  # fmt: skip
  return y_BTD


def outputs(
  x_BTD: Array,
  A_EDR: Array,
  B_ERD: Array,
  gates_BTE: Array,
  *,
  act: str = 'silu',
) -> Array:
  """What each expert adds, `[B, T, E, D]`; their sum is `apply`."""
  A_EDR, B_ERD, gates_BTE = _as(x_BTD, A_EDR, B_ERD, gates_BTE)
  u = jnp.einsum('btd,edr->bter', x_BTD, A_EDR)
  u = u * layers.act(act)(u) * gates_BTE[..., None]
  return jnp.einsum('bter,erd->bted', u, B_ERD)


def _as(x, *others):
  """What is computed with x is of its type; gates are reckoned in f32."""
  return tuple(other.astype(x.dtype) for other in others)


def _logits(x_BTD, bank, router, spread):
  """Scores of all slots, f32; of a centroid, minus half a squared distance."""
  x_BTD = x_BTD.astype(jnp.float32)
  if router != 'centroid':
    return x_BTD @ bank['router'].T + bank['bias'][None, None]
  centre_ED = jax.lax.stop_gradient(bank['router'])
  size = lambda x: jnp.sum(jnp.square(x), -1)
  away_BTE = size(x_BTD)[..., None] + size(centre_ED)[None, None]
  away_BTE = jnp.maximum(away_BTE - 2 * x_BTD @ centre_ED.T, 0)
  return -away_BTE / (2 * spread**2 * x_BTD.shape[-1])


def _lone(logits, router):
  """The gate of an expert that does not compete."""
  if router == 'always':
    return jnp.ones_like(logits)
  return jnp.exp(logits) if router == 'centroid' else jax.nn.sigmoid(logits)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _drawn(key, name, slots, width, rank, gate_bias):
  """One array of a bank; jitted for the reason that `matrix_init` is."""
  draw = lambda key: init(key, width, rank, gate_bias=gate_bias)[name]
  return jax.vmap(draw)(jax.random.split(key, slots))
