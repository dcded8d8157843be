"""Rollback, a baseline: what conflicts with earlier days is undone after a day.

A day is learned as by `sft`. At its end each coordinate has a conflict score:
the size of its update times the Fisher information of earlier days, if the
update is opposite to the sum of the earlier updates, and else 0. Coordinates
of the highest scores are set back to their values before the day. The Fisher
is a sum over earlier days, each measured as by `ewc`, at the end of its day and
before anything is undone.

References: 2606.02398, rollback of conflicting coordinates.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.schedule import events
from sleep_jax.strategies import ewc, method, strategy

NAME = 'rollback'
Array = types.Array
_INFINITY = 0x7F800000  # Bits of a float32; those of smaller numbers are less.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of what is undone.

  Attributes:
    share: most coordinates that a day undoes, a share of all that are trained;
      0: none, which is `sft`.
    batches: most batches of an experience that the Fisher is measured on.
  """

  share: float
  batches: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.END,), build=_build
  )


def conflict_scores(
  update: types.Params, earlier: types.Params, fisher: types.Params
) -> types.Params:
  """Returns `|delta_B| F_A` where delta_B is opposite to delta_A, else 0.

  Args:
    update: delta_B, the change of the day, by path.
    earlier: delta_A, the change of all earlier days.
    fisher: F_A, the diagonal Fisher information of the earlier days.
  """

  def score(b, a, f):
    is_opposite = jnp.sign(b) * jnp.sign(a) < 0
    size = jnp.abs(b.astype(jnp.float32)) * f.astype(jnp.float32)
    return jnp.where(is_opposite, size, 0)

  return jax.tree.map(score, update, earlier, fisher)


def threshold(scores: types.Params, num: int) -> Array:
  """Returns the least number that at most `num` scores are greater than.

  A bisection over the bits of float32, which have the order of the numbers. It
  needs no sorting, and so no copy of the scores in one place.

  Args:
    scores: float32, 0 or more, by path.
    num: number of scores.
  """
  leaves = jax.tree.leaves(scores)
  as_float = lambda bits: jax.lax.bitcast_convert_type(bits, jnp.float32)

  def halve(_, ends):
    low, high = ends
    middle = low + (high - low) // 2
    # Of one array the count is exact; the sum may exceed the largest int32.
    above = sum(
      jnp.sum(leaf > as_float(middle)).astype(jnp.float32) for leaf in leaves
    )
    fits = above <= num
    return jnp.where(fits, low, middle + 1), jnp.where(fits, middle, high)

  ends = jnp.int32(0), jnp.int32(_INFINITY)
  return as_float(jax.lax.fori_loop(0, 31, halve, ends)[1])


def roll_back(
  after: types.Params, before: types.Params, scores: types.Params, num: int
) -> types.Params:
  """Returns the parameters with those of the highest scores set back.

  Args:
    after: parameters after the day, by path.
    before: parameters before it.
    scores: see `conflict_scores`; of score 0 nothing is set back.
    num: most parameters that are set back; of equal scores all or none are.
  """
  least = threshold(scores, num)
  return jax.tree.map(
    lambda new, old, score: jnp.where(score > least, old, new),
    after, before, scores,
  )  # fmt: skip


def _build(parts: method.Parts) -> method.Method:
  """Returns the review that undoes, and then adds to the Fisher."""
  settings = Settings(**parts.config[NAME])
  trained = functools.partial(method.trained, paths=parts.paths)

  def allocate(weights):
    copy = lambda: jax.tree.map(jnp.copy, trained(weights))
    zeros = lambda: method.zeros(trained(weights))
    return {
      'fisher': zeros(),
      'initial': copy(),
      'optimum': copy(),  # After the last day.
      'squares': zeros(),
    }

  def finish(state, *, moment):
    del moment
    own, after = state.strategy, trained(state.weights)
    before = own['optimum']
    subtract = functools.partial(jax.tree.map, jnp.subtract)
    scores = conflict_scores(
      subtract(after, before), subtract(before, own['initial']), own['fisher']
    )
    num_all = sum(leaf.size for leaf in jax.tree.leaves(after))
    kept = roll_back(after, before, scores, int(settings.share * num_all))
    own = ewc.add_fisher(own, kept, 1.0) | {'initial': own['initial']}
    weights = state.weights.with_params(kept)
    return state.replace(strategy=own, weights=weights), method.counts()

  return method.Method(
    allocate=allocate, read=ewc.reader(parts), finish=finish,
    num_batches=settings.batches,
  )  # fmt: skip
