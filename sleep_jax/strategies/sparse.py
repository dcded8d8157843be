"""Sparse updates, a baseline: only units specific to the new rows are trained.

Before an experience, the hidden units of each MLP are ranked by how often its
rows use them, times how rarely the rows of pretraining and of earlier
experiences do (tf-idf). Only the weights into and out of the highest ranked
units are updated. A token uses the units of largest magnitude.

References: 2510.15103, with units of the MLP in place of the slots of a memory
layer, and rows in place of background batches. There the slots are ranked again
in each step, by the tokens of its batch.
"""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import matrix_inputs
from sleep_jax.schedule import events
from sleep_jax.strategies import method, strategy

NAME = 'sparse'
Array = types.Array


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the choice of units.

  Attributes:
    units: share of the units of each MLP that an experience updates.
    used: share of the units that a token uses.
    batches: most batches of an experience that are read to rank the units.
  """

  units: float
  used: float
  batches: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.INITIAL, events.START), build=_build,
    wrap=_update_chosen_units, trains=lambda path: '/mlp/' in path,
  )  # fmt: skip


def count_uses(
  hidden_BTF: Array, valid_BT: Array, num: int
) -> tuple[Array, Array]:
  """Returns the number of tokens, and of rows, that use each unit, `[F]`.

  Args:
    hidden_BTF: activations of the units.
    valid_BT: 1 for tokens, 0 for padding.
    num: units that a token uses.
  """
  size_BTF = jnp.abs(hidden_BTF.astype(jnp.float32))
  least_BT1 = jax.lax.top_k(size_BTF, num)[0][..., -1:]
  used_BTF = (size_BTF >= least_BT1) & (valid_BT[..., None] > 0)
  as_sum = lambda used, axes: jnp.sum(used.astype(jnp.float32), axes)
  return as_sum(used_BTF, (0, 1)), as_sum(used_BTF.any(1), 0)


def scores(tokens_LF: Array, old_rows_LF: Array, num_old: Array) -> Array:
  """Returns tf-idf scores of units, `[L, F]`.

  Args:
    tokens_LF: new tokens that use a unit.
    old_rows_LF: earlier rows that use it.
    num_old: number of earlier rows; without any, the score is the frequency.
  """
  tf_LF = tokens_LF / jnp.maximum(jnp.sum(tokens_LF, 1, keepdims=True), 1)
  idf_LF = jnp.log((num_old + 1) / (old_rows_LF + 1))
  return tf_LF * jnp.where(num_old > 0, idf_LF, 1)


def choose(score_LF: Array, num: int) -> Array:
  """Returns 1 for the `num` units of highest score of each layer, else 0."""
  _, unit_LN = jax.lax.top_k(score_LF, num)
  return jnp.sum(jax.nn.one_hot(unit_LN, score_LF.shape[1]), 1)


def _build(parts: method.Parts) -> method.Method:
  """Returns reviews that count uses and choose the units."""
  settings = Settings(**parts.config[NAME])
  share = lambda part, whole: max(1, round(part * whole))

  def allocate(weights):
    sizes = {
      path.rpartition('/')[0]: weights.params[path].shape[:2]
      for path in parts.paths
      if path.endswith('/down')
    }
    names = 'tokens_LF', 'rows_LF', 'old_rows_LF', 'chosen_LF'
    units = {
      mlp: {name: jnp.zeros(size) for name in names}
      for mlp, size in sizes.items()
    }
    return {'units': units, 'num_new': jnp.zeros(()), 'num_old': jnp.zeros(())}

  def read(state, batch):
    valid_BT = batch.segments_BT >= 0

    def reduce(name, hidden_BTF):
      if name != 'down':
        return None
      num = share(settings.used, hidden_BTF.shape[-1])
      return count_uses(hidden_BTF, valid_BT, num)

    found = matrix_inputs.reduce_inputs(
      parts.model, state.weights, batch.tokens_BT, batch.segments_BT,
      batch.positions_BT, reduce,
    )  # fmt: skip
    units = {}
    for mlp, old in state.strategy['units'].items():
      tokens_LF, rows_LF = found[f'{mlp}/down']
      units[mlp] = old | {
        'tokens_LF': old['tokens_LF'] + tokens_LF,
        'rows_LF': old['rows_LF'] + rows_LF,
      }
    num_new = state.strategy['num_new'] + len(valid_BT)
    own = state.strategy | {'units': units, 'num_new': num_new}
    return state.replace(strategy=own), method.counts(forward=jnp.sum(valid_BT))

  def finish(state, *, moment):
    del moment
    num_old, units = state.strategy['num_old'], {}
    for mlp, old in state.strategy['units'].items():
      score_LF = scores(old['tokens_LF'], old['old_rows_LF'], num_old)
      num = share(settings.units, score_LF.shape[1])
      units[mlp] = {
        'tokens_LF': jnp.zeros_like(score_LF),
        'rows_LF': jnp.zeros_like(score_LF),
        'old_rows_LF': old['old_rows_LF'] + old['rows_LF'],
        'chosen_LF': choose(score_LF, num),
      }
    own = {
      'units': units,
      'num_new': jnp.zeros(()),
      'num_old': num_old + state.strategy['num_new'],
    }
    return state.replace(strategy=own), method.counts()

  def transform(state, batch, grads):
    del batch
    # The gradients of other units would be a part of the norm that is clipped.
    kept = {
      path: jnp.where(mask, grads[path], 0) for path, mask in _chosen(state)
    }
    return grads | kept, jnp.zeros((), jnp.int32)

  return method.Method(
    allocate=allocate, read=read, finish=finish, transform=transform,
    num_batches=settings.batches,
  )  # fmt: skip


def _chosen(state) -> Iterator[tuple[str, Array]]:
  """Yields (path of a weight, whether it belongs to a chosen unit)."""
  for mlp, own in state.strategy['units'].items():
    for name in ('gate', 'up', 'down'):
      axis = 2 if name == 'down' else 1
      yield f'{mlp}/{name}', jnp.expand_dims(own['chosen_LF'], axis) > 0


def _update_chosen_units(step: strategy.Step) -> strategy.Step:
  """Returns a step that leaves the weights of all other units as they are."""

  def wrapped(state, batch, held, *share):
    before = state.weights.params
    state, metrics = step(state, batch, held, *share)
    params = {
      path: jnp.where(mask, state.weights.params[path], before[path])
      for path, mask in _chosen(state)
    }
    return state.replace(weights=state.weights.with_params(params)), metrics

  return wrapped
