"""The network: embeddings, a scanned stack of blocks, a head.

Modules are used as pure functions of `Weights`. Training scans over stacked
layers, so that a program's size does not grow with depth; decoding unrolls
them over a tuple of per-layer caches, which is twice as fast on a CPU.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from sleep_jax import types
from sleep_jax.model import attention_kernels, blocks, experts, layers
from sleep_jax.model import config as config_lib

Array = types.Array
# Per layer: keys, values [B, G, S, K]; where layers are looped over, per run of
# like layers, [L, B, G, S, K].
Cache = tuple[tuple[Array, Array], ...]


@dataclasses.dataclass(frozen=True)
class Transformer:
  """A model as functions of its weights.

  Attributes:
    place: (name, array) -> the array, where it is to lie on a mesh, see
      `sharding.Placement.constrain`: 'embeddings', 'states' between blocks, or of
      one 'token' of each row; a layer's 'cache'; the 'head'.
  """

  config: config_lib.Model
  place: Callable[[str, Array], Array] = lambda name, x: x

  def anywhere(
    self, place: Callable[[str, Array], Array] = lambda name, x: x
  ) -> 'Transformer':
    """For many side by side, which lie where each of them has its place."""
    return dataclasses.replace(self, place=place)

  def plain(self) -> 'Transformer':
    """By XLA's attention alone: other kernels have no forward derivative."""
    config = dataclasses.replace(self.config, attention='xla')
    return dataclasses.replace(self, config=config)

  def init(self, key: Array) -> types.Weights:
    """Newborn weights, f32; no expert is active."""
    c = self.config
    embed_key, head_key, block_key = jax.random.split(key, 3)
    h = jnp.zeros((1, 1, c.width))
    args = (
      attention_kernels.seen(jnp.ones((1, 1), jnp.int32), c.attention),
      jnp.zeros((1, 1), jnp.int32), None,
      self._no_experts(), None,
    )  # fmt: skip

    keys, runs = jax.random.split(block_key, c.num_layers), []
    for start, stop, numbers in c.groups:
      make = lambda key, n=numbers: blocks.Block(c, n).init(key, h, *args)[
        'params'
      ]
      runs.append(jax.vmap(make)(keys[start:stop]))
    tree = {
      'embed': 0.02 * jax.random.normal(embed_key, (c.vocab_size, c.width)),
      'blocks': {
        'attention': blocks.joined([run['attention'] for run in runs]),
        'levels': {k: v for run in runs for k, v in run['levels'].items()},
      },
      'norm': {'scale': jnp.full((c.width,), 1.0 - c.norm_offset, jnp.float32)},
    }
    if not c.tied:
      shape = (c.width, c.vocab_size)
      tree['head'] = 0.02 * jax.random.normal(head_key, shape)
    params = traverse_util.flatten_dict(tree, sep='/')
    return types.Weights(params=params, active_NE=self._no_experts())

  def shapes(self) -> types.Weights:
    """Of what `init` draws."""
    return _shapes(self.config)

  def fresh(self, key: Array, level: int) -> dict[str, types.Params]:
    """An untrained expert for `level` (1 = fastest), a row per block of it."""
    c = self.config
    rank = c.levels[level - 1].rank
    keys = jax.random.split(key, c.layers_of(level))
    draw = lambda k: experts.init(k, c.width, rank, gate_bias=c.gate_bias)
    return {str(level): jax.vmap(draw)(keys)}

  def bank(self, weights: types.Weights, level: int) -> types.Params:
    """The expert bank of a level: name -> `[L, E, ...]`, L its blocks."""
    prefix = f'blocks/levels/{level}/experts/'
    names = ('A', 'B', 'router', 'bias')
    return {name: weights.params[prefix + name] for name in names}

  def forward(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
  ) -> Array:
    """Logits `[B, T, V]` in f32 of the token after each position."""
    states_BTD = self.states(weights, tokens_BT, segments_BT, positions_BT)
    return self.logits(weights, states_BTD)

  def inputs(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    level: int,
  ) -> Array:
    """What a level's experts read, `[L, B, T, D]`, L the level's blocks.

    Only of a level with a bank.
    """
    return self._hidden(
      weights, tokens_BT, segments_BT, positions_BT, seen=level
    )[2]

  def states(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
  ) -> Array:
    """What the head reads, `[B, T, D]`."""
    h_BTD, *_ = self._hidden(weights, tokens_BT, segments_BT, positions_BT)
    return self._normed(weights, h_BTD)

  def states_at(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    at_BG: Array,
  ) -> Array:
    """What the head reads at some places of each row, `[B, G, D]`.

    The vocabulary is the widest axis: logits are left to who needs them.
    """
    h_BTD, *_ = self._hidden(weights, tokens_BT, segments_BT, positions_BT)
    return self._normed(
      weights, jnp.take_along_axis(h_BTD, at_BG[..., None], 1)
    )

  def additions(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    level: int,
    reduce: Callable[[Array, Array], Any],
  ) -> Any:
    """What each expert of a level adds to the stream, block by block.

    Args:
      reduce: (gates `[B, T, E]`, what is added `[B, T, E, D]`) -> arrays to
        keep of a block; whole, the latter would be the widest of all.

    Returns:
      What is kept, with a leading axis of the level's blocks.
    """
    c = self.config
    x_LBTD = self.inputs(weights, tokens_BT, segments_BT, positions_BT, level)
    active_E = weights.active_NE[level - 1, : c.levels[level - 1].slots]

    def block(one):
      x_BTD, bank = one
      gates_BTE = experts.gates(
        x_BTD, bank, active_E, router=c.router, top_k=c.top_k,
        spread=c.router_spread,
      )  # fmt: skip
      added = experts.outputs(x_BTD, bank['A'], bank['B'], gates_BTE, act=c.act)
      return reduce(gates_BTE, added)

    return jax.lax.map(block, (x_LBTD, self.bank(weights, level)))

  def logits(self, weights: types.Weights, states: Array) -> Array:
    """`[..., V]` in f32, of what `states_at` gives, `[..., D]`."""
    logits = jnp.dot(
      states, self.head(weights).T, preferred_element_type=jnp.float32
    )
    return attention_kernels.capped(logits, self.config.logit_cap)

  def head(self, weights: types.Weights) -> Array:
    """`[V, D]`: logits are `states @ head.T`, in f32 and capped."""
    params, tied = weights.params, self.config.tied
    return self.place('head', params['embed'] if tied else params['head'].T)

  def prefill(
    self,
    weights: types.Weights,
    tokens_BP: Array,
    length_B: Array,
    *,
    cache_size: int,
  ) -> tuple[Array, Cache]:
    """Reads ragged prompts.

    Returns:
      logits `[B, V]` after each prompt's last token, and caches of
      `cache_size` slots whose first P hold the prompts.
    """
    tokens_BP, segments_BP, positions_BP = rows(tokens_BP, length_B)
    if weights.blocks:
      h_BPD, cache = self._embed(weights, tokens_BP), []
      seen = attention_kernels.seen(segments_BP, self.config.attention)
      for block, (variables, fresh, local) in self._each(weights):
        h_BPD, kept = block.apply(
          variables, h_BPD, seen, positions_BP, local, weights.active_NE,
          fresh, weights.opened_BNE,
        )  # fmt: skip
        cache.append(kept)
    else:
      h_BPD, (keys, values), _ = self._hidden(
        weights, tokens_BP, segments_BP, positions_BP
      )
      places: Sequence[Any] = range(self.config.num_layers)
      if self.config.looped:
        places = [slice(start, stop) for start, stop, _ in self.config.groups]
      cache = [(keys[at], values[at]) for at in places]
    last = jnp.maximum(length_B - 1, 0)[:, None, None]
    h_B1D = jnp.take_along_axis(h_BPD, last, 1)
    extra = cache_size - tokens_BP.shape[1]
    return self._next(weights, h_B1D), tuple(
      (self._room(keys, extra), self._room(values, extra))
      for keys, values in cache
    )

  def _room(self, x, extra):
    """Keys or values of a layer, or of several, with so many free slots."""
    x = x.swapaxes(-3, -2)
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((0, extra), (0, 0)))
    return self.place('caches' if x.ndim == 5 else 'cache', x)

  def decode(
    self,
    weights: types.Weights,
    token_B: Array,
    position_B: Array,
    mask_BS: Array,
    cache: Cache,
    slot: Array,
  ) -> tuple[Array, Cache]:
    """One more token per row, written to cache slot `slot`.

    Args:
      weights: `unstacked`, where a program is called for every token: else each
        call copies every layer out of its stack.
      position_B: each token's place in its own sequence.
      mask_BS: cache slots that are valid, `slot` included.

    Returns:
      logits `[B, V]` and the caches.
    """
    how = mask_BS[:, None], position_B[:, None], slot
    if self.config.looped:
      return self._looped(weights, token_B, how, cache)
    weights = weights if weights.blocks else self.unstacked(weights)
    h, new = self._embed(weights, token_B[:, None]), []
    for (block, layer), old in zip(self._each(weights), cache, strict=True):
      h, kept = self._one(weights, block, layer, h, how, old)
      new.append(kept)
    return self._next(weights, h), tuple(new)

  def _looped(self, weights, token_B, how, cache):
    """`decode`, with a loop over the layers of each run of like ones."""
    h, new = self._embed(weights, token_B[:, None]), []
    for (block, stack, numbers), pair in zip(
      blocks.runs(self.config, weights), cache, strict=True
    ):

      def body(carry, layer, block=block):
        h, pair = carry
        layer, place = layer
        old = tuple(x[place] for x in pair)
        h, kept = self._one(weights, block, layer, h, how, old)
        pair = tuple(
          jax.lax.dynamic_update_index_in_dim(x, one, place, 0)
          for x, one in zip(pair, kept, strict=True)
        )
        return (h, pair), None

      places = jnp.arange(len(numbers))
      (h, pair), _ = jax.lax.scan(body, (h, pair), (stack, places))
      new.append(pair)
    return self._next(weights, h), tuple(new)

  def _one(self, weights, block, layer, h, how, old):
    """One token through one layer."""
    (variables, fresh, local), (mask, position, slot) = layer, how
    h, kept = block.apply(
      variables, self.place('token', h), mask, position, old, slot, local,
      weights.active_NE, fresh, weights.opened_BNE, method='decode',
    )  # fmt: skip
    return h, tuple(self.place('cache', x) for x in kept)

  def unstacked(self, weights: types.Weights) -> types.Weights:
    """Weights for `prefill` and `decode` alone, with each layer by itself.

    Where layers are looped over, they stay in their stacks.
    """
    if self.config.looped:
      return weights
    each = tuple(
      jax.tree.map(operator.itemgetter(place), stack)
      for _, stack, layers_of_it in blocks.runs(self.config, weights)
      for place in range(len(layers_of_it))
    )
    rest = {p: x for p, x in weights.params.items() if 'blocks/' not in p}
    return weights.replace(params=rest, adapter=None, fresh=None, blocks=each)

  def _each(self, weights):
    """Each layer's module, and what it computes with."""
    modules = (
      blocks.Block(self.config, numbers)
      for start, stop, numbers in self.config.groups
      for _ in range(start, stop)
    )
    return zip(modules, weights.blocks, strict=True)

  def _hidden(self, weights, tokens_BT, segments_BT, positions_BT, seen=0):
    """Last states, caches of all layers, and the inputs of one level."""
    given = attention_kernels.seen(segments_BT, self.config.attention)
    h_BTD = self.place('embeddings', self._embed(weights, tokens_BT))
    h_BTD = self.place('states', h_BTD)
    caches, inputs = [], None

    for block, stack, _ in blocks.runs(self.config, weights):
      show = seen in block.numbers

      def body(h, layer, block=block, show=show):
        variables, fresh, local = layer
        h = self.place('states', h)
        (h, cache), shown = block.apply(
          variables, h, given, positions_BT, local, weights.active_NE, fresh,
          weights.opened_BNE, mutable=['seen'] if show else [],
        )  # fmt: skip
        if show:
          (shown,) = shown['seen']['levels'][str(seen)]['experts']['inputs']
          return h, (cache, shown)
        return h, (cache, None)

      h_BTD, (cache, shown) = blocks.over(
        body, h_BTD, stack, unroll=self.config.unroll, remat=self.config.remat
      )
      caches.append(cache)
      inputs = shown if show else inputs
    return h_BTD, blocks.joined(caches), inputs

  def _embed(self, weights, tokens_BT):
    h_BTD = weights.params['embed'][tokens_BT]
    scale = self.config.embed_scale
    return h_BTD if scale == 1 else h_BTD * jnp.asarray(scale, h_BTD.dtype)

  def _next(self, weights, h_B1D):
    """The head for one token per row; faster so than as rows of states."""
    states_BD = self._norm(weights, self.place('token', h_B1D))[:, 0]
    logits_BV = jnp.einsum(
      'vd,bd->bv', self.head(weights), states_BD,
      preferred_element_type=jnp.float32,
    )  # fmt: skip
    return attention_kernels.capped(logits_BV, self.config.logit_cap)

  def _normed(self, weights, h_BTD):
    return self._norm(weights, self.place('states', h_BTD))

  def _norm(self, weights, h):
    norm = layers.RMSNorm(self.config.norm_eps, self.config.norm_offset)
    return norm.apply({'params': {'scale': weights.params['norm/scale']}}, h)

  def _no_experts(self):
    return jnp.zeros((self.config.num_levels, max(self.config.max_slots, 1)))


@functools.cache  # Asked for often, and long to trace.
def _shapes(config):
  return jax.eval_shape(Transformer(config).init, jax.random.key(0))


def rows(tokens_BT: Array, length_B: Array) -> tuple[Array, Array, Array]:
  """Tokens, segments and positions of one left-aligned sequence per row."""
  place = jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)[None]
  positions_BT = jnp.broadcast_to(place, tokens_BT.shape)
  segments_BT = jnp.where(place < length_B[:, None], 1, -1)
  return tokens_BT, segments_BT, positions_BT
