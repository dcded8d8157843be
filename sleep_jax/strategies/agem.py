"""Averaged gradient episodic memory (A-GEM), a baseline.

A gradient that would increase the loss on stored rows is projected, so that to
first order that loss stays equal. The memory is that of `er`: a reservoir over
all rows read since the start of pretraining. A step draws as many stored rows
as it has new ones; they are counted as tokens read.

References: 1812.00420, section 4, equation 11. A reservoir of rows is our
choice.
"""

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.replay import row_buffer
from sleep_jax.strategies import method, strategy
from sleep_jax.wake import row_loss

NAME = 'agem'


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, build=_build, wrap=_store_rows, stores_rows=True
  )


def project(grads: types.Params, reference: types.Params) -> types.Params:
  """Returns `g - (g . g_ref / g_ref . g_ref) g_ref`, or g if `g . g_ref >= 0`.

  Args:
    grads: g, the gradient of the new rows.
    reference: g_ref, the gradient of the stored rows.
  """
  product = optax.tree.vdot(grads, reference)
  square = optax.tree.vdot(reference, reference)
  # Without stored rows the reference is 0, and so is the product.
  scale = jnp.where(product < 0, product / jnp.where(square > 0, square, 1), 0)
  return jax.tree.map(
    lambda g, r: (g - scale * r).astype(g.dtype), grads, reference
  )


def _build(parts: method.Parts) -> method.Method:
  """Returns the projection of gradients."""

  def transform(state, batch, grads):
    key = row_buffer.draw_key(state.key, state.step)
    num = batch.tokens_BT.shape[0]
    old = types.Batch(
      **row_buffer.sample(state.row_buffer, key, num),
      prompts=batch.prompts,
    )
    _, reference = row_loss.value_and_grad(
      parts.likelihood, state.weights,
      method.trained(state.weights, parts.paths), old,
      num=parts.config.wake.micro_batches,
    )  # fmt: skip
    return project(grads, reference), jnp.sum(old.segments_BT >= 0)

  return method.Method(transform=transform)


def _store_rows(step: strategy.Step) -> strategy.Step:
  """Returns a step that stores the new rows afterwards."""

  def wrapped(state, batch, held, *share):
    state, metrics = step(state, batch, held, *share)
    rows = row_buffer.insert(state.row_buffer, batch, state.key)
    return state.replace(row_buffer=rows), metrics

  return wrapped
