"""Scores dreams by importance and selects those that are tried.

A trial trains an adapter, which is expensive. The importance of a dream is a
cheap estimate of its gain: how much one small gradient step on the dream would
improve the practice questions.

References: 2606.03979 v2 section 3.4 (Dreaming); docs/method.md, "Dreaming".
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood


def dream_losses(
  model: Any, weights: types.Weights, lessons: lessons_lib.Lessons, size: int
) -> types.Array:
  """Returns the mean loss of each dream, `[M]`, in nats per generated token.

  The loss of a dream whose lessons are all empty or of weight 0 is 0.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model.
    lessons: of M dreams.
    size: maximum number of generated tokens of a lesson.
  """
  flat = lessons.rows
  if not lessons.shared:
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), flat)
  log_prob_BG, _ = answer_likelihood.log_likelihood(model, weights, flat, size)
  weight_MK = lessons.weight_MK

  def sum_per_dream(x_B):
    if lessons.shared:
      return weight_MK @ x_B.astype(weight_MK.dtype)
    return jnp.sum(x_B.reshape(weight_MK.shape) * weight_MK, 1)

  tokens_M = sum_per_dream(flat.length_B - flat.prompt_length_B)
  return -sum_per_dream(jnp.sum(log_prob_BG, 1)) / jnp.maximum(tokens_M, 1)


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
  """Returns the importance of each dream, `[M]`; higher is more important.

  'gradient' is the dot product of the gradient of the dream's loss with the
  gradient of the practice loss (negative mean log-likelihood of the right
  answers), over the matrices that adapters target. It is positive if a small
  gradient step on the dream makes the right answers more likely. All dot
  products are one forward-mode derivative, so no per-dream gradient is stored.
  'norm' is the norm of the gradient of the dream's loss; 'random' is uniform.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model; no adapter is applied.
    lessons: of M dreams.
    practice: practice questions of the task.
    key: used by 'random'.
    size: maximum number of generated tokens of a lesson.
    how: one of 'gradient', 'norm' and 'random', see `settings.Settings`.
    targets: names of the matrices, see `lora.TARGETS`.
    rows: number of devices that the batch axis is sharded over.
  """
  own = lora.target_matrices(weights.params, targets)
  (M,) = lessons.rate_M.shape
  plain = model.with_xla_attention()
  losses = lambda own: dream_losses(
    plain, weights.with_params(own), lessons, size
  )
  if how == settings.RANDOM:
    return jax.random.uniform(key, (M,))
  if how == settings.NORM:

    def gradient_norm(index):
      selected = lessons.select(index[None])
      loss = lambda own: dream_losses(
        model, weights.with_params(own), selected, size
      )[0]
      return optax.tree.norm(jax.grad(loss)(own))

    return jax.lax.map(gradient_norm, jnp.arange(M))

  def practice_loss(own):
    log_prob_B, _ = answer_likelihood.score_answers(
      model, weights.with_params(own), practice, rows=rows
    )
    return -jnp.mean(log_prob_B)

  # The gradient is as large as the matrices, so it is sharded like them.
  grads = {
    path: model.place(path, leaf)
    for path, leaf in jax.grad(practice_loss)(own).items()
  }
  _, importance_M = jax.jvp(losses, (own,), (grads,))
  return importance_M


def select_dreams(
  importance_M: types.Array,
  valid_M: types.Array,
  key: types.Array,
  *,
  top: int,
  random: int,
) -> tuple[types.Array, types.Array]:
  """Selects the most important valid dreams, and some others at random.

  Args:
    importance_M: see `importance`.
    valid_M: whether a dream may be selected.
    key: consumed.
    top: number of dreams selected by importance.
    random: number of dreams selected at random among the others.

  Returns:
    Indices of the selected dreams, `[top + random]`, and whether each entry
    is a valid dream: there may be fewer valid dreams than entries.
  """
  rank_M = jnp.where(valid_M, importance_M, -jnp.inf)
  first = jax.lax.top_k(rank_M, top)[1]
  free_M = valid_M.at[first].set(False)
  random_M = jnp.where(free_M, jax.random.uniform(key, free_M.shape), -jnp.inf)
  others = jax.lax.top_k(random_M, random)[1]
  return (
    jnp.concatenate([first, others]),
    jnp.concatenate([valid_M[first], free_M[others]]),
  )
