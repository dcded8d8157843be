"""Transformer blocks, and scans over groups of equal blocks."""

import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from sleep_jax import types
from sleep_jax.model import attention as attention_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import continuum_memory, layers

_POLICIES = {  # By `config.Model.remat`.
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(layers.ROUNDED),
  ),
}


class Block(nn.Module):
  """Attention (a level of infinite frequency) followed by the MLP levels.

  Attributes:
    level_numbers: numbers of the levels of this block, 1 = fastest.
  """

  config: config_lib.Model
  level_numbers: tuple[int, ...]

  def setup(self):
    c = self.config
    self.attention = attention_lib.Attention(c)
    self.levels = continuum_memory.ContinuumMemory(c, self.level_numbers)

  def __call__(self, h_BTD, mask, positions, kind, *gating):
    branch, cache = self.attention(h_BTD, mask, positions, kind)
    return self.levels(h_BTD + branch, *gating), cache

  def decode(self, h_BTD, mask_BTS, positions, cache, slot, kind, *gating):
    branch, cache = self.attention.decode(
      h_BTD, mask_BTS, positions, cache, slot, kind
    )
    return self.levels(h_BTD + branch, *gating), cache


def block_groups(
  config: config_lib.Model, weights: types.Weights
) -> Iterator[tuple[Block, Any, range]]:
  """Yields the groups of neighbouring blocks that have the same levels.

  Yields:
    The module of the group; the stacked inputs of its blocks (variables, fresh
    expert, `attention.LayerKind`); and the indices of its layers.
  """
  trees = {'params': unflatten(weights.params)['blocks']}
  if weights.adapter:
    trees['adapter'] = unflatten(weights.adapter)['blocks']
  all_fresh = weights.fresh or {}
  for start, stop, numbers in config.groups:
    fresh = {
      name: expert for name, expert in all_fresh.items() if int(name) in numbers
    }
    variables = {
      name: _select_group(config, tree, start, stop, numbers)
      for name, tree in trees.items()
    }
    local = rotated = None
    if config.window:
      local = jnp.asarray(config.local[start:stop])
    if config.rotated:
      rotated = jnp.asarray(config.rotated[start:stop])
    stack = variables, fresh, attention_lib.LayerKind(local, rotated)
    yield Block(config, numbers), stack, range(start, stop)


def _select_group(config, tree, start, stop, numbers):
  """Returns the arrays of the blocks from `start` to `stop`."""
  attention = tree.get('attention', {})
  if stop - start < config.num_layers:
    attention = jax.tree.map(lambda x: x[start:stop], attention)
  # The norm that independent levels share has a name that is not a number.
  levels = {
    name: part
    for name, part in tree.get('levels', {}).items()
    if not name.isdigit() or int(name) in numbers
  }
  return {'attention': attention, 'levels': levels}


def unflatten(flat):
  return traverse_util.unflatten_dict(flat, sep='/')


def concatenate(stacks):
  """Concatenates trees of arrays that are stacked over layers."""
  if len(stacks) == 1:
    return stacks[0]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *stacks)


def scan_blocks(body, h, stack, *, unroll: int, remat: str):
  """Runs `jax.lax.scan` over layers, or a Python loop if all are unrolled.

  The Python loop keeps the residuals of the backward pass where they are. A
  scan, even an unrolled one, copies them into one array of all layers and back.

  Args:
    body: (h, inputs of one layer) -> (h, outputs of the layer).
    h: initial carry.
    stack: inputs of all layers, stacked.
    unroll: layers per step of the scan. All are unrolled if it is at least
      their number.
    remat: see `config.Model`.
  """
  num_layers = jax.tree.leaves(stack)[0].shape[0]
  if remat != 'none':
    # Inside a scan, forward and backward have no common subexpressions.
    body = jax.checkpoint(
      body, policy=_POLICIES[remat], prevent_cse=unroll >= num_layers
    )
  if unroll < num_layers:
    return jax.lax.scan(body, h, stack, unroll=unroll)
  outputs = []
  for layer in range(num_layers):
    h, output = body(h, jax.tree.map(lambda x, i=layer: x[i], stack))
    outputs.append(output)
  return h, jax.tree.map(lambda *ys: jnp.stack(ys), *outputs)


def unstack(config: config_lib.Model, weights: types.Weights) -> types.Weights:
  """Returns weights for prefill and decoding, with each layer by itself.

  A program that is called for every token would otherwise copy every layer out
  of its stack at each call. If `config.looped`, the weights stay stacked.
  """
  if config.looped:
    return weights
  layers = tuple(
    jax.tree.map(operator.itemgetter(index), stack)
    for _, stack, group in block_groups(config, weights)
    for index in range(len(group))
  )
  rest = {p: x for p, x in weights.params.items() if 'blocks/' not in p}
  return weights.replace(params=rest, adapter=None, fresh=None, blocks=layers)


def unstacked_blocks(
  config: config_lib.Model, weights: types.Weights
) -> Iterator[tuple[Block, Any]]:
  """Pairs the module of each layer with its inputs in unstacked weights."""
  modules = (
    Block(config, numbers)
    for start, stop, numbers in config.groups
    for _ in range(start, stop)
  )
  return zip(modules, weights.blocks, strict=True)
