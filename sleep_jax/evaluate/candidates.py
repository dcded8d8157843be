"""Ranks the candidate answers of a probe by their log-probability.

All candidates of a probe are read in one row behind their prompt. Each one
attends to the prompt and to itself only, so the prompt is computed once and
every candidate gets the score that it would get alone.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types


def rank(forward: types.Forward, candidates: 'Candidates') -> Callable:
  """Returns a function that tests whether the right candidate ranks first.

  Args:
    forward: the model's forward function, with XLA attention.
    candidates: the flattened candidates of all sets of the stream.

  Returns:
    Function (weights, chunk of `Probes`, experience) -> bool [B]. Candidates
    introduced after `experience` do not compete.
  """

  def is_correct(weights, probes, experience):
    score_BC = score_competing(forward, weights, probes, candidates, experience)
    return jnp.argmax(score_BC, 1) == probes.gold_B

  return is_correct


@dataclasses.dataclass(frozen=True)
class Candidates:
  """The candidates of each set, concatenated into one row without padding.

  K counts input tokens: all tokens of all candidates but the EOS of each.

  Attributes:
    read_SK: input token.
    target_SK: the token that follows it.
    owner_SK: index of the candidate that it belongs to; -1 for padding.
    offset_SK: position within the candidate.
    first_SC: first token of each candidate.
    length_SC: number of tokens of each candidate, EOS included.
  """

  read_SK: np.ndarray
  target_SK: np.ndarray
  owner_SK: np.ndarray
  offset_SK: np.ndarray
  first_SC: np.ndarray
  length_SC: np.ndarray


def flatten(probes: types.Probes) -> Candidates:
  """Returns the candidates of `probes` with one row of tokens per set."""
  tokens_SCA = np.asarray(probes.candidates_SCA)
  length_SC = np.asarray(probes.candidate_length_SC)
  width = max(int(np.sum(np.maximum(length_SC - 1, 0), 1).max()), 1)
  shape = (len(tokens_SCA), width)
  read, target, offset = (np.zeros(shape, np.int32) for _ in range(3))
  owner = np.full(shape, -1, np.int32)
  for row, (tokens_CA, length_C) in enumerate(
    zip(tokens_SCA, length_SC, strict=True)
  ):
    pairs = [
      (tokens_A[i], tokens_A[i + 1], column, i)
      for column, (tokens_A, length) in enumerate(
        zip(tokens_CA, length_C, strict=True)
      )
      for i in range(length - 1)
    ]
    if pairs:
      for array, values in zip(
        (read, target, owner, offset), zip(*pairs, strict=True), strict=True
      ):
        array[row, : len(pairs)] = values
  return Candidates(read, target, owner, offset, tokens_SCA[:, :, 0], length_SC)


def score_competing(
  forward: types.Forward,
  weights: types.Weights,
  probes: types.Probes,
  candidates: Candidates,
  experience: types.Array,
) -> types.Array:
  """Returns `score_candidates`, and -inf for those that do not compete, [B, C].

  Args:
    forward, weights, probes, candidates: see `score_candidates`.
    experience: candidates introduced after it do not compete.
  """
  score_BC = score_candidates(forward, weights, probes, candidates)
  since_BC = probes.candidate_since_SC[probes.set_B]
  length_BC = probes.candidate_length_SC[probes.set_B]
  allowed_BC = (since_BC <= experience) & (length_BC > 0)
  gold = jax.nn.one_hot(probes.gold_B, score_BC.shape[1], dtype=bool)
  # The right answer always competes, even before it has been taught.
  # Otherwise the score of an experience to come would be undefined.
  return jnp.where(allowed_BC | gold, score_BC, -jnp.inf)


def score_candidates(
  forward: types.Forward,
  weights: types.Weights,
  probes: types.Probes,
  candidates: Candidates,
) -> types.Array:
  """Returns the mean log-probability per token `[B, C]`, EOS included, nats."""
  tokens_BP = probes.prompts.tokens_BP
  length_B = probes.prompts.length_B
  B, P = tokens_BP.shape
  per_probe = lambda x: jnp.asarray(x)[probes.set_B]
  owner_BK = per_probe(candidates.owner_SK)
  first_BC = per_probe(candidates.first_SC)
  segments_BK = jnp.where(owner_BK >= 0, owner_BK + 1, -1)
  position_P = jnp.arange(P)[None]
  prefix_BP = jnp.where(position_P < length_B[:, None], 0, -1)
  logits_BTV = forward(
    weights,
    jnp.concatenate([tokens_BP, per_probe(candidates.read_SK)], 1),
    jnp.concatenate([prefix_BP, segments_BK], 1),
    jnp.concatenate(
      [
        jnp.broadcast_to(position_P, (B, P)),
        length_B[:, None] + per_probe(candidates.offset_SK),
      ],
      1,
    ),
  )
  norm_BT = jax.nn.logsumexp(logits_BTV, -1)
  last_B1 = length_B[:, None] - 1
  last_BV = jnp.take_along_axis(logits_BTV, last_B1[..., None], 1)[:, 0]
  first_BC = jnp.take_along_axis(last_BV, first_BC, 1)
  first_BC -= jnp.take_along_axis(norm_BT, last_B1, 1)
  later_BK = jnp.take_along_axis(
    logits_BTV[:, P:], per_probe(candidates.target_SK)[..., None], 2
  )[..., 0]
  later_BK = jnp.where(owner_BK >= 0, later_BK - norm_BT[:, P:], 0)
  row_B1 = jnp.arange(B)[:, None]
  total_BC = first_BC.at[row_B1, owner_BK].add(later_BK)
  return total_BC / jnp.maximum(per_probe(candidates.length_SC), 1)
