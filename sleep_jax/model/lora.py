"""Low-rank adapters beside the matrices of the blocks.

An adapter is no part of the parameters: weights that carry one compute with
`x W + (x a) b`, and the matrices themselves are shared by all that do not. Many
adapters of one model are one tree with a leading axis, trained under `vmap`.

References: LoRA, 2106.09685.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import layers

Array = types.Array
Adapter = dict[str, dict[str, Array]]  # Path -> 'a' [L, D, R], 'b' [L, R, F].
TARGETS = ('query', 'key', 'value', 'out', 'gate', 'up', 'down')


def targeted(params: types.Params, targets: Sequence[str]) -> types.Params:
  """The matrices of the blocks that adapters stand beside."""
  return {
    path: leaf
    for path, leaf in params.items()
    if path.startswith('blocks/') and path.split('/')[-1] in targets
  }


def init(
  key: Array, params: types.Params, *, rank: int, targets: Sequence[str]
) -> Adapter:
  """An untrained adapter: `b` is 0, so that it changes no output."""
  made = {}
  for number, (path, leaf) in enumerate(
    sorted(targeted(params, targets).items())
  ):
    L, D, F = leaf.shape
    keys = jax.random.split(jax.random.fold_in(key, number), L)
    draw = lambda k, D=D: layers.matrix_init(k, (D, rank))
    made[path] = {'a': jax.vmap(draw)(keys), 'b': jnp.zeros((L, rank, F))}
  return made


def merged(
  weights: types.Weights, adapter: Adapter, *, scale: float
) -> types.Weights:
  """Weights whose matrices are what `worn` computes with."""
  params = {
    path: weights.params[path] + scale * (low['a'] @ low['b'])
    for path, low in adapter.items()
  }
  return weights.with_params(params)


def worn(
  weights: types.Weights, adapter: Adapter, *, scale: float
) -> types.Weights:
  """Weights that carry an adapter; `scale` is alpha / rank of the paper."""
  scaled = {
    path: {'a': low['a'], 'b': low['b'] * scale}
    for path, low in adapter.items()
  }
  return weights.replace(adapter=scaled)
