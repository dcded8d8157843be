"""Scores continuations in batches, the longest first."""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.interop import eval_requests, open_model
from sleep_jax.model import streaming
from sleep_jax.objectives import answer_likelihood


def score(
  loaded: open_model.LoadedModel,
  pairs: Sequence[eval_requests.Pair],
  batch_size: int,
) -> list[tuple[float, bool]]:
  """Scores continuations.

  Args:
    loaded: the model.
    pairs: contexts and continuations, neither of them empty.
    batch_size: rows per batch. It does not change a score.

  Returns:
    For each pair the log-likelihood of the continuation in nats, and whether
    each of its tokens is the most likely one.
  """
  order = sorted(
    range(len(pairs)),
    key=lambda i: -len(pairs[i].context) - len(pairs[i].continuation),
  )
  found: dict[int, tuple[float, bool]] = {}
  for indices in chunks(order, batch_size):
    rows = [pairs[i] for i in indices]
    scores = _score_batch(loaded, rows, batch_size)
    found |= zip(indices, scores, strict=True)
  return [found[i] for i in range(len(pairs))]


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
  """Yields `size` items at a time."""
  for start in range(0, len(items), size):
    yield items[start : start + size]


def _score_batch(loaded, rows, batch_size) -> list[tuple[float, bool]]:
  lengths = [len(row.context) + len(row.continuation) for row in rows]
  width = streaming.padded_length(max(lengths))
  size = streaming.padded_length(max(len(row.continuation) for row in rows))
  tokens_BT = np.zeros((batch_size, width), np.int32)
  prompt_B, length_B = np.ones((2, batch_size), np.int32)
  for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
    tokens_BT[index, :length] = row.context + row.continuation
    prompt_B[index], length_B[index] = len(row.context), length
  rollout = types.Rollout(
    jnp.asarray(tokens_BT), jnp.asarray(prompt_B), jnp.asarray(length_B)
  )
  nats_B, greedy_B = _score_rollout(loaded.model, size, loaded.weights, rollout)
  scores = zip(np.asarray(nats_B), np.asarray(greedy_B), strict=True)
  return [(float(nats), bool(greedy)) for nats, greedy in scores][: len(rows)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score_rollout(model, size, weights, rollout):
  log_likelihood_BG, greedy_BG = answer_likelihood.log_likelihood(
    model, weights, rollout, size
  )
  return jnp.sum(log_likelihood_BG, 1), jnp.all(greedy_BG, 1)
