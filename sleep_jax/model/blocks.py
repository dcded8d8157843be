"""One block, and runs of like ones: what a network computes, layer by layer."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from sleep_jax import types
from sleep_jax.model import attention as attention_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import continuum_memory

_POLICIES = {  # By `config.Model.remat`.
  'full': jax.checkpoint_policies.nothing_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Block(nn.Module):
  """Attention (the level of infinite frequency), then the levels."""

  config: config_lib.Model
  numbers: tuple[int, ...]  # Of its levels.

  def setup(self):
    c = self.config
    self.attention = attention_lib.Attention(c)
    self.levels = continuum_memory.Memory(c, self.numbers)

  def __call__(self, h_BTD, seen, positions_BT, local, *gates):
    branch, cache = self.attention(h_BTD, seen, positions_BT, local)
    return self.levels(h_BTD + branch, *gates), cache

  def decode(self, h_BTD, mask_BTS, positions_BT, cache, slot, local, *gates):
    branch, cache = self.attention.decode(
      h_BTD, mask_BTS, positions_BT, cache, slot, local
    )
    return self.levels(h_BTD + branch, *gates), cache


def runs(
  config: config_lib.Model, weights: types.Weights
) -> Iterator[tuple[Block, Any, range]]:
  """Runs of like blocks.

  Returns:
    Per run its module; what its blocks compute with (variables, fresh expert,
    whether local), stacked; and the numbers of its layers.
  """
  trees = {'params': tree_of(weights.params)['blocks']}
  if weights.adapter:
    trees['adapter'] = tree_of(weights.adapter)['blocks']
  fresh = weights.fresh or {}
  for start, stop, numbers in config.groups:
    new = {name: part for name, part in fresh.items() if int(name) in numbers}
    own = {name: _part(config, tree, start, stop, numbers)
           for name, tree in trees.items()}  # fmt: skip
    local = None
    if config.window:
      local = jnp.asarray(config.local[start:stop])
    stack = own, new, local
    yield Block(config, numbers), stack, range(start, stop)


def _part(config, tree, start, stop, numbers):
  """What of all blocks belongs to a run of them."""
  attention = tree.get('attention', {})
  if stop - start < config.num_layers:
    attention = jax.tree.map(lambda x: x[start:stop], attention)
  # The norm of independent levels is no level's own.
  levels = {
    name: part for name, part in tree.get('levels', {}).items()
    if not name.isdigit() or int(name) in numbers
  }  # fmt: skip
  return {'attention': attention, 'levels': levels}


def tree_of(flat):
  return traverse_util.unflatten_dict(flat, sep='/')


def joined(stacks):
  """Stacks of layers, one upon the other."""
  if len(stacks) == 1:
    return stacks[0]
  return jax.tree.map(lambda *x: jnp.concatenate(x), *stacks)


def over(body, h, stack, *, unroll: int, remat: str):
  """`jax.lax.scan`, or all layers written out where `unroll` says so.

  Written out, what backward needs is kept as it is; a scan, even an unrolled
  one, copies it into one array of all layers and back.
  """
  num = jax.tree.leaves(stack)[0].shape[0]
  if remat != 'none':
    # Inside a scan nothing is common to forward and backward.
    body = jax.checkpoint(
      body, policy=_POLICIES[remat], prevent_cse=unroll >= num
    )
  if unroll < num:
    return jax.lax.scan(body, h, stack, unroll=unroll)
  made = []
  for place in range(num):
    h, y = body(h, jax.tree.map(lambda x, i=place: x[i], stack))
    made.append(y)
  return h, jax.tree.map(lambda *ys: jnp.stack(ys), *made)
