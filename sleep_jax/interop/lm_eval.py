"""Connects a model to lm-evaluation-harness.

The harness is an optional dependency. If it is installed, pass the result of
`make_adapter` to `lm_eval.simple_evaluate(model=...)`. `LmEvalModel` computes
its requests in batches; the batch size does not change any score.

References: github.com/EleutherAI/lm-evaluation-harness, its model guide.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import detokenizer
from sleep_jax.interop import open_model
from sleep_jax.model import streaming
from sleep_jax.objectives import answer_likelihood


class LmEvalModel:
  """Computes log-likelihoods and continuations in batches.

  Args:
    loaded: the model.
    batch_size: rows per batch.
    max_length: maximum number of tokens in a row. A longer context is truncated
      at its start, as in the harness.
  """

  def __init__(
    self,
    loaded: open_model.LoadedModel,
    *,
    batch_size: int = 8,
    max_length: int = 1024,
  ):
    self.tokenizer, self.max_length = loaded.tokenizer, max_length
    self._loaded, self._batch_size = loaded, batch_size

  @functools.cached_property
  def _decoding_weights(self):
    return streaming.prepare(self._loaded.model, self._loaded.weights)

  def likelihoods(
    self, pairs: Sequence[tuple[str, str]]
  ) -> list[tuple[float, bool]]:
    """Scores (context, continuation) pairs.

    Spaces at the end of a context are moved to its continuation.

    Returns:
      For each pair the log-likelihood of the continuation in nats, and whether
      it is the greedy continuation.
    """
    return self._scores([self._encode_pair(*pair) for pair in pairs])

  def rolling_likelihoods(self, texts: Sequence[str]) -> list[float]:
    """Returns the log-likelihood of each whole text in nats.

    Long texts are split into windows that do not overlap. Each window is
    conditioned on the last token before it.
    """
    totals: list[float] = []
    for text in texts:
      ids = self.tokenizer.encode(text)
      size = self.max_length - 1
      rows, context = [], [self.tokenizer.bos]
      for start in range(0, len(ids), size):
        window = ids[start : start + size]
        rows.append((context, window))
        context = window[-1:]
      totals.append(sum(nats for nats, _ in self._scores(rows)))
    return totals

  def generate(
    self, requests: Sequence[tuple[str, Mapping[str, Any]]]
  ) -> list[str]:
    """Generates a continuation of each context up to its first stop string.

    Args:
      requests: contexts, each with the options 'until' (a string or a list of
        strings), 'max_gen_toks', 'do_sample' and 'temperature'.
    """
    return [self._generate(*request) for request in requests]

  def _generate(self, context, options) -> str:
    stops = options.get('until') or []
    stops = [stops] if isinstance(stops, str) else list(stops)
    temperature = (
      float(options.get('temperature') or 0.0)
      if options.get('do_sample')
      else 0.0
    )
    max_new = int(options.get('max_gen_toks', 256))
    ids = [self.tokenizer.bos, *self.tokenizer.encode(context)]
    ids = ids[-max(self.max_length - max_new, 1) :]
    decoder, text = detokenizer.Detokenizer(self.tokenizer), ''
    loaded = self._loaded
    for (token,) in streaming.stream(
      loaded.model,
      self._decoding_weights,
      [ids],
      jax.random.key(0),
      max_new=max_new,
      end_tokens=loaded.end_tokens,
      temperature=temperature,
    ):
      text += decoder.add(token) if token is not None else ''
      if any(stop in text for stop in stops):
        break
    text += decoder.end()
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text

  def _encode_pair(self, context: str, continuation: str):
    trimmed = context.rstrip(' ')
    continuation = context[len(trimmed) :] + continuation
    prefix = self.tokenizer.encode(trimmed) if trimmed else []
    whole = self.tokenizer.encode(trimmed + continuation)
    if whole[: len(prefix)] != prefix:  # A token spans the boundary.
      return [self.tokenizer.bos, *prefix], self.tokenizer.encode(continuation)
    return [self.tokenizer.bos, *prefix], whole[len(prefix) :]

  def _scores(self, pairs) -> list[tuple[float, bool]]:
    """Scores pairs of token lists; the longest rows are computed first."""
    truncated = [
      (
        context[-max(self.max_length - len(target), 1) :],
        target[-self.max_length + 1 :],
      )
      for context, target in pairs
    ]
    order = sorted(
      range(len(truncated)),
      key=lambda i: -len(truncated[i][0] + truncated[i][1]),
    )
    found: dict[int, tuple[float, bool]] = {}
    for indices in _chunks(order, self._batch_size):
      rows = [truncated[i] for i in indices]
      for index, score in zip(indices, self._batch_scores(rows), strict=True):
        found[index] = score
    return [found[i] for i in range(len(truncated))]

  def _batch_scores(self, rows) -> list[tuple[float, bool]]:
    width = streaming.padded_length(
      max(len(context + target) for context, target in rows)
    )
    size = streaming.padded_length(max(len(target) for _, target in rows))
    tokens_BT = np.zeros((self._batch_size, width), np.int32)
    prompt_B, length_B = np.ones((2, self._batch_size), np.int32)
    for row, (context, target) in enumerate(rows):
      tokens_BT[row, : len(context + target)] = context + target
      prompt_B[row], length_B[row] = len(context), len(context + target)
    rollout = types.Rollout(
      jnp.asarray(tokens_BT), jnp.asarray(prompt_B), jnp.asarray(length_B)
    )
    nats_B, greedy_B = _score_rollout(
      self._loaded.model, size, self._loaded.weights, rollout
    )
    scores = zip(np.asarray(nats_B), np.asarray(greedy_B), strict=True)
    return [(float(nats), bool(greedy)) for nats, greedy in scores][: len(rows)]


def make_adapter(model: LmEvalModel) -> Any:
  """Wraps a model in the harness's `LM` class.

  Raises:
    MissingPackageError: lm-evaluation-harness is not installed.
  """
  try:
    from lm_eval.api import model as harness  # type: ignore[import-not-found]
  except ImportError as error:
    raise errors.MissingPackageError(
      'lm-evaluation-harness is not installed: pip install lm_eval.'
    ) from error

  class Adapter(harness.LM):
    def loglikelihood(self, requests, disable_tqdm=False):
      return model.likelihoods([request.args for request in requests])

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
      return model.rolling_likelihoods(
        [request.args[0] for request in requests]
      )

    def generate_until(self, requests, disable_tqdm=False):
      return model.generate([request.args for request in requests])

  return Adapter()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score_rollout(model, size, weights, rollout):
  log_likelihood_BG, greedy_BG = answer_likelihood.log_likelihood(
    model, weights, rollout, size
  )
  return jnp.sum(log_likelihood_BG, 1), jnp.all(greedy_BG, 1)


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
  for start in range(0, len(items), size):
    yield items[start : start + size]
