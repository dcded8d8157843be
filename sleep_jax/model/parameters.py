"""Parameters of a model: initial weights, their shapes and new experts.

Paths of parameters are flat, for example 'blocks/levels/1/base/mlp/gate', and
arrays of blocks are stacked over the layers that have them.
"""

import functools

import jax
import jax.numpy as jnp
from flax import traverse_util

from sleep_jax import types
from sleep_jax.model import (
  attention,
  attention_kernels,
  blocks,
  experts,
  rope,
)
from sleep_jax.model import config as config_lib

Array = types.Array


def init(config: config_lib.Model, key: Array) -> types.Weights:
  """Draws the weights of an untrained model, f32. No expert is active."""
  c = config
  embed_key, head_key, block_key = jax.random.split(key, 3)
  h, zero_11 = jnp.zeros((1, 1, c.width)), jnp.zeros((1, 1), jnp.int32)
  args = (
    attention_kernels.prepare_mask(jnp.ones((1, 1), jnp.int32), c.attention),
    rope.Positions(zero_11, zero_11), attention.LayerKind(),
    no_active_experts(c), None,
  )  # fmt: skip

  keys, groups = jax.random.split(block_key, c.num_layers), []
  for start, stop, numbers in c.groups:
    init_block = lambda key, n=numbers: blocks.Block(c, n).init(key, h, *args)[
      'params'
    ]
    groups.append(jax.vmap(init_block)(keys[start:stop]))
  tree = {
    'embed': 0.02 * jax.random.normal(embed_key, (c.vocab_size, c.width)),
    'blocks': {
      'attention': blocks.concatenate([g['attention'] for g in groups]),
      'levels': {k: v for group in groups for k, v in group['levels'].items()},
    },
    'norm': {'scale': jnp.full((c.width,), 1.0 - c.norm_offset, jnp.float32)},
  }
  if not c.tied:
    shape = (c.width, c.vocab_size)
    tree['head'] = 0.02 * jax.random.normal(head_key, shape)
  params = traverse_util.flatten_dict(tree, sep='/')
  return types.Weights(params=params, active_NE=no_active_experts(c))


@functools.cache  # Called often and slow to trace.
def shapes(config: config_lib.Model) -> types.Weights:
  """Returns the shapes and dtypes of the weights that `init` draws."""
  return jax.eval_shape(functools.partial(init, config), jax.random.key(0))


def no_active_experts(config: config_lib.Model) -> Array:
  """Returns `active_NE` of a model without active experts."""
  return jnp.zeros((config.num_levels, max(config.max_slots, 1)))


def init_expert(
  config: config_lib.Model, key: Array, level: int
) -> dict[str, types.Params]:
  """Draws an untrained expert of a level.

  Args:
    config: the model.
    key: consumed.
    level: number of the level, 1 = fastest.

  Returns:
    {level: {name: array}}, stacked over the blocks of the level.
  """
  rank = config.levels[level - 1].rank
  keys = jax.random.split(key, config.num_layers_of(level))
  init_layer = lambda k: experts.init(
    k,
    config.width,
    rank,
    gate_bias=config.gate_bias,
    gated=config.gated_experts,
  )
  return {str(level): jax.vmap(init_layer)(keys)}
