"""Losses: arrays in, scalars out.

Every mean is over a mask that the caller knows to be right (targets, or
generated tokens), never over padding or prompts.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def next_token_loss(logits_BTV: Array, tokens_BT: Array, loss_BT: Array) -> Array:
  """Mean cross-entropy, nats per target token.

  Args:
    logits_BTV: at t, the prediction of token t + 1.
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
  """Log-probability `[B, T - 1]` of each token but the first."""
  return token_log_likelihood(logits_BTV[:, :-1], tokens_BT[:, 1:])


def token_log_likelihood(logits_BTV: Array, tokens_BT: Array) -> Array:
  """Log-probability `[B, T]` of each token under the logits of its place."""
  logit_BT = jnp.take_along_axis(logits_BTV, tokens_BT[..., None], -1)[..., 0]
  return logit_BT - jax.nn.logsumexp(logits_BTV, -1)


def divergence(
  teacher_BTV: Array,
  student_BTV: Array,
  *,
  beta: float,
  temperature: float = 1.0,
) -> Array:
  """Generalised Jensen-Shannon divergence per token, nats, `[B, T]`.

  With p the teacher, q the student and M = beta p + (1 - beta) q it is
  `beta KL(p || M) + (1 - beta) KL(q || M)`, at most log 2. At 0 and 1, where
  that vanishes, it is by convention KL(p || q) and KL(q || p).

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
  """Mean over the mask; 0 where the mask is empty."""
  mask_BT = mask_BT.astype(values_BT.dtype)
  total = jnp.sum(jnp.where(mask_BT > 0, values_BT, 0) * mask_BT)
  return total / jnp.maximum(jnp.sum(mask_BT), 1)


def generated_mask(rollout: types.Rollout, size: int) -> Array:
  """bool `[B, G]`: whether a row has a first, second, ... generated token."""
  written_B = rollout.length_B - rollout.prompt_length_B
  return jnp.arange(size)[None] < written_B[:, None]


def _kl(p: Array, q: Array) -> Array:
  return jnp.sum(jnp.exp(p) * (p - q), -1)
