"""Projected updates, a baseline: they avoid the directions of old inputs.

Only the matrices of the MLPs are trained. For each, the uncentred covariance of
its inputs over the rows of pretraining and of all earlier experiences says
which directions old inputs use. Updates are projected on the other directions,
so that the outputs on old inputs nearly stay as they are.

References: AlphaEdit, 2410.02355, section 3.2, equations 8 and 9 (projection on
the null space of a covariance, there of general text alone, and applied to the
closed form of an edit); gradient projection memory, 2103.09762, equation 5
(directions chosen by their share of the energy, and added after each task).
"""

import dataclasses
import functools

import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import matrix_inputs
from sleep_jax.schedule import events
from sleep_jax.strategies import method, strategy

NAME = 'projected'
Array = types.Array
_ROUNDING = 1e-6  # Of the energy; a direction with less has none.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the projection.

  Attributes:
    energy: share of the sum of squared inputs in the directions that are kept.
    batches: most batches of an experience that the covariance is measured on.
  """

  energy: float
  batches: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.INITIAL, events.END), build=_build,
    wrap=_project_updates, trains=lambda path: '/mlp/' in path,
  )  # fmt: skip


def covariances(
  model: types.Model, weights: types.Weights, batch: types.Batch
) -> types.Params:
  """Returns the sum of `x x^T` over tokens, `[L, D, D]`, of each MLP matrix."""

  def reduce(_, x_BTD):
    x_BTD = x_BTD.astype(jnp.float32)
    valid_BT = (batch.segments_BT >= 0).astype(jnp.float32)
    return jnp.einsum('btd,bte,bt->de', x_BTD, x_BTD, valid_BT)

  return matrix_inputs.reduce_inputs(
    model, weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT,
    reduce,
  )  # fmt: skip


def projector(covariance_LDD: Array, energy: float) -> Array:
  """Returns the projection on the directions of low energy, `[L, D, D]`.

  These are the eigenvectors of the smallest eigenvalues, as many as hold at
  most the share `1 - energy` of their sum.
  """
  value_LD, vector_LDD = jnp.linalg.eigh(covariance_LDD)  # Ascending.
  below_LD = jnp.cumsum(jnp.maximum(value_LD, 0), -1)
  share = 1 - energy + _ROUNDING
  is_free_LD = below_LD <= share * below_LD[:, -1:]
  free_LDD = vector_LDD * is_free_LD[:, None]
  return free_LDD @ free_LDD.swapaxes(1, 2)


def _build(parts: method.Parts) -> method.Method:
  """Returns reviews that measure the covariances."""
  settings = Settings(**parts.config[NAME])

  def allocate(weights):
    # At first all directions are free.
    shapes = {path: weights.params[path].shape[:2] for path in parts.paths}
    return {
      path: {
        'covariance': jnp.zeros((L, D, D)),
        'projector': jnp.broadcast_to(jnp.eye(D), (L, D, D)),
      }
      for path, (L, D) in shapes.items()
    }

  def read(state, batch):
    new = covariances(parts.model, state.weights, batch)
    own = {
      path: old | {'covariance': old['covariance'] + new[path]}
      for path, old in state.strategy.items()
    }
    tokens = jnp.sum(batch.segments_BT >= 0)
    return state.replace(strategy=own), method.counts(forward=tokens)

  def finish(state, *, moment):
    del moment
    make = functools.partial(projector, energy=settings.energy)
    own = {
      path: old | {'projector': make(old['covariance'])}
      for path, old in state.strategy.items()
    }
    return state.replace(strategy=own), method.counts()

  return method.Method(
    allocate=allocate, read=read, finish=finish, num_batches=settings.batches
  )


def _project_updates(step: strategy.Step) -> strategy.Step:
  """Returns a step that projects its updates, as the optimizer scaled them."""

  def wrapped(state, batch, held, *share):
    before = state.weights.params
    state, metrics = step(state, batch, held, *share)
    params = {}
    for path, own in state.strategy.items():
      old = before[path]
      change = own['projector'] @ (state.weights.params[path] - old)
      params[path] = (old + change).astype(old.dtype)
    return state.replace(weights=state.weights.with_params(params)), metrics

  return wrapped
