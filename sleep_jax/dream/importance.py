"""TODO: dream.importance (from phases.trials)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood

ROUNDING = 1e-5  # Of a score: what the order of additions alone may change.


def dream_losses(
  model: Any, weights: types.Weights, lessons: lessons_lib.Lessons, size: int
) -> types.Array:
  """Mean nats per generated token of each dream, `[M]`; 0 for an empty one.

  Args:
    size: most generated tokens.
  """
  flat = lessons.rows
  if not lessons.shared:
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), flat)
  likely_BG, _ = answer_likelihood.log_likelihood(model, weights, flat, size)
  weight_MK = lessons.weight_MK

  def fold(x_B):
    if lessons.shared:
      return weight_MK @ x_B.astype(weight_MK.dtype)
    return jnp.sum(x_B.reshape(weight_MK.shape) * weight_MK, 1)

  tokens_M = fold(flat.length_B - flat.prompt_length_B)
  return -fold(jnp.sum(likely_BG, 1)) / jnp.maximum(tokens_M, 1)


def importance(
  model: Any,
  weights: types.Weights,
  lessons: lessons_lib.Lessons,
  practice: types.Probes,
  key: types.Array,
  *,
  size: int,
  how: str,
  targets: tuple[str, ...],
  rows: int = 1,
) -> types.Array:
  """A number for each dream, `[M]`; more is more important.

  By 'gradient', the product of the dream's gradient with that of the practice
  (mean nats of the right answers), over the matrices that adapters stand
  beside: one forward-mode derivative for all of them. Above 0, a small step
  down the dream's loss makes right answers likelier.

  Args:
    size: most generated tokens of a lesson.
    how, targets: see `dreams.Settings`.
    rows: devices that rows are spread over.
  """
  own = lora.targeted(weights.params, targets)
  (M,) = lessons.rate_M.shape
  plain = model.plain()
  dreamt = lambda own: dream_losses(plain, weights.with_params(own), lessons, size)
  if how == settings.RANDOM:
    return jax.random.uniform(key, (M,))
  if how == settings.NORM:

    def one(place):
      mine = lessons.of(place[None])
      alone = lambda own: dream_losses(model, weights.with_params(own), mine, size)[0]
      return optax.tree.norm(jax.grad(alone)(own))

    return jax.lax.map(one, jnp.arange(M))

  def missed(own):
    nats_B, _ = answer_likelihood.score_answers(
      model, weights.with_params(own), practice, rows=rows
    )
    return -jnp.mean(nats_B)

  # As large as the matrices, and spread as they are.
  grads = {
    path: model.place(path, leaf)
    for path, leaf in jax.grad(missed)(own).items()
  }
  _, importance_M = jax.jvp(dreamt, (own,), (grads,))
  return importance_M


def select_dreams(
  importance_M: types.Array,
  valid_M: types.Array,
  key: types.Array,
  *,
  top: int,
  random: int,
) -> tuple[types.Array, types.Array]:
  """Which dreams are tried: the most important, and some of the others.

  Returns:
    Their places `[top + random]`, and whether a dream stands there: fewer may
    be valid.
  """
  rank_M = jnp.where(valid_M, importance_M, -jnp.inf)
  first = jax.lax.top_k(rank_M, top)[1]
  free_M = valid_M.at[first].set(False)
  lot_M = jnp.where(free_M, jax.random.uniform(key, free_M.shape), -jnp.inf)
  others = jax.lax.top_k(lot_M, random)[1]
  return (
    jnp.concatenate([first, others]),
    jnp.concatenate([valid_M[first], free_M[others]]),
  )
