"""Optimizers, one per owner: a level, the core or a fresh expert.

Every parameter has exactly one owner, determined by its path. Frozen parameters
are not in the tree of any optimizer, so momentum, weight decay and clipping by
global norm cannot affect them or be affected by them (docs/method.md,
"Optimizer leaks").
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from sleep_jax import types

if TYPE_CHECKING:
  import optax  # A model that is only asked does not need it.

ADAPTER = 'adapter'  # Owner of the arrays of an adapter, see `types.Weights`.


def make(
  *,
  learning_rate: float,
  warmup: int = 0,
  decay_steps: int = 0,
  final: float = 0.0,
  clip: float = 1.0,
  b1: float = 0.9,
  b2: float = 0.999,
  weight_decay: float = 0.0,
) -> 'optax.GradientTransformation':
  """Makes AdamW with clipping, linear warm-up and cosine decay.

  Args:
    learning_rate: peak learning rate.
    warmup: number of updates from 0 to the peak.
    decay_steps: total number of updates, including the warm-up. 0 means no
      decay.
    final: learning rate at the end, as a share of the peak.
    clip: maximum global norm of the gradient of the owner. 0 means no clipping.
    b1: decay rate of the first moment.
    b2: decay rate of the second moment.
    weight_decay: decoupled weight decay.
  """
  import optax

  if decay_steps:
    schedule = optax.warmup_cosine_decay_schedule(
      0.0 if warmup else learning_rate, learning_rate, warmup, decay_steps,
      final * learning_rate,
    )  # fmt: skip
  elif warmup:
    schedule = optax.linear_schedule(0.0, learning_rate, warmup)
  else:
    schedule = optax.constant_schedule(learning_rate)
  return optax.chain(
    optax.clip_by_global_norm(clip) if clip else optax.identity(),
    optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay),
  )


def only_layers(
  tx: 'optax.GradientTransformation', start: float, stop: float
) -> 'optax.GradientTransformation':
  """Returns an optimizer that updates some layers of stacked arrays.

  Gradients of the other layers are set to 0 before clipping, and their updates
  after weight decay.

  Args:
    tx: the optimizer.
    start, stop: shares of the layers, counted from the input on: of 30 layers,
      0.1 and 0.5 are the layers [3, 15). At least one layer is updated.
  """

  import optax

  def mask(tree):
    def mask_array(x):
      first = min(round(start * len(x)), len(x) - 1)
      last = max(round(stop * len(x)), first + 1)
      layer_L = jnp.arange(len(x))
      on_L = (layer_L >= first) & (layer_L < last)
      return jnp.where(on_L.reshape(-1, *[1] * (x.ndim - 1)), x, 0)

    return jax.tree.map(mask_array, tree)

  def update(updates, state, params=None):
    updates, state = tx.update(mask(updates), state, params)
    return mask(updates), state

  return optax.GradientTransformation(tx.init, update)


def parameter_owner(path: str, *, num_levels: int) -> str:
  """Returns the owner: a level number, 'core', 'expert' or 'adapter'.

  The slowest level is the MLP of the block itself and belongs to the core.
  """
  parts = path.split('/')
  if parts[0] == ADAPTER:
    return ADAPTER
  if 'experts' in parts:
    return 'expert'
  if parts[:2] == ['blocks', 'levels'] and parts[3:4] == ['base']:
    level = parts[2]
    return 'core' if int(level) == num_levels else level
  return 'core'


def parameter_dtype(path: str, core_dtype: str, *, num_levels: int) -> str:
  """Returns the dtype of a parameter.

  It is `core_dtype` for the core. Parameters that are trained awake or asleep
  are 'float32', so that small updates are not lost to rounding.
  """
  if parameter_owner(path, num_levels=num_levels) == 'core':
    return core_dtype
  return 'float32'


def select_owned(
  params: types.Params, owners: tuple[str, ...], *, num_levels: int
) -> types.Params:
  """Returns the parameters that belong to the given owners."""
  return {
    path: leaf
    for path, leaf in params.items()
    if parameter_owner(path, num_levels=num_levels) in owners
  }


def update(
  tx: 'optax.GradientTransformation', params, opt, gradients
) -> tuple[types.Params, 'optax.OptState']:
  """Returns parameters and optimizer state after one update."""
  import optax

  updates, opt = tx.update(gradients, opt, params)
  return optax.apply_updates(params, updates), opt


def update_and_reset(tx):
  """Returns a branch of `jax.lax.cond` that updates and zeroes the sums."""

  def branch(params, opt, sums):
    params, opt = update(tx, params, opt, sums)
    return params, opt, jax.tree.map(jnp.zeros_like, sums)

  return branch


def keep_unchanged(params, opt, sums):
  """Branch of `jax.lax.cond` that changes nothing."""
  return params, opt, sums
