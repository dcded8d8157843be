"""TODO: evaluate.candidates (from evaluate.probes)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types


def rank(forward: types.Forward, candidates: 'Candidates') -> Callable:
  """(weights, chunk of Probes, experience) -> bool [B]: gold ranks first."""

  def correct(weights, probes, experience):
    score_BC = candidate_scores(forward, weights, probes, candidates)
    since_BC = probes.candidate_since_SC[probes.set_B]
    length_BC = probes.candidate_length_SC[probes.set_B]
    allowed_BC = (since_BC <= experience) & (length_BC > 0)
    gold = jax.nn.one_hot(probes.gold_B, score_BC.shape[1], dtype=bool)
    # A label not yet taught still competes where it is the right answer.
    score_BC = jnp.where(allowed_BC | gold, score_BC, -jnp.inf)
    return jnp.argmax(score_BC, 1) == probes.gold_B

  return correct


@dataclasses.dataclass(frozen=True)
class Candidates:
  """All candidates of a set behind one another, without the gaps of a grid.

  Attributes, K = tokens that are read (all but each candidate's EOS):
    read_SK, target_SK: a token, and the one that it must predict.
    owner_SK: candidate it belongs to; -1 marks no token.
    offset_SK: its place within the candidate.
    first_SC, length_SC: first token, and number of tokens with EOS.
  """

  read_SK: np.ndarray
  target_SK: np.ndarray
  owner_SK: np.ndarray
  offset_SK: np.ndarray
  first_SC: np.ndarray
  length_SC: np.ndarray


def lay_out(probes: types.Probes) -> Candidates:
  """The candidates that all probes of a stream share, as one row a set."""
  tokens_SCA = np.asarray(probes.candidates_SCA)
  length_SC = np.asarray(probes.candidate_length_SC)
  most = max(int(np.sum(np.maximum(length_SC - 1, 0), 1).max()), 1)
  shape = (len(tokens_SCA), most)
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


def candidate_scores(
  forward: types.Forward,
  weights: types.Weights,
  probes: types.Probes,
  candidates: Candidates,
) -> types.Array:
  """Mean log-probability per token `[B, C]`, nats, EOS included."""
  tokens_BP = probes.prompts.tokens_BP
  length_B = probes.prompts.length_B
  B, P = tokens_BP.shape
  of = lambda x: jnp.asarray(x)[probes.set_B]
  owner_BK, first_BC = of(candidates.owner_SK), of(candidates.first_SC)
  segments_BK = jnp.where(owner_BK >= 0, owner_BK + 1, -1)
  place_P = jnp.arange(P)[None]
  prefix_BP = jnp.where(place_P < length_B[:, None], 0, -1)
  logits_BTV = forward(
    weights,
    jnp.concatenate([tokens_BP, of(candidates.read_SK)], 1),
    jnp.concatenate([prefix_BP, segments_BK], 1),
    jnp.concatenate(
      [
        jnp.broadcast_to(place_P, (B, P)),
        length_B[:, None] + of(candidates.offset_SK),
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
    logits_BTV[:, P:], of(candidates.target_SK)[..., None], 2
  )[..., 0]
  later_BK = jnp.where(owner_BK >= 0, later_BK - norm_BT[:, P:], 0)
  row_B1 = jnp.arange(B)[:, None]
  total_BC = first_BC.at[row_B1, owner_BK].add(later_BK)
  return total_BC / jnp.maximum(of(candidates.length_SC), 1)
