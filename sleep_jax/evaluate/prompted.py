"""Evaluates questions that are preceded by rows of the experiences so far.

The weights stay as they are: what a strategy keeps is text, and it answers from
what fits into the prompt. The rows are chosen again at each evaluation.

References: BM25, Robertson and Zaragoza 2009, equation 3.15.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import probe_arrays
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import evaluator as evaluator_lib

# (question, texts, oldest first) -> indices of texts, the most useful first.
Choose = Callable[[str, Sequence[str]], Sequence[int]]
_K1, _B = 1.2, 0.75  # Saturation of word counts, and weight of the length.


def check(stream: stream_lib.Stream, *, name: str) -> None:
  """Refuses a stream without questions, where no row would ever be read.

  Args:
    stream: of the run.
    name: of the strategy.

  Raises:
    ConfigError: there are no probes.
  """
  if not stream.probes:
    raise errors.ConfigError(
      f'{name} learns nothing: it puts rows before questions, and the data set '
      f'{stream.dataset.name!r} has none. Give it probes (for jsonl, '
      f'config.data.settings.probes), or leave {name!r} out of '
      'config.strategies.'
    )


def newest(question: str, texts: Sequence[str]) -> Sequence[int]:
  """Returns all texts, the newest first."""
  del question
  return range(len(texts) - 1, -1, -1)


def nearest(question: str, texts: Sequence[str], *, rows: int) -> list[int]:
  """Returns the texts of highest BM25 score that share a word, at most `rows`.

  Of equal scores the newer text comes first.
  """
  score = bm25(question, texts)
  order = sorted(range(len(texts)), key=lambda n: (-score[n], -n))
  return [n for n in order[:rows] if score[n] > 0]


def bm25(question: str, texts: Sequence[str]) -> list[float]:
  """Returns the BM25 score of each text for a question."""
  counts = [collections.Counter(_words(text)) for text in texts]
  lengths = [count.total() for count in counts]
  mean = max(sum(lengths) / max(len(texts), 1), 1)
  score = [0.0] * len(texts)
  for word in set(_words(question)):
    found = [n for n, count in enumerate(counts) if word in count]
    rare = (len(texts) - len(found) + 0.5) / (len(found) + 0.5)
    for n in found:
      times = counts[n][word]
      penalty = _K1 * (1 - _B + _B * lengths[n] / mean)
      score[n] += math.log1p(rare) * times * (_K1 + 1) / (times + penalty)
  return score


def join(
  question: str,
  texts: Sequence[str],
  order: Sequence[int],
  count: Callable[[str], int],
  width: int,
) -> str:
  """Returns a question after texts, the most useful one last.

  They are joined by spaces, so that the question has the tokens that it has
  alone in a tokenizer that puts a space before a text.

  Args:
    question: of a probe.
    texts: that may precede it.
    order: indices of texts, the most useful first.
    count: returns the tokens of a prompt.
    width: most tokens of the prompt. The first text that does not fit ends it.
  """
  prompt, used = question, [question]
  for n in order:
    used.insert(0, texts[n])
    if count(' '.join(used)) > width:
      break
    prompt = ' '.join(used)
  return prompt


class PromptedEvaluator:
  """An evaluator that puts rows of the experiences so far before questions.

  Held-out text is scored as it is.
  """

  def __init__(
    self,
    evaluator: evaluator_lib.Evaluator,
    stream: stream_lib.Stream,
    choose: Choose,
    *,
    width: int,
  ):
    """Scores as `evaluator` does.

    Args:
      evaluator: of the stream.
      stream: whose rows are put before its questions.
      choose: see `Choose`.
      width: most tokens of a prompt.
    """
    self._base, self._current, self._stream = evaluator, evaluator, stream
    self._choose, self._width = choose, width
    self.sizes: dict[str, int] = {}  # See `Evaluator`.

  def __getattr__(self, name: str) -> Any:
    """Returns an attribute of the evaluator of the latest evaluation."""
    return getattr(self._current, name)

  def evaluate(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Returns the numbers of `Evaluator.evaluate`, of questions with rows."""
    self._current = self._base
    if experience:
      texts, probes = self._texts(experience), self._stream.probes
      asked = self._probes(texts)
      self._current = self._base.with_probes(asked)
      # The questions of later experiences are not answered.
      keys = [*probes][: experience + 1]
      more = [
        asked[key].prompts.length_B - probes[key].prompts.length_B
        for key in keys
      ]
      self.sizes = {
        'stored_bytes': sum(len(text.encode()) for text in texts),
        'question_tokens': round(float(np.mean(np.concatenate(more)))),
      }
    numbers = self._current.evaluate(weights, experience)
    if experience:
      # These are asked without rows, which would be another strategy.
      numbers |= {'template_scores': {}, 'open_scores': {}}
    return numbers

  def _texts(self, experience: int) -> list[str]:
    """Returns the rows of the experiences so far, oldest first."""
    return [
      row.text
      for _, rows in self._stream.dataset.experiences[:experience]
      for row in rows
    ]

  def _probes(self, texts: Sequence[str]) -> dict[str, types.Probes]:
    """Returns all probes, with chosen texts before them."""
    stream = self._stream
    count = lambda text: 1 + len(stream.tokenizer.encode(text))
    tables = ('candidates_SCA', 'candidate_length_SC', 'candidate_since_SC')
    found = {}
    for key, group in stream.dataset.probes.items():
      known = stream.probes[key]
      # The same for all sets; a question alone may be longer than `width`.
      longest = max(self._width, known.prompts.tokens_BP.shape[1])
      prompted = [
        dataclasses.replace(
          probe,
          prompt=join(
            probe.prompt, texts, self._choose(probe.prompt, texts), count,
            self._width,
          ),
        )
        for probe in group
      ]  # fmt: skip
      found[key] = probe_arrays.make_probes(
        prompted, stream.dataset, stream.tokenizer,
        {name: getattr(known, name) for name in tables},
        context=longest + known.answer_BA.shape[1], max_prompt=longest,
      )  # fmt: skip
    return found


def _words(text: str) -> list[str]:
  """Returns the words of a text, in lower case."""
  return re.findall(r'\w+', text.lower())
