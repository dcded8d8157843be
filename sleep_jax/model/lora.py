"""Low-rank adapters of the matrices of the blocks.

An adapter is not part of the parameters. Weights that carry one compute
`x W + (x a) b`, and share `W` with weights that do not. Many adapters of one
model are one tree with a leading axis, trained under `vmap`.

Reference: LoRA, 2106.09685.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sleep_jax import errors, types
from sleep_jax.model import layers, prefix

Array = types.Array
Adapter = dict[str, dict[str, Array]]  # Path -> 'a' [L, D, R], 'b' [L, R, F].
TARGETS = ('query', 'key', 'value', 'out', 'gate', 'up', 'down')


def check_targets(targets: Sequence[str], section: str) -> None:
  """Checks the names of the matrices that an adapter is for.

  Args:
    targets: as a config has them.
    section: of the config, for the error.

  Raises:
    ConfigError: there is none, or one is unknown.
  """
  if not targets or set(targets) - set(TARGETS):
    raise errors.ConfigError(
      f'config.{section}.targets is {tuple(targets)}: expected one or more of '
      f'{TARGETS}.'
    )


def target_matrices(
  params: types.Params, targets: Sequence[str]
) -> types.Params:
  """Returns the matrices of the blocks whose names are in `targets`."""
  return {
    path: leaf
    for path, leaf in params.items()
    if path.startswith('blocks/') and path.split('/')[-1] in targets
  }


def init(
  key: Array, params: types.Params, *, rank: int, targets: Sequence[str]
) -> Adapter:
  """Returns an untrained adapter. `b` is 0, so that it changes no output."""
  adapter = {}
  for number, (path, leaf) in enumerate(
    sorted(target_matrices(params, targets).items())
  ):
    L, D, F = leaf.shape
    keys = jax.random.split(jax.random.fold_in(key, number), L)
    init_a = lambda k, D=D: layers.matrix_init(k, (D, rank))
    adapter[path] = {
      'a': jax.vmap(init_a)(keys),
      'b': jnp.zeros((L, rank, F)),
    }
  return adapter


def merge(
  weights: types.Weights, adapter: Adapter, *, scale: float
) -> types.Weights:
  """Adds the product of an adapter to the matrices of the weights.

  The result computes the same function as `attach`.
  """
  params = {
    path: weights.params[path] + scale * (low['a'] @ low['b'])
    for path, low in adapter.items()
  }
  return weights.with_params(params)


def merged(weights: types.Weights) -> types.Weights:
  """Returns weights of the same function that carry no low-rank adapter.

  A prefix is kept, since no matrix can hold it.
  """
  if weights.adapter is None or prefix.PATH in weights.adapter:
    return weights
  return merge(weights.replace(adapter=None), weights.adapter, scale=1.0)


def attach(
  weights: types.Weights, adapter: Adapter, *, scale: float
) -> types.Weights:
  """Returns weights that carry an adapter.

  Args:
    weights: weights without an adapter.
    adapter: see `init`.
    scale: factor of the adapter, alpha / rank in the paper.
  """
  scaled = {
    path: {'a': low['a'], 'b': low['b'] * scale}
    for path, low in adapter.items()
  }
  return weights.replace(adapter=scaled)
