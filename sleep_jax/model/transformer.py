"""The transformer: embeddings, blocks and head as pure functions of weights.

Training scans over stacked layers, so that the size of a program does not grow
with depth. Decoding unrolls the layers over a tuple of caches, one per layer,
which is twice as fast on a CPU.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import (
  attention_kernels,
  blocks,
  experts,
  layers,
  parameters,
  rope,
)
from sleep_jax.model import config as config_lib

Array = types.Array
# Keys and values per layer, [B, G, S, K]. If `config.looped`, per group of
# layers, [L, B, G, S, K].
Cache = tuple[tuple[Array, Array], ...]


@dataclasses.dataclass(frozen=True)
class Transformer:
  """A model as functions of its weights.

  Attributes:
    config: the model config.
    place: (name, array) -> the array with its sharding constraint, see
      `sharding.Placement.constrain`. Names are 'embeddings'; 'states' (hidden
      states between blocks); 'token' (those of one token per row); 'cache' and
      'caches' (of one layer and of several); 'head'.
  """

  config: config_lib.Model
  place: Callable[[str, Array], Array] = lambda name, x: x

  def with_place(
    self, place: Callable[[str, Array], Array] = lambda name, x: x
  ) -> 'Transformer':
    """Returns this model with other sharding constraints, by default none."""
    return dataclasses.replace(self, place=place)

  def with_xla_attention(self) -> 'Transformer':
    """Returns this model with XLA attention.

    The other kernels have no forward-mode derivative.
    """
    config = dataclasses.replace(self.config, attention='xla')
    return dataclasses.replace(self, config=config)

  def init(self, key: Array) -> types.Weights:
    """Draws untrained weights, f32. No expert is active."""
    return parameters.init(self.config, key)

  def shapes(self) -> types.Weights:
    """Returns the shapes and dtypes of the weights that `init` draws."""
    return parameters.shapes(self.config)

  def init_expert(self, key: Array, level: int) -> dict[str, types.Params]:
    """Draws an untrained expert of a level, stacked over its blocks."""
    return parameters.init_expert(self.config, key, level)

  def bank(self, weights: types.Weights, level: int) -> types.Params:
    """Returns the expert bank of a level: name -> `[L, E, ...]`."""
    prefix = f'blocks/levels/{level}/experts/'
    names = experts.array_names(self.config.gated_experts)
    return {name: weights.params[prefix + name] for name in names}

  def forward(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
  ) -> Array:
    """Returns logits of the token after each position, `[B, T, V]`, f32."""
    states_BTD = self.states(weights, tokens_BT, segments_BT, positions_BT)
    return self.logits(weights, states_BTD)

  def expert_inputs(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    level: int,
  ) -> Array:
    """Returns the inputs of the experts of a level, `[L, B, T, D]`.

    L is the number of blocks of the level, which must have a bank.
    """
    return self._hidden(weights, tokens_BT, segments_BT, positions_BT, level)[2]

  def keys_and_values(self, weights: types.Weights, *inputs: Array) -> Any:
    """Returns keys and values, `[L, B, T, G, K]`; inputs as of `forward`."""
    return self._hidden(weights, *inputs)[1]

  def states(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
  ) -> Array:
    """Returns the normed final hidden states, `[B, T, D]`."""
    h_BTD, *_ = self._hidden(weights, tokens_BT, segments_BT, positions_BT)
    return self._place_and_norm(weights, h_BTD)

  def states_at(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    at_BG: Array,
  ) -> Array:
    """Returns the normed final states at `at_BG`, `[B, G, D]`.

    Logits are not computed here, because the vocabulary is the largest axis.
    """
    h_BTD, *_ = self._hidden(weights, tokens_BT, segments_BT, positions_BT)
    return self._place_and_norm(
      weights, jnp.take_along_axis(h_BTD, at_BG[..., None], 1)
    )

  def map_expert_outputs(
    self,
    weights: types.Weights,
    tokens_BT: Array,
    segments_BT: Array,
    positions_BT: Array,
    level: int,
    reduce: Callable[[Array, Array], Any],
  ) -> Any:
    """Reduces the outputs of the experts of a level, block by block.

    See `experts.map_outputs` for `reduce` and the result.
    """
    c = self.config
    x_LBTD = self.expert_inputs(
      weights, tokens_BT, segments_BT, positions_BT, level
    )
    active_E = weights.active_NE[level - 1, : c.levels[level - 1].slots]
    return experts.map_outputs(
      x_LBTD, self.bank(weights, level), active_E, reduce, router=c.router,
      top_k=c.top_k, act=c.act,
    )  # fmt: skip

  def logits(self, weights: types.Weights, states: Array) -> Array:
    """Returns logits `[..., V]` of final states `[..., D]`, f32."""
    logits = layers.logits(states, self.head(weights), self.config.products)
    return attention_kernels.soft_cap(logits, self.config.logit_cap)

  def head(self, weights: types.Weights) -> Array:
    """Returns the head, `[V, D]`. Logits are `soft_cap(states @ head.T)`."""
    params, tied = weights.params, self.config.tied
    return self.place('head', params['embed'] if tied else params['head'].T)

  def head_factor(self, weights: types.Weights) -> Array:
    """Returns `head`, rounded as the factors of matrix products are."""
    return layers.factor(self.head(weights), self.config.products)

  def prefill(
    self,
    weights: types.Weights,
    tokens_BP: Array,
    length_B: Array,
    *,
    cache_size: int,
    read: Callable[[types.Weights, Array], Any] | None = None,
  ) -> tuple[Any, Cache]:
    """Computes the caches of ragged prompts.

    Returns:
      `read`, by default `next_logits` `[B, V]`, after the last token of each
      prompt, and caches of `cache_size` slots, the first P of the prompts.
    """
    inputs = types.model_inputs(tokens_BP, length_B)
    h_BPD, (keys, values), _ = self._hidden(weights, *inputs)
    indices: Sequence[Any] = range(self.config.num_layers)
    if self.config.looped:
      indices = [slice(start, stop) for start, stop, _ in self.config.groups]
    cache = [(keys[index], values[index]) for index in indices]
    last = jnp.maximum(length_B - 1, 0)[:, None, None]
    h_B1D = jnp.take_along_axis(h_BPD, last, 1)
    extra = cache_size - tokens_BP.shape[1]
    return (read or self.next_logits)(weights, h_B1D), tuple(
      (self.pad_cache(keys, extra), self.pad_cache(values, extra))
      for keys, values in cache
    )

  def pad_cache(self, x: Array, extra: int) -> Array:
    """Adds free slots: `[..., T, G, K]` -> `[..., G, T + extra, K]`."""
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
    read: Callable[[types.Weights, Array], Any] | None = None,
  ) -> tuple[Any, Cache]:
    """Reads one token per row and writes it to cache slot `slot`.

    Args:
      weights: `blocks.unstack` them first where a program is called for every
        token. Otherwise each call copies every layer out of its stack.
      position_B: position of each token within its own sequence.
      mask_BS: which cache slots are valid, including `slot`.

    Returns:
      `read`, by default `next_logits` `[B, V]`, of each token; and the caches.
    """
    read = read or self.next_logits
    mask_B1S = mask_BS[:, None]
    positions = rope.make_positions(self.config, position_B[:, None])
    where = mask_B1S, positions, slot
    if self.config.looped:
      h, new = self._decode_looped(weights, token_B, where, cache)
      return read(weights, h), new
    weights = (
      weights if weights.blocks else blocks.unstack(self.config, weights)
    )
    h, new = self.embed(weights, token_B[:, None]), []
    for (block, layer), pair in zip(
      blocks.unstacked_blocks(self.config, weights), cache, strict=True
    ):
      h, pair = self.decode_layer(weights, block, layer, h, where, pair)
      new.append(pair)
    return read(weights, h), tuple(new)

  def _decode_looped(self, weights, token_B, where, cache):
    """Returns final states and caches, by a loop over each group's layers."""
    h, new = self.embed(weights, token_B[:, None]), []
    for (block, stack, group), pairs in zip(
      blocks.block_groups(self.config, weights), cache, strict=True
    ):

      def body(carry, inputs, block=block):
        h, pairs = carry
        layer, index = inputs
        pair = tuple(x[index] for x in pairs)
        h, pair = self.decode_layer(weights, block, layer, h, where, pair)
        pairs = tuple(
          jax.lax.dynamic_update_index_in_dim(x, one, index, 0)
          for x, one in zip(pairs, pair, strict=True)
        )
        return (h, pairs), None

      indices = jnp.arange(len(group))
      (h, pairs), _ = jax.lax.scan(body, (h, pairs), (stack, indices))
      new.append(pairs)
    return h, tuple(new)

  def decode_layer(self, weights, block, layer, h, where, pair):
    """Passes one token per row through one layer.

    Args:
      weights: `active_NE` and `opened_BNE` are used.
      block, layer: see `blocks.unstacked_blocks`.
      h: `[B, 1, D]`.
      where: mask `[B, 1, S]`, `rope.Positions`, and the slot to write to.
      pair: keys and values of the layer, `[B, G, S, K]`.
    """
    (variables, fresh, kind), (mask, positions, slot) = layer, where
    h, pair = block.apply(
      variables, self.place('token', h), mask, positions, pair, slot, kind,
      weights.active_NE, fresh, weights.opened_BNE, method='decode',
    )  # fmt: skip
    return h, tuple(self.place('cache', x) for x in pair)

  def _hidden(
    self, weights, tokens_BT, segments_BT, positions_BT, record_level=0
  ):
    """Returns final states before the norm, caches and inputs of experts.

    The inputs are recorded for `record_level`. 0 means that there are none.
    """
    mask = attention_kernels.prepare_mask(segments_BT, self.config.attention)
    positions = rope.make_positions(self.config, positions_BT, segments_BT)
    h_BTD = self.place('embeddings', self.embed(weights, tokens_BT))
    h_BTD = self.place('states', h_BTD)
    caches, inputs = [], None

    for block, stack, _ in blocks.block_groups(self.config, weights):
      record = record_level in block.level_numbers

      def body(h, layer, block=block, record=record):
        variables, fresh, kind = layer
        h = self.place('states', h)
        (h, cache), recorded = block.apply(
          variables, h, mask, positions, kind, weights.active_NE, fresh,
          weights.opened_BNE, mutable=['recorded'] if record else [],
        )  # fmt: skip
        if record:
          levels = recorded['recorded']['levels']
          (recorded,) = levels[str(record_level)]['experts']['inputs']
          return h, (cache, recorded)
        return h, (cache, None)

      h_BTD, (cache, recorded) = blocks.scan_blocks(
        body, h_BTD, stack, unroll=self.config.unroll, remat=self.config.remat
      )
      caches.append(cache)
      inputs = recorded if record else inputs
    return h_BTD, blocks.concatenate(caches), inputs

  def embed(self, weights: types.Weights, tokens_BT: Array) -> Array:
    """Returns the embeddings of tokens, `[B, T, D]`."""
    h_BTD = weights.params['embed'][tokens_BT]
    scale = self.config.embed_scale
    return h_BTD if scale == 1 else h_BTD * jnp.asarray(scale, h_BTD.dtype)

  def next_logits(self, weights, h_B1D):
    """Returns logits for one token per row, faster than `logits` does."""
    return self.next_logits_and_states(weights, h_B1D)[0]

  def next_logits_and_states(self, weights, h_B1D):
    """Returns `next_logits`, and the inputs of the head, `[B, D]`."""
    states_BD = self._norm(weights, self.place('token', h_B1D))[:, 0]
    logits_BV = jnp.einsum(
      'vd,bd->bv', self.head(weights), states_BD,
      preferred_element_type=jnp.float32,
    )  # fmt: skip
    cap = self.config.logit_cap
    return attention_kernels.soft_cap(logits_BV, cap), states_BD

  def _place_and_norm(self, weights, h_BTD):
    return self._norm(weights, self.place('states', h_BTD))

  def _norm(self, weights, h):
    norm = layers.RMSNorm(self.config.norm_eps, self.config.norm_offset)
    return norm.apply({'params': {'scale': weights.params['norm/scale']}}, h)
