"""Online elastic weight consolidation (EWC), a baseline.

After each experience, the diagonal of the Fisher information says how much the
likelihood of its rows depends on each parameter. While later experiences are
learned, a quadratic penalty keeps parameters that matter close to their values.
Pretraining counts as the first experience, if its rows are there.

References: 1612.00796, equation 3; 1805.06370, section 4, equations 8 and 9
(one running Fisher, F* <- decay F* + F, and decay F* in the loss; each F is
normalised, here to the mean 1). The Fisher is the empirical one, of the rows.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.schedule import events
from sleep_jax.strategies import method, strategy
from sleep_jax.wake import terms

NAME = 'ewc'
Array = types.Array


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the penalty.

  Attributes:
    weight: of the penalty in the loss.
    decay: factor on the Fisher of earlier experiences, once per experience;
      the penalty has it too.
    batches: most batches of an experience that the Fisher is measured on.
  """

  weight: float
  decay: float
  batches: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  reviews = events.INITIAL, events.END
  return strategy.fine_tuning(NAME, num_levels, reviews=reviews, build=_build)


def squared_gradients(
  likelihood: terms.Likelihood,
  weights: types.Weights,
  paths: Sequence[str],
  batch: types.Batch,
) -> types.Params:
  """Returns the sum over rows of the squared gradient of a row's likelihood.

  Divided by the number of rows it is the diagonal of the empirical Fisher. The
  gradients are of single rows, one after the other: the square of their mean is
  another quantity, which vanishes at the optimum.

  Args:
    likelihood: of tokens.
    weights: of the model.
    paths: of the parameters.
    batch: rows; a row of several packed texts is one example.
  """

  def score(params, tokens_T, segments_T, positions_T, loss_T):
    value_BT = likelihood(
      weights.with_params(params), tokens_T[None], segments_T[None],
      positions_T[None], loss_T[None],
    )  # fmt: skip
    return jnp.sum(value_BT * loss_T[None, 1:])

  def add(total, row):
    grads = jax.grad(score)(params, *row)
    return jax.tree.map(lambda x, g: x + jnp.square(g), total, grads), None

  params = method.trained(weights, paths)
  zeros = method.zeros(params)
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT, batch.loss_BT
  return jax.lax.scan(add, zeros, rows)[0]


def penalty(params: types.Params, own: dict, weight: float) -> Array:
  """Returns `weight / 2 sum_i F*_i (theta_i - theta*_i)^2`.

  Args:
    params: theta, by path.
    own: `State.strategy`, with the Fisher F* and the optimum theta*.
    weight: of the penalty.
  """
  parts = jax.tree.map(
    lambda f, x, y: jnp.sum(f * jnp.square(x - y)),
    own['fisher'], params, own['optimum'],
  )  # fmt: skip
  return weight / 2 * optax.tree.sum(parts)


def add_fisher(own: dict, params: types.Params, decay: float) -> dict:
  """Returns `State.strategy` after an experience: F* <- decay F* + F.

  Args:
    own: with the sums over the rows of the experience.
    params: at its end, the new optimum.
    decay: of F*.
  """
  mean = optax.tree.sum(own['squares']) / sum(
    leaf.size for leaf in jax.tree.leaves(own['squares'])
  )
  # Of an experience without rows all squares are 0.
  scale = jnp.where(mean > 0, 1 / jnp.where(mean > 0, mean, 1), 0)
  return {
    'fisher': jax.tree.map(
      lambda old, new: decay * old + scale * new,
      own['fisher'], own['squares'],
    ),
    'optimum': jax.tree.map(jnp.copy, params),
    'squares': jax.tree.map(jnp.zeros_like, own['squares']),
  }  # fmt: skip


def reader(parts: method.Parts) -> Callable[..., tuple[Any, dict]]:
  """Returns what adds a batch to the squares, see `Method.read`.

  Args:
    parts: of a method whose arrays have `squares`, see `add_fisher`.
  """

  def read(state, batch):
    new = squared_gradients(parts.likelihood, state.weights, parts.paths, batch)
    squares = jax.tree.map(jnp.add, state.strategy['squares'], new)
    own = state.strategy | {'squares': squares}
    read_tokens = jnp.sum(batch.segments_BT >= 0)
    return state.replace(strategy=own), method.counts(read_tokens)

  return read


def _build(parts: method.Parts) -> method.Method:
  """Returns the penalty, and reviews that measure the Fisher."""
  settings = Settings(**parts.config[NAME])
  trained = functools.partial(method.trained, paths=parts.paths)

  def allocate(weights):
    zeros = lambda: method.zeros(trained(weights))
    return {
      'fisher': zeros(),
      'optimum': jax.tree.map(jnp.copy, trained(weights)),
      'squares': zeros(),
    }

  def loss_fn(state, batch):
    del batch
    # In an experience the Fisher of the earlier ones has decayed once more.
    weight = settings.weight * settings.decay
    term = lambda weights, _: penalty(trained(weights), state.strategy, weight)
    return state, [terms.Term(term)], method.counts()

  def finish(state, *, moment):
    del moment
    own = add_fisher(state.strategy, trained(state.weights), settings.decay)
    return state.replace(strategy=own), method.counts()

  return method.Method(
    allocate=allocate, penalty=loss_fn, read=reader(parts), finish=finish,
    num_batches=settings.batches,
  )  # fmt: skip
