"""Closed-book probes: the question alone in the context, the cache empty.

Three scores. Greedy: the continuation equals the answer, EOS included. Ranking:
among the candidates met so far, the right one has the highest log-probability
per token; all candidates of a probe stand in one row behind their prompt and
see only the prompt and themselves, so that it is computed once. Forced: the
share of the answer's tokens that are the likeliest, each after the right ones.

References: protocols of docs/method.md, "Evaluation".
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import processes, types
from sleep_jax.model import sampling
from sleep_jax.objectives import answers

Array = types.Array


def greedy(model: Any, *, eos: int) -> Callable:
  """(weights, chunk of Probes) -> bool [B]: greedy answer is exact."""

  def correct(weights, probes):
    A = probes.answer_BA.shape[1]
    P = probes.prompts.tokens_BP.shape[1]
    rollout = sampling.sample(
      model, weights, probes.prompts, jax.random.key(0), max_length=P + A,
      max_new=A, eos=eos, temperature=0,
    )  # fmt: skip
    place = jnp.arange(A)[None]
    at_BA = jnp.minimum(rollout.prompt_length_B[:, None] + place, P + A - 1)
    said_BA = jnp.take_along_axis(rollout.tokens_BT, at_BA, 1)
    beyond = place >= probes.answer_length_B[:, None]
    return jnp.all((said_BA == probes.answer_BA) | beyond, 1)

  return correct


def forced(model: Any, *, nats: bool = False) -> Callable:
  """(weights, chunk of Probes) -> f32 [B]: share of right answer tokens.

  Args:
    nats: their mean log-probability instead. EOS is no part of either.
  """

  def share(weights, probes):
    bare = probes.replace(answer_length_B=probes.answer_length_B - 1)
    A = probes.answer_BA.shape[1]
    likely_BA, best_BA = answers.told(model, weights, answers.given(bare), A)
    inside_BA = jnp.arange(A)[None] < bare.answer_length_B[:, None]
    value_BA = likely_BA if nats else best_BA.astype(jnp.float32)
    total_B = jnp.sum(jnp.where(inside_BA, value_BA, 0), 1)
    return total_B / jnp.maximum(bare.answer_length_B, 1)

  return share


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
) -> Array:
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


class Scorer:
  """Scores named sets of probes with one compiled program, in chunks."""

  def __init__(
    self, correct: Callable, sets: Mapping[str, types.Probes], *, chunk: int
  ):
    """Args: correct one of the functions above; chunk probes per call."""
    self._names = [name for name in sets if len(sets[name].gold_B)]
    self._sizes = [len(sets[name].gold_B) for name in self._names]
    self._correct = jax.jit(correct)
    self._chunks = []
    if not self._names:
      return
    shared = ('candidates_SCA', 'candidate_length_SC', 'candidate_since_SC')
    first = sets[self._names[0]]
    fixed = {name: jnp.asarray(getattr(first, name)) for name in shared}
    rows = [
      sets[name].replace(**{field: np.zeros((0,)) for field in shared})
      for name in self._names
    ]
    whole = jax.tree.map(lambda *x: np.concatenate(x), *rows)
    total = sum(self._sizes)
    chunk = min(chunk, total)
    for start in range(0, total, chunk):
      # The last chunk starts earlier rather than being shorter: one shape.
      start = min(start, total - chunk)
      part = jax.tree.map(
        lambda x, s=start: jnp.asarray(x[s : s + chunk]) if x.size else x,
        whole,
      )
      self._chunks.append((start, part.replace(**fixed)))
    self._chunk, self._total = chunk, total

  def __call__(
    self, weights: types.Weights, *args: Any, sets: int | None = None
  ) -> dict[str, float]:
    """Mean score by name of set; empty sets are left out.

    Args:
      *args: further arguments of `correct`.
      sets: how many of the first sets to score; default: all.
    """
    names = self._names[:sets]
    if not names:
      return {}
    sizes = self._sizes[: len(names)]
    right = np.zeros((self._total,))
    for start, probes in self._chunks:
      if start >= sum(sizes):
        break
      answer = self._correct(weights, probes, *args)
      right[start : start + self._chunk] = processes.fetch(answer)
    scores, start = {}, 0
    for name, size in zip(names, sizes, strict=True):
      scores[name] = float(np.mean(right[start : start + size]))
      start += size
    return scores
