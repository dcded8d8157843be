"""Answers: how likely, and how right, what follows a prompt is.

Teacher-forced: an answer is the greedy one exactly if each of its tokens is
the likeliest after those before it, so nothing need be sampled.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import transformer
from sleep_jax.objectives import losses

Array = types.Array
_ROOM = 2**27  # Logits that are held at once; of more, those of a row.


def log_likelihood(
  model: Any, weights: types.Weights, rollout: types.Rollout, size: int
) -> tuple[Array, Array]:
  """Of the first `size` generated tokens, `[B, G]` each.

  Args:
    model: with `states_at`, `head` and `logits`.

  Returns:
    Log-probabilities in nats, and whether each token is the likeliest; 0 and
    True beyond the end of a row.
  """
  tokens, segments, positions = transformer.rows(
    rollout.tokens_BT, rollout.length_B
  )
  last = tokens.shape[1] - 1
  at_BG = rollout.prompt_length_B[:, None] + jnp.arange(size)[None]
  at_BG = jnp.minimum(at_BG, last)
  states_BGD = model.states_at(
    weights, tokens, segments, positions, jnp.maximum(at_BG - 1, 0)
  )
  said_BG = jnp.take_along_axis(tokens, at_BG, 1)
  mask_BG = losses.generated_mask(rollout, size)

  def judged(states_BGD, said_BG):
    logits_BGV = model.logits(weights, states_BGD)
    best_BG = jnp.argmax(logits_BGV, -1) == said_BG
    return losses.token_log_likelihood(logits_BGV, said_BG), best_BG

  if said_BG.size * len(model.head(weights)) <= _ROOM:
    likely_BG, best_BG = judged(states_BGD, said_BG)
  else:

    def row(one):
      states_GD, said_G = one
      return tuple(x[0] for x in judged(states_GD[None], said_G[None]))

    # Anew in backward: else those of all rows would be kept for it.
    likely_BG, best_BG = jax.lax.map(jax.checkpoint(row), (states_BGD, said_BG))
  return jnp.where(mask_BG, likely_BG, 0), best_BG | ~mask_BG


def append_answers(probes: types.Probes) -> types.Rollout:
  """Questions with their right answers behind them."""
  prompts, A = probes.prompts, probes.answer_BA.shape[1]
  place = jnp.arange(prompts.tokens_BP.shape[1] + A)[None]
  own = jnp.pad(prompts.tokens_BP, ((0, 0), (0, A)))
  answer = jnp.take_along_axis(
    probes.answer_BA, jnp.clip(place - prompts.length_B[:, None], 0, A - 1), 1
  )
  return types.Rollout(
    tokens_BT=jnp.where(place < prompts.length_B[:, None], own, answer),
    prompt_length_B=prompts.length_B,
    length_B=prompts.length_B + probes.answer_length_B,
  )


def score_answers(
  model: Any, weights: types.Weights, probes: types.Probes, *, rows: int = 1
) -> tuple[Array, Array]:
  """Mean log-probability per answer token, nats, and greedy rightness: [B].

  Args:
    rows: devices that rows are spread over. Where they do not divide the
      questions, some are asked twice: else each device would be asked all.
  """
  asked, num = append_answers(probes), len(probes.answer_length_B)
  if num % rows:
    asked = jax.tree.map(
      lambda x: jnp.resize(x, (num + -num % rows, *x.shape[1:])), asked
    )
  likely_BA, best_BA = log_likelihood(
    model, weights, asked, probes.answer_BA.shape[1]
  )
  size_B = jnp.maximum(probes.answer_length_B, 1)
  return jnp.sum(likely_BA[:num], 1) / size_B, jnp.all(best_BA[:num], 1)
