"""Scores texts that a model generates after the questions of probes.

They stand beside the scores of `evaluate.probes`, which compare tokens: a
translation may be nearly right, a value may come in another format, and a
solution may reach the answer in other words. A score is a function (references
[N], samples [N, K]) -> number, the higher the better.

References: chrF, Popovic 2015, as sacrebleu computes it (Post 2018); the
`\\boxed{}` of MATH, 2103.03874.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sleep_jax import types
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.evaluate import asking

Texts = Sequence[str]
_BOXED = '\\boxed'


def chrf(references: Texts, samples: Sequence[Texts]) -> float:
  """Returns chrF of all samples together, 0 to 100.

  Character n-grams of 1 to 6, beta 2: the defaults of sacrebleu.
  """
  import sacrebleu

  pairs = [
    (text, reference)
    for reference, texts in zip(references, samples, strict=True)
    for text in texts
  ]
  hypotheses, right = zip(*pairs, strict=True)
  return float(sacrebleu.corpus_chrf(hypotheses, [right]).score)


def contains(references: Texts, samples: Sequence[Texts]) -> float:
  """Returns the share of samples that have all lines of the reference.

  A line must stand there as whole words, anywhere, in upper or lower case.
  """
  return avg_at_k(
    [
      [all(_has(text, line) for line in reference.splitlines()) for text in row]
      for reference, row in zip(references, samples, strict=True)
    ]
  )


def boxed(references: Texts, samples: Sequence[Texts]) -> float:
  """Returns avg@k: the share of samples whose last boxed answer is right."""
  return avg_at_k(
    [
      [is_boxed_match(text, reference) for text in row]
      for reference, row in zip(references, samples, strict=True)
    ]
  )


SCORES: Mapping[str, Callable[[Texts, Sequence[Texts]], float]] = {
  'chrf': chrf, 'contains': contains, 'boxed': boxed,
}  # fmt: skip


def avg_at_k(is_correct_NK: Sequence[Sequence[bool]]) -> float:
  """Returns avg@k: the mean over problems of the share of right samples.

  Args:
    is_correct_NK: whether each of the k samples of each problem is right.
  """
  return float(np.mean([np.mean(row) for row in is_correct_NK]))


def boxed_answer(text: str) -> str | None:
  """Returns what stands in the last complete `\\boxed{...}`, or None.

  Braces may be nested. One that is not closed, such as that of a text that was
  cut, does not count.
  """
  found = None
  for match in re.finditer(re.escape(_BOXED) + r'\s*\{', text):
    depth = 1
    for at in range(match.end(), len(text)):
      depth += {'{': 1, '}': -1}.get(text[at], 0)
      if not depth:
        found = text[match.end() : at].strip()
        break
  return found


def is_boxed_match(text: str, answer: str) -> bool:
  """Returns whether the last boxed answer of a text is right.

  Spaces, dollar signs, and commas between groups of three digits do not count.
  Decimal numbers are compared as numbers, anything else as text: no algebra is
  done, so 1/2 is not 0.5.
  """
  found = boxed_answer(text)
  return found is not None and _canonical(found) == _canonical(answer)


def _canonical(answer: str) -> str:
  """Returns a form that is the same for equal answers."""
  answer = re.sub(r'\s|\\?\$|\\[,!;]', '', answer).rstrip('.')
  answer = re.sub(r'(?<=\d),(?=\d{3}(\D|$))', '', answer)
  number = re.fullmatch(r'([-+]?)0*(\d+)(?:\.(\d*?)0*)?', answer)
  if not number:
    return answer
  sign, whole, fraction = number.groups()
  value = f'{whole}.{fraction}' if fraction else whole
  return f'-{value}' if sign == '-' and value != '0' else value


def _has(text: str, line: str) -> bool:
  """Returns whether a text has a line as whole words."""
  pattern = rf'(?<!\w){re.escape(line)}(?!\w)'
  return bool(re.search(pattern, text, re.IGNORECASE))


class TextScorer:
  """Generates texts after the probes of named sets, and scores them.

  Attributes:
    names: of the sets that are scored: none without a score, or without the
      package that computes it.
  """

  def __init__(
    self,
    model: types.Model,
    tokenizer: types.Tokenizer,
    dataset: dataset_lib.Dataset,
    sets: Mapping[str, types.Probes],
    *,
    chunk: int,
  ):
    """Keeps the questions as tokens.

    Args:
      model: the transformer.
      tokenizer: of the run.
      dataset: names the score, and holds what texts are compared with.
      sets: the probes of the dataset as arrays; their prompts are used.
      chunk: most texts that are generated in one batch.
    """
    self._model, self._tokenizer, self._dataset = model, tokenizer, dataset
    self._chunk, self._sets = chunk, sets
    self._settings = dataset.text_score
    score = self._settings
    is_scored = score is not None and score.is_available
    self.names = [name for name in sets if is_scored and len(sets[name].gold_B)]

  def with_sets(self, sets: Mapping[str, types.Probes]) -> 'TextScorer':
    """Returns a scorer of other prompts of the same probes."""
    return TextScorer(
      self._model, self._tokenizer, self._dataset, sets, chunk=self._chunk
    )

  def __call__(
    self, weights: types.Weights, *, sets: int | None = None
  ) -> dict[str, float]:
    """Returns the score of each set.

    Args:
      weights: weights of the model.
      sets: number of sets to score, from the first; None scores all.
    """
    return {name: self._score(weights, name) for name in self.names[:sets]}

  def _score(self, weights: types.Weights, name: str) -> float:
    settings, probes = self._settings, self._sets[name]
    assert settings is not None  # Else there are no names.
    prompts = [
      row[:length].tolist()
      for row, length in zip(
        np.asarray(probes.prompts.tokens_BP),
        np.asarray(probes.prompts.length_B),
        strict=True,
      )
      for _ in range(settings.samples)
    ]
    written = asking.generate(
      self._model, weights, prompts,
      max_new=settings.max_new or probes.answer_BA.shape[1],
      ends=(self._tokenizer.eos,), temperature=settings.temperature,
      at_once=self._chunk,
    )  # fmt: skip
    texts = [self._text(tokens) for tokens in written]
    references = [
      (probe.reference or probe.answer).strip()
      for probe in self._dataset.probes[name]
    ]
    groups = [
      texts[n * settings.samples : (n + 1) * settings.samples]
      for n in range(len(references))
    ]
    return SCORES[settings.name](references, groups)

  def _text(self, tokens: Sequence[Any]) -> str:
    eos = self._tokenizer.eos
    return self._tokenizer.decode([t for t in tokens if t != eos]).strip()
