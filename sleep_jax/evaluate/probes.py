"""Scores closed-book probes: the context is the question, the cache is empty.

There are three scores:
  greedy: the greedy continuation equals the answer, EOS included;
  forced: share of answer tokens that are the most likely token, each given the
    right tokens before it;
  ranking: the right answer has the highest log-probability per token among the
    candidates taught so far (see `evaluate.candidates`).

Reference: docs/method.md, "Evaluation".
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
  """Returns a function that tests whether the greedy answer is exact.

  Args:
    model: the transformer.
    eos: id of the end-of-sequence token; it is part of the answer.

  Returns:
    Function (weights, chunk of `Probes`) -> bool [B].
  """

  def is_correct(weights, probes):
    A = probes.answer_BA.shape[1]
    P = probes.prompts.tokens_BP.shape[1]
    rollout = sampling.sample(
      model, weights, probes.prompts, jax.random.key(0), max_length=P + A,
      max_new=A, eos=eos, temperature=0,
    )  # fmt: skip
    return equals(rollout, probes.answer_BA, probes.answer_length_B)

  return is_correct


def equals(
  rollout: types.Rollout, answer_BA: Array, answer_length_B: Array
) -> Array:
  """Returns whether generated tokens begin with those of an answer, bool `[B]`.

  Args:
    rollout: prompts and what a model wrote after them.
    answer_BA: int32; with EOS, no other continuation begins with it.
    answer_length_B: int32, tokens that are compared, EOS included.
  """
  offset_1A = jnp.arange(answer_BA.shape[1])[None]
  index_BA = jnp.minimum(
    rollout.prompt_length_B[:, None] + offset_1A, rollout.tokens_BT.shape[1] - 1
  )
  generated_BA = jnp.take_along_axis(rollout.tokens_BT, index_BA, 1)
  padding_BA = offset_1A >= answer_length_B[:, None]
  return jnp.all((generated_BA == answer_BA) | padding_BA, 1)


def forced(model: Any, *, nats: bool = False) -> Callable:
  """Returns a function that scores the right answer token by token.

  Args:
    model: the transformer.
    nats: whether to return the mean log-probability of the answer tokens, in
      nats, instead of the share that are the most likely token.

  Returns:
    Function (weights, chunk of `Probes`) -> f32 [B]. EOS is not counted.
  """

  def score(weights, probes):
    without_eos = probes.replace(answer_length_B=probes.answer_length_B - 1)
    A = probes.answer_BA.shape[1]
    log_p_BA, is_best_BA = answer_likelihood.log_likelihood(
      model, weights, answer_likelihood.append_answers(without_eos), A
    )
    valid_BA = jnp.arange(A)[None] < without_eos.answer_length_B[:, None]
    value_BA = log_p_BA if nats else is_best_BA.astype(jnp.float32)
    total_B = jnp.sum(jnp.where(valid_BA, value_BA, 0), 1)
    return total_B / jnp.maximum(without_eos.answer_length_B, 1)

  return score


class Scorer:
  """Scores named probe sets in chunks with one compiled program.

  Attributes:
    names: of the sets that are not empty.
  """

  def __init__(
    self, score_fn: Callable, sets: Mapping[str, types.Probes], *, chunk: int
  ):
    """Moves the probes to the device, split into chunks of equal size.

    Args:
      score_fn: (weights, chunk of `Probes`, *args) -> [B], for example the
        result of `greedy`, `forced` or `candidates.rank`.
      sets: probe sets by name.
      chunk: number of probes per call.
    """
    self.names = [name for name in sets if len(sets[name].gold_B)]
    self._sizes = [len(sets[name].gold_B) for name in self.names]
    self._score_fn, self._largest = jax.jit(score_fn), chunk
    self._chunks = []
    if not self.names:
      return
    shared = ('candidates_SCA', 'candidate_length_SC', 'candidate_since_SC')
    first = sets[self.names[0]]
    fixed = {name: jnp.asarray(getattr(first, name)) for name in shared}
    rows = [
      sets[name].replace(**{field: np.zeros((0,)) for field in shared})
      for name in self.names
    ]
    merged = jax.tree.map(lambda *x: np.concatenate(x), *rows)
    total = sum(self._sizes)
    chunk = min(chunk, total)
    for start in range(0, total, chunk):
      # The last chunk overlaps the one before it: all chunks have one shape.
      start = min(start, total - chunk)
      part = jax.tree.map(
        lambda x, s=start: jnp.asarray(x[s : s + chunk]) if x.size else x,
        merged,
      )
      self._chunks.append((start, part.replace(**fixed)))
    self._chunk, self._total = chunk, total

  def with_sets(self, sets: Mapping[str, types.Probes]) -> 'Scorer':
    """Returns a scorer of other probes that uses the same compiled programs."""
    made = Scorer(self._score_fn, sets, chunk=self._largest)
    made._score_fn = self._score_fn
    return made

  def __call__(
    self, weights: types.Weights, *args: Any, sets: int | None = None
  ) -> dict[str, float]:
    """Returns the mean score of each set; empty sets are left out.

    Args:
      weights: weights of the model.
      *args: further arguments of `score_fn`.
      sets: number of sets to score, from the first; None scores all.
    """
    names = self.names[:sets]
    if not names:
      return {}
    sizes = self._sizes[: len(names)]
    score_N = np.zeros((self._total,))
    for start, probes in self._chunks:
      if start >= sum(sizes):
        break
      score_B = self._score_fn(weights, probes, *args)
      score_N[start : start + self._chunk] = processes.fetch(score_B)
    scores, start = {}, 0
    for name, size in zip(names, sizes, strict=True):
      scores[name] = float(np.mean(score_N[start : start + size]))
      start += size
    return scores
