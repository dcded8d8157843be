"""One optimizer per owner: a level, the core, or a night's fresh expert.

A parameter has exactly one owner, read from its path. What does not move is
not in any optimizer's tree at all, so neither momentum, decay nor clipping by
global norm can reach it (docs/method.md, "Optimizer leaks").
"""

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types


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
) -> optax.GradientTransformation:
  """AdamW with clipping, linear warm-up and cosine decay.

  Args:
    learning_rate: peak.
    warmup: updates from 0 to the peak.
    decay_steps: updates in all, warm-up included; 0 keeps the peak.
    final: share of the peak that is left at the end.
    clip: largest global norm of the owner's gradient; 0 clips nothing.
  """
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


def owner(path: str, *, num_levels: int) -> str:
  """Who may move a parameter: a level's number, 'core' or 'expert'.

  The slowest level is the block's own MLP and belongs to the core.
  """
  parts = path.split('/')
  if 'experts' in parts:
    return 'expert'
  if parts[:2] == ['blocks', 'levels'] and parts[3:4] == ['base']:
    level = parts[2]
    return 'core' if int(level) == num_levels else level
  return 'core'


def dtype(path: str, core: str, *, num_levels: int) -> str:
  """Of a parameter: `core` for the core, 'float32' for all that learns awake
  or asleep, so that a small step is not lost to rounding.
  """
  return core if owner(path, num_levels=num_levels) == 'core' else 'float32'


def owned(
  params: types.Params, owners: tuple[str, ...], *, num_levels: int
) -> types.Params:
  """The part of `params` that the owners may move."""
  return {
    path: leaf
    for path, leaf in params.items()
    if owner(path, num_levels=num_levels) in owners
  }


def update(
  tx: optax.GradientTransformation, params, opt, total
) -> tuple[types.Params, optax.OptState]:
  """One move of an owner by the sum of its chunk's gradients."""
  updates, opt = tx.update(total, opt, params)
  return optax.apply_updates(params, updates), opt


def apply_update(tx):
  def branch(params, opt, total):
    params, opt = update(tx, params, opt, total)
    return params, opt, jax.tree.map(jnp.zeros_like, total)

  return branch


def keep(params, opt, total):
  return params, opt, total
