"""Compiled programs for streaming: one layer at a time where that is best.

On a CPU each layer is a call of one program, so that the compiler sees one
layer whatever the depth; the calls take about 5 % of the time of a small model.
Other devices, where starting a program takes longer, compute all layers in one,
unless `config.looped`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.model import (
  attention_kernels,
  blocks,
  rope,
  sampling,
  transformer,
)

Array = types.Array
# Keys and values of each layer, `[B, G, S, K]`.
Cache = list[tuple[Array, Array]]


class LayerPrograms:
  """The programs of one model with one way to sample; made by `make`."""

  def __init__(
    self,
    model: transformer.Transformer,
    temperature: float,
    top_k: int,
    top_p: float,
  ):
    """See `sampling.sample` for the arguments."""
    self._model = model
    self._options = temperature, top_k, top_p
    self._embed = jax.jit(self._embed_prompts)
    self._next = jax.jit(self._draw_and_embed, static_argnames='size')
    # Number of layers, and programs, of each part of the model.
    self._parts: list[tuple[int, Callable, Callable]] = []
    groups = [
      (blocks.Block(model.config, numbers), stop - start)
      for start, stop, numbers in model.config.groups
    ]
    if jax.default_backend() == 'cpu' or model.config.looped:
      for module, num in groups:
        self._parts += [(1, *self._make_programs([module]))] * num
    else:
      modules = [module for module, num in groups for _ in range(num)]
      self._parts.append((len(modules), *self._make_programs(modules)))

  def prefill(
    self,
    weights: types.Weights,
    tokens_BP: Array,
    length_B: Array,
    *,
    cache_size: int,
  ) -> tuple[Array, Cache]:
    """Reads ragged prompts.

    Args:
      weights: as `streaming.prepare` returns them.
      tokens_BP: the prompts, padded to one length.
      length_B: tokens of each.
      cache_size: slots of the caches, of which the first P hold the prompts.

    Returns:
      States `[B, 1, D]` after the last token of each prompt, and the caches.
    """
    rest = weights.replace(blocks=None)
    h, mask, positions = self._embed(rest, tokens_BP, length_B)
    cache: Cache = []
    layers = self._layers(weights)
    for num, prefill, _ in self._parts:
      part = tuple(itertools.islice(layers, num))
      h, pairs = prefill(rest, part, h, mask, positions, size=cache_size)
      cache += pairs
    return _last(h, length_B), cache

  def draw(
    self,
    weights: types.Weights,
    h_B1D: Array,
    key: Array,
    length_B: Array,
    *,
    P: int,
    index: int,
    cache_size: int,
  ) -> tuple[Array, Any]:
    """Samples the `index`-th new token of each row.

    Args:
      weights: as in `prefill`.
      h_B1D: states after the token before it.
      key: of all new tokens.
      length_B: tokens of each prompt.
      P: length to which the prompts were padded.
      index: from 0.
      cache_size: slots of the caches.

    Returns:
      The tokens, `[B]`, and what `read` needs to read them.
    """
    return self._next(
      weights.replace(blocks=None), h_B1D, key, length_B, np.int32(P),
      np.int32(index), size=cache_size,
    )  # fmt: skip

  def read(self, weights: types.Weights, token: Any, cache: Cache) -> Array:
    """Reads the tokens that `draw` returned; returns states `[B, 1, D]`.

    Args:
      weights: as in `prefill`.
      token: see `draw`.
      cache: changed in place: its old arrays are deleted.
    """
    rest, (h, where), at = weights.replace(blocks=None), token, 0
    layers = self._layers(weights)
    for num, _, decode in self._parts:
      part = tuple(itertools.islice(layers, num))
      h, pairs = decode(rest, part, h, where, tuple(cache[at : at + num]))
      cache[at : at + num] = pairs
      at += num
    return h

  def _layers(self, weights) -> Iterator[Any]:
    """Returns an iterator over the inputs of each layer."""
    return iter(weights.blocks or _take_each(self._model.config, weights))

  def _embed_prompts(self, rest, tokens_BP, length_B):
    config = self._model.config
    tokens_BP, segments_BP, positions_BP = types.model_inputs(
      tokens_BP, length_B
    )
    mask = attention_kernels.prepare_mask(segments_BP, config.attention)
    positions = rope.make_positions(config, positions_BP, segments_BP)
    return self._model.embed(rest, tokens_BP), mask, positions

  def _draw_and_embed(self, rest, h_B1D, key, length_B, P, index, *, size):
    temperature, top_k, top_p = self._options
    logits_BV = self._model.next_logits(rest, h_B1D)
    if temperature:
      logits_BV = sampling.filter_logits(
        logits_BV / temperature, top_k=top_k, top_p=top_p
      )
      token_B = sampling.pick(jax.random.fold_in(key, index), logits_BV)
    else:
      token_B = jnp.argmax(logits_BV, -1)
    token_B = token_B.astype(jnp.int32)
    slots, slot = jnp.arange(size)[None], P + index
    mask_BS = (slots < length_B[:, None]) | ((slots >= P) & (slots <= slot))
    positions = rope.make_positions(
      self._model.config, (length_B + index)[:, None]
    )
    where = mask_BS[:, None], positions, slot
    return token_B, (self._model.embed(rest, token_B[:, None]), where)

  def _make_programs(self, modules) -> tuple[Callable, Callable]:
    """Returns the programs of neighbouring layers, for rows and for tokens."""

    @functools.partial(jax.jit, static_argnames='size')
    def prefill(rest, layers, h, mask, positions, *, size):
      pairs = []
      for block, (variables, fresh, kind) in zip(modules, layers, strict=True):
        h, pair = block.apply(
          variables, h, mask, positions, kind, rest.active_NE, fresh,
          rest.opened_BNE,
        )  # fmt: skip
        extra = size - h.shape[1]
        pairs.append(tuple(self._model.pad_cache(x, extra) for x in pair))
      return h, pairs

    @functools.partial(jax.jit, donate_argnames='pairs')
    def decode(rest, layers, h, where, pairs):
      new = []
      for block, layer, pair in zip(modules, layers, pairs, strict=True):
        h, pair = self._model.decode_layer(rest, block, layer, h, where, pair)
        new.append(pair)
      return h, new

    return prefill, decode


@functools.lru_cache(maxsize=16)
def make(
  model: transformer.Transformer,
  *,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> LayerPrograms:
  """Returns the programs, which are compiled once for equal arguments.

  Args:
    model: the model.
    temperature, top_k, top_p: see `sampling.sample`.
  """
  return LayerPrograms(model, temperature, top_k, top_p)


@jax.jit
def _last(h_BPD, length_B):
  """Returns the states of the last token of each prompt, `[B, 1, D]`."""
  last_B = jnp.maximum(length_B - 1, 0)
  return jnp.take_along_axis(h_BPD, last_B[:, None, None], 1)


def _take_each(config, weights):
  """Yields the inputs of each layer, copied out of its stack."""
  for _, stack, group in blocks.block_groups(config, weights):
    for index in range(len(group)):
      yield _take(stack, np.int32(index))


@jax.jit
def _take(stack, index):
  return jax.tree.map(lambda x: x[index], stack)
