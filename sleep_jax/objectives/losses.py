"""Losses on logits: cross-entropy and divergences.

Every mean is taken over a mask of targets or generated tokens that the caller
provides, never over padding or prompts.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def next_token_loss(
  logits_BTV: Array, tokens_BT: Array, loss_BT: Array
) -> Array:
  """Returns the mean cross-entropy, nats per target token.

  Args:
    logits_BTV: at position t, the prediction of token t + 1.
    tokens_BT: int32.
    loss_BT: 1 where the token is a target; its first column is not used.
  """
  types.check_shapes(
    logits_BTV=logits_BTV, tokens_BT=tokens_BT, loss_BT=loss_BT
  )
  scores_BT = log_likelihood(logits_BTV, tokens_BT)
  mask_BT = loss_BT[:, 1:]
  return -jnp.sum(scores_BT * mask_BT) / jnp.maximum(jnp.sum(mask_BT), 1)


def log_likelihood(logits_BTV: Array, tokens_BT: Array) -> Array:
  """Returns the log-probability of each token but the first, `[B, T - 1]`."""
  return token_log_likelihood(logits_BTV[:, :-1], tokens_BT[:, 1:])


def token_log_likelihood(logits_BTV: Array, tokens_BT: Array) -> Array:
  """Returns each token's log-probability under its own logits, `[B, T]`."""
  logit_BT = jnp.take_along_axis(logits_BTV, tokens_BT[..., None], -1)[..., 0]
  return logit_BT - jax.nn.logsumexp(logits_BTV, -1)


def divergence(
  teacher_BTV: Array,
  student_BTV: Array,
  *,
  beta: float,
  temperature: float = 1.0,
) -> Array:
  """Returns the generalised Jensen-Shannon divergence, nats, `[B, T]`.

  With p the teacher, q the student and M = beta p + (1 - beta) q it is
  `beta KL(p || M) + (1 - beta) KL(q || M)`, at most log 2. This vanishes at
  beta 0 and 1, where by convention KL(p || q) and KL(q || p) are returned.

  Args:
    teacher_BTV, student_BTV: logits.
    beta: 0 to 1.
    temperature: divides the logits of both.

  References: 2306.13649 (GKD), section 3; 2606.03979, section 3.3.
  """
  types.check_shapes(teacher_BTV=teacher_BTV, student_BTV=student_BTV)
  p = jax.nn.log_softmax(teacher_BTV / temperature, -1)
  q = jax.nn.log_softmax(student_BTV / temperature, -1)
  if beta == 0:
    return _kl(p, q)
  if beta == 1:
    return _kl(q, p)
  mixture = jnp.logaddexp(p + jnp.log(beta), q + jnp.log1p(-beta))
  return beta * _kl(p, mixture) + (1 - beta) * _kl(q, mixture)


def masked_mean(values_BT: Array, mask_BT: Array) -> Array:
  """Returns the mean over the mask, or 0 if the mask is empty."""
  mask_BT = mask_BT.astype(values_BT.dtype)
  total = jnp.sum(jnp.where(mask_BT > 0, values_BT, 0) * mask_BT)
  return total / jnp.maximum(jnp.sum(mask_BT), 1)


def generated_mask(rollout: types.Rollout, size: int) -> Array:
  """Returns whether a row has a 1st, 2nd, ... generated token, `[B, G]`."""
  num_B = rollout.length_B - rollout.prompt_length_B
  return jnp.arange(size)[None] < num_B[:, None]


def _kl(p: Array, q: Array) -> Array:
  return jnp.sum(jnp.exp(p) * (p - q), -1)
