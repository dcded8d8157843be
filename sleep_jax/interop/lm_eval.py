"""lm-evaluation-harness asks a run, or a checkpoint, its tasks.

The harness is not needed here: whoever has it installed passes `adapter(...)`
to `lm_eval.simple_evaluate(model=...)`. What it asks is answered by `Scorer`,
in batches whose size changes no score.

References: github.com/EleutherAI/lm-evaluation-harness, its model guide.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.data import detokenizer
from sleep_jax.interop import open_model
from sleep_jax.model import streaming
from sleep_jax.objectives import answer_likelihood


class LmEvalModel:
  """Likelihoods and continuations of a model, in batches.

  Args:
    opened: the model.
    batch_size: rows at a time.
    longest: tokens that the model reads at most; a longer context loses its
      beginning, as the harness has it.
  """

  def __init__(
    self,
    opened: open_model.LoadedModel,
    *,
    batch_size: int = 8,
    longest: int = 1024,
  ):
    self.tokenizer, self.longest = opened.tokenizer, longest
    self._opened, self._batch = opened, batch_size

  @functools.cached_property
  def _ready(self):
    return streaming.ready(self._opened.model, self._opened.weights)

  def likelihoods(
    self, pairs: Sequence[tuple[str, str]]
  ) -> list[tuple[float, bool]]:
    """Nats of each continuation of a context, and whether it is the greedy one.

    Spaces that end a context belong to what follows.
    """
    return self._scored([self._split(*pair) for pair in pairs])

  def rolling(self, texts: Sequence[str]) -> list[float]:
    """Nats of whole texts, in windows that do not overlap."""
    made: list[float] = []
    for text in texts:
      ids = self.tokenizer.encode(text)
      size = self.longest - 1
      rows, before = [], [self.tokenizer.bos]
      for start in range(0, len(ids), size):
        part = ids[start : start + size]
        rows.append((before, part))
        before = part[-1:]  # A window is read behind the last token before it.
      made.append(sum(nats for nats, _ in self._scored(rows)))
    return made

  def continuations(
    self, asked: Sequence[tuple[str, Mapping[str, Any]]]
  ) -> list[str]:
    """What is written on each context, up to the first of its stops.

    Args:
      asked: contexts, each with 'until' (text or texts), 'max_gen_toks',
        'do_sample', 'temperature'.
    """
    return [self._until(*one) for one in asked]

  def _until(self, context, how) -> str:
    stops = how.get('until') or []
    stops = [stops] if isinstance(stops, str) else list(stops)
    warm = float(how.get('temperature') or 0.0) if how.get('do_sample') else 0.0
    new = int(how.get('max_gen_toks', 256))
    ids = [self.tokenizer.bos, *self.tokenizer.encode(context)]
    ids = ids[-max(self.longest - new, 1) :]
    said, text = detokenizer.Detokenizer(self.tokenizer), ''
    opened = self._opened
    for (token,) in streaming.stream(
      opened.model, self._ready, [ids], jax.random.key(0), max_new=new,
      ends=opened.end_tokens, temperature=warm,
    ):  # fmt: skip
      text += said.add(token) if token is not None else ''
      if any(stop in text for stop in stops):
        break
    text += said.end()
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text

  def _split(self, context: str, continuation: str):
    trimmed = context.rstrip(' ')
    continuation = context[len(trimmed) :] + continuation
    before = self.tokenizer.encode(trimmed) if trimmed else []
    whole = self.tokenizer.encode(trimmed + continuation)
    if whole[: len(before)] != before:  # The words meet otherwise.
      return [self.tokenizer.bos, *before], self.tokenizer.encode(continuation)
    return [self.tokenizer.bos, *before], whole[len(before) :]

  def _scored(self, pairs) -> list[tuple[float, bool]]:
    """Of (context, continuation) in tokens; the longest rows come first."""
    cut = [
      (before[-max(self.longest - len(after), 1) :], after[-self.longest + 1 :])
      for before, after in pairs
    ]
    order = sorted(range(len(cut)), key=lambda i: -len(cut[i][0] + cut[i][1]))
    found: dict[int, tuple[float, bool]] = {}
    for places in _chunks(order, self._batch):
      rows = [cut[i] for i in places]
      for place, score in zip(places, self._one(rows), strict=True):
        found[place] = score
    return [found[i] for i in range(len(cut))]

  def _one(self, rows) -> list[tuple[float, bool]]:
    width = streaming.padded(max(len(before + after) for before, after in rows))
    size = streaming.padded(max(len(after) for _, after in rows))
    tokens_BT = np.zeros((self._batch, width), np.int32)
    prompt_B, length_B = np.ones((2, self._batch), np.int32)
    for row, (before, after) in enumerate(rows):
      tokens_BT[row, : len(before + after)] = before + after
      prompt_B[row], length_B[row] = len(before), len(before + after)
    rollout = types.Rollout(
      jnp.asarray(tokens_BT), jnp.asarray(prompt_B), jnp.asarray(length_B)
    )
    nats_B, best_B = _told(
      self._opened.model, size, self._opened.weights, rollout
    )
    scores = zip(np.asarray(nats_B), np.asarray(best_B), strict=True)
    return [(float(nats), bool(best)) for nats, best in scores][: len(rows)]


def make_adapter(scorer: LmEvalModel) -> Any:
  """What the harness calls a model.

  Raises:
    ImportError: lm-evaluation-harness is not installed.
  """
  try:
    from lm_eval.api import model as harness  # type: ignore[import-not-found]
  except ImportError as error:
    raise ImportError(
      'lm-evaluation-harness is not installed: pip install lm_eval.'
    ) from error

  class Adapter(harness.LM):
    def loglikelihood(self, requests, disable_tqdm=False):
      return scorer.likelihoods([request.args for request in requests])

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
      return scorer.rolling([request.args[0] for request in requests])

    def generate_until(self, requests, disable_tqdm=False):
      return scorer.continuations([request.args for request in requests])

  return Adapter()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _told(model, size, weights, rollout):
  likely_BG, best_BG = answer_likelihood.log_likelihood(
    model, weights, rollout, size
  )
  return jnp.sum(likely_BG, 1), jnp.all(best_BG, 1)


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
  for start in range(0, len(items), size):
    yield items[start : start + size]
