"""Low-rank expert bank: pre-allocated capacity that a night activates.

Slots are allocated once and their shapes never change, so growing a model sets
a bit in `active_NE` and does not recompile. An inactive slot adds exactly zero.
The fresh expert of a night is kept outside the bank, with the same arrays
without the slot axis. The optimizer reaches nothing else, and top-k selection
cannot drop the expert while it is seeded.

The unit of an expert is `u * act(u)` with the activation of the base model: a
gated unit whose gate and up projections are the same. With
`config.Model.gated_experts` the up projection U is an array of its own, as in
the MLP of a level. With gates fixed to 1 a bank is in both cases equivalent to
additional hidden units of the MLP.

References: 2606.03979 section 3.2 (expansion). The paper specifies neither the
routing nor the unit.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import layers

Array = types.Array
# Slots are computed in groups of this size. A group without active slots is
# skipped.
_GROUP_SIZE = 4


def array_names(gated: bool) -> tuple[str, ...]:
  """Returns the names of the arrays of an expert."""
  return ('A', *('U',) * gated, 'B', 'router', 'bias')


class ExpertBank(nn.Module):
  """`sum_e active_e g_e(x) phi(x A_e) B_e` over slots, plus the fresh expert.

  Attributes:
    slots: number of experts in the bank.
    rank: hidden size of one expert.
    router, top_k, gate_bias, act: see `config.Model`.
    gated: `gated_experts` of `config.Model`.
    products: see `layers.product`.
  """

  slots: int
  rank: int
  router: str
  top_k: int
  gate_bias: float
  act: str = 'silu'
  gated: bool = False
  products: str = layers.FLOAT32

  @nn.compact
  def __call__(
    self, x_BTD: Array, active_E: Array, fresh=None, opened_BE=None
  ) -> Array:
    """Computes what the experts add.

    Args:
      x_BTD: normed input.
      active_E: f32, 1 where a slot of this level is active.
      fresh: arrays of the fresh expert, or None.
      opened_BE: 1 where the gate of an active expert is forced to 1.
    """
    D = x_BTD.shape[-1]
    sizes = self.slots, D, self.rank, self.gate_bias, self.gated
    bank = {
      name: self.param(name, _init_slots, name, *sizes)
      for name in array_names(self.gated)
    }
    self.sow('recorded', 'inputs', x_BTD)
    gates_BTE = gates(
      x_BTD, bank, active_E, router=self.router, top_k=self.top_k
    )
    if opened_BE is not None:
      open_BE = (opened_BE > 0) & (active_E > 0)[None]
      gates_BTE = jnp.where(open_BE[:, None], 1.0, gates_BTE)
    how = dict(act=self.act, products=self.products)
    y_BTD = _apply_active(x_BTD, bank, gates_BTE, active_E, **how)
    if fresh is not None:
      one = {name: leaf[None] for name, leaf in fresh.items()}
      # Its gate is independent, also under softmax, until it is committed.
      logits_BT1 = _router_logits(x_BTD, one)
      gates_BT1 = _independent_gates(logits_BT1, self.router)
      y_BTD = y_BTD + apply(x_BTD, one, gates_BT1, **how)
    return y_BTD


def init(
  key: Array, width: int, rank: int, *, gate_bias: float, gated: bool = False
) -> types.Params:
  """Returns an untrained expert. B is 0, so that it changes no output."""
  a_key, router_key = jax.random.split(key)
  up = {}
  if gated:
    up_key = jax.random.fold_in(a_key, 1)
    up = {'U': layers.matrix_init(up_key, (width, rank))}
  return {
    'A': layers.matrix_init(a_key, (width, rank)),
    **up,
    'B': jnp.zeros((rank, width)),
    'router': jax.random.normal(router_key, (width,)) * 0.1 * width**-0.5,
    'bias': jnp.full((), gate_bias, jnp.float32),
  }


def gates(
  x_BTD: Array, bank: types.Params, active_E: Array, *, router: str, top_k: int
) -> Array:
  """Returns the gates of a bank, `[B, T, E]`.

  Args:
    x_BTD: normed input.
    bank: arrays by name, with a leading slot axis.
    active_E: f32, 1 where a slot is active.
    router, top_k: see `select`.
  """
  logits_BTE = _router_logits(x_BTD, bank)
  return select(logits_BTE, active_E, router=router, top_k=top_k)


def select(
  logits_BTE: Array, active_E: Array, *, router: str, top_k: int
) -> Array:
  """Returns gates that are exactly 0 for inactive and unselected slots.

  Args:
    logits_BTE: router scores of all slots.
    active_E: f32, 1 where a slot is active.
    router: see `config.Model`.
    top_k: number of slots used per token. 0 means all active ones.
  """
  on_BTE = jnp.broadcast_to((active_E > 0)[None, None], logits_BTE.shape)
  if top_k and top_k < logits_BTE.shape[-1]:
    masked = jnp.where(on_BTE, logits_BTE, -jnp.inf)
    threshold = jax.lax.top_k(masked, top_k)[0][..., -1:]
    on_BTE = on_BTE & (masked >= threshold)
  if router == 'softmax':
    gates_BTE = jax.nn.softmax(jnp.where(on_BTE, logits_BTE, -1e30), -1)
  else:
    gates_BTE = _independent_gates(logits_BTE, router)
  return jnp.where(on_BTE, gates_BTE, 0.0)


def apply(
  x_BTD: Array,
  bank: types.Params,
  gates_BTE: Array,
  *,
  act: str = 'silu',
  products: str = layers.FLOAT32,
) -> Array:
  """Returns the gated sum of all experts, `[B, T, D]`.

  All experts form one wide hidden layer: a few large matrix products in place
  of E times as many small ones.

  Args:
    x_BTD: normed input.
    bank: arrays by name, with a leading slot axis.
    gates_BTE: see `gates`.
    act: activation.
    products: see `layers.product`.
  """
  E, D, R = bank['A'].shape
  product = functools.partial(layers.product, products=products)
  wide = lambda x_EDR: x_EDR.transpose(1, 0, 2).reshape(D, E * R)
  gate = product(x_BTD, wide(bank['A']))
  up = product(x_BTD, wide(bank['U'])) if 'U' in bank else gate
  u = (up * layers.activation(act)(gate)).reshape(*x_BTD.shape[:2], E, R)
  u = u * gates_BTE.astype(x_BTD.dtype)[..., None]
  u = u.reshape(*x_BTD.shape[:2], E * R)
  return product(u, bank['B'].reshape(E * R, D))


def _apply_active(x_BTD, bank, gates_BTE, active_E, **how):
  """Computes `apply`, but skips groups of slots in which none is active."""
  y_BTD = jnp.zeros_like(x_BTD)
  for start in range(0, len(active_E), _GROUP_SIZE):
    group = slice(start, start + _GROUP_SIZE)
    y_BTD += jax.lax.cond(
      jnp.any(active_E[group] > 0), functools.partial(apply, **how),
      lambda x, *_: jnp.zeros_like(x),
      x_BTD, {n: bank[n][group] for n in bank if n in 'AUB'},
      gates_BTE[..., group],
    )  # fmt: skip
  return y_BTD


def outputs(
  x_BTD: Array, bank: types.Params, gates_BTE: Array, *, act: str = 'silu'
) -> Array:
  """Returns the gated output of each expert, `[B, T, E, D]`.

  Their sum over experts is `apply`, which describes the arguments.
  """
  bank = {n: bank[n].astype(x_BTD.dtype) for n in bank if n in 'AUB'}
  read = lambda x_EDR: jnp.einsum('btd,edr->bter', x_BTD, x_EDR)
  gate = read(bank['A'])
  up = read(bank['U']) if 'U' in bank else gate
  u = up * layers.activation(act)(gate)
  u = u * gates_BTE.astype(x_BTD.dtype)[..., None]
  return jnp.einsum('bter,erd->bted', u, bank['B'])


def map_outputs(
  x_LBTD: Array,
  bank: types.Params,
  active_E: Array,
  reduce: Callable[[Array, Array], Any],
  *,
  router: str,
  top_k: int,
  act: str,
) -> Any:
  """Reduces the output of each expert, block by block.

  Args:
    x_LBTD: normed inputs of the blocks of a level.
    bank: arrays by name, `[L, E, ...]`.
    active_E: f32, 1 where a slot is active.
    reduce: (gates `[B, T, E]`, gated outputs `[B, T, E, D]`) -> arrays to keep
      of a block. The outputs of all blocks would be too large.
    router, top_k, act: see `config.Model`.

  Returns:
    The results of `reduce`, stacked over blocks.
  """

  def reduce_block(inputs):
    x_BTD, one = inputs
    gates_BTE = gates(x_BTD, one, active_E, router=router, top_k=top_k)
    outputs_BTED = outputs(x_BTD, one, gates_BTE, act=act)
    return reduce(gates_BTE, outputs_BTED)

  return jax.lax.map(reduce_block, (x_LBTD, bank))


def _router_logits(x_BTD, bank):
  """Returns router scores of all slots, f32."""
  logits_BTE = x_BTD.astype(jnp.float32) @ bank['router'].T
  return logits_BTE + bank['bias'][None, None]


def _independent_gates(logits, router):
  """Returns gates of experts that do not compete."""
  return jnp.ones_like(logits) if router == 'always' else jax.nn.sigmoid(logits)


# Jitted because flax traces the initializer wherever a parameter is used.
@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5, 6))
def _init_slots(key, name, slots, width, rank, gate_bias, gated):
  """Returns one array of a bank, with an untrained expert in each slot."""
  init_array = lambda key: init(
    key, width, rank, gate_bias=gate_bias, gated=gated
  )[name]
  return jax.vmap(init_array)(jax.random.split(key, slots))


def set_expert(
  weights: types.Weights, level: int, slot: Array, expert: types.Params
) -> types.Params:
  """Returns a level's bank with one slot overwritten by an expert."""
  prefix = f'blocks/levels/{level}/experts/'
  return {
    prefix + name: weights.params[prefix + name].at[:, slot].set(leaf)
    for name, leaf in expert.items()
  }


def init_bank(config: config_lib.Model, level: int, key: Array) -> types.Params:
  """Returns a level's bank as freshly initialised; empty without slots.

  Args:
    config: of the model.
    level: number of the level.
    key: consumed.
  """
  c, own = config, config.levels[level - 1]
  if not own.slots:
    return {}
  keys = jax.random.split(key, (c.num_layers_of(level), own.slots))
  draw = lambda k: init(
    k, c.width, own.rank, gate_bias=c.gate_bias, gated=c.gated_experts
  )
  bank = jax.vmap(jax.vmap(draw))(keys)
  prefix = f'blocks/levels/{level}/experts/'
  return {prefix + name: leaf for name, leaf in bank.items()}


def base_of_level(params: types.Params, level: int) -> types.Params:
  """Returns a level's base: its MLP and, in a chain, its norm."""
  prefix = f'blocks/levels/{level}/base/'
  return {p: leaf for p, leaf in params.items() if p.startswith(prefix)}
