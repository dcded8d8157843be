"""Scores answers: their log-likelihood, and whether greedy decoding gives them.

Scoring is teacher-forced. An answer is the greedy one exactly if each of its
tokens is the most likely after the ones before it, so nothing is sampled.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.objectives import losses

Array = types.Array
_MAX_LOGITS = 2**27  # Held at once; above it, the logits of one row at a time.


def log_likelihood(
  model: Any, weights: types.Weights, rollout: types.Rollout, size: int
) -> tuple[Array, Array]:
  """Scores the first `size` generated tokens of each row.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model.
    rollout: sequences of which the tokens after the prompt are scored.
    size: G, number of tokens per row.

  Returns:
    Log-probabilities in nats and whether each token is the most likely one,
    `[B, G]` each; 0 and True beyond the end of a row.
  """
  tokens, segments, positions = types.model_inputs(
    rollout.tokens_BT, rollout.length_B
  )
  last = tokens.shape[1] - 1
  at_BG = rollout.prompt_length_B[:, None] + jnp.arange(size)[None]
  at_BG = jnp.minimum(at_BG, last)
  states_BGD = model.states_at(
    weights, tokens, segments, positions, jnp.maximum(at_BG - 1, 0)
  )
  target_BG = jnp.take_along_axis(tokens, at_BG, 1)
  mask_BG = losses.generated_mask(rollout, size)

  def score(states_BGD, target_BG):
    logits_BGV = model.logits(weights, states_BGD)
    best_BG = jnp.argmax(logits_BGV, -1) == target_BG
    return losses.token_log_likelihood(logits_BGV, target_BG), best_BG

  if target_BG.size * len(model.head(weights)) <= _MAX_LOGITS:
    score_BG, best_BG = score(states_BGD, target_BG)
  else:

    def row(one):
      states_GD, target_G = one
      return tuple(x[0] for x in score(states_GD[None], target_G[None]))

    # Recomputed in the backward pass, which would otherwise keep the logits of
    # all rows.
    score_BG, best_BG = jax.lax.map(
      jax.checkpoint(row), (states_BGD, target_BG)
    )
  return jnp.where(mask_BG, score_BG, 0), best_BG | ~mask_BG


def append_answers(probes: types.Probes) -> types.Rollout:
  """Returns the questions followed by their right answers."""
  prompts, A = probes.prompts, probes.answer_BA.shape[1]
  place = jnp.arange(prompts.tokens_BP.shape[1] + A)[None]
  question = jnp.pad(prompts.tokens_BP, ((0, 0), (0, A)))
  answer = jnp.take_along_axis(
    probes.answer_BA, jnp.clip(place - prompts.length_B[:, None], 0, A - 1), 1
  )
  return types.Rollout(
    tokens_BT=jnp.where(place < prompts.length_B[:, None], question, answer),
    prompt_length_B=prompts.length_B,
    length_B=prompts.length_B + probes.answer_length_B,
  )


def score_answers(
  model: Any, weights: types.Weights, probes: types.Probes, *, rows: int = 1
) -> tuple[Array, Array]:
  """Scores the right answers of probes.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model.
    probes: questions and answers.
    rows: number of devices that rows are spread over. If it does not divide
      the number of questions, some questions are scored twice, because each
      device would otherwise score all of them.

  Returns:
    The mean log-probability per answer token in nats, and whether the answer
    is the greedy one, `[B]` each.
  """
  rollout, num = append_answers(probes), len(probes.answer_length_B)
  if num % rows:
    rollout = jax.tree.map(
      lambda x: jnp.resize(x, (num + -num % rows, *x.shape[1:])), rollout
    )
  score_BA, best_BA = log_likelihood(
    model, weights, rollout, probes.answer_BA.shape[1]
  )
  size_B = jnp.maximum(probes.answer_length_B, 1)
  return jnp.sum(score_BA[:num], 1) / size_B, jnp.all(best_BA[:num], 1)
