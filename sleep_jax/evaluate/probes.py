"""Closed-book probes: the question alone in the context, the cache empty.

Three scores. Greedy: the continuation equals the answer, EOS included. Ranking:
among the candidates met so far, the right one has the highest log-probability
per token; all candidates of a probe stand in one row behind their prompt and
see only the prompt and themselves, so that it is computed once. Forced: the
share of the answer's tokens that are the likeliest, each after the right ones.

References: protocols of docs/method.md, "Evaluation".
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.objectives import answer_likelihood
from sleep_jax.runtime import processes

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
    likely_BA, best_BA = answer_likelihood.log_likelihood(
      model, weights, answer_likelihood.given(bare), A
    )
    inside_BA = jnp.arange(A)[None] < bare.answer_length_B[:, None]
    value_BA = likely_BA if nats else best_BA.astype(jnp.float32)
    total_B = jnp.sum(jnp.where(inside_BA, value_BA, 0), 1)
    return total_B / jnp.maximum(bare.answer_length_B, 1)

  return share


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
