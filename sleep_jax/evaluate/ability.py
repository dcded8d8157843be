"""Measures what a pretrained model could do at first and can still do.

Three parts, each a pure function of a model, its weights and a set:

  text: loss on ordinary text, nats a token;
  everyday: KL(initial model || model) on answers to everyday requests that the
    initial model wrote, nats a token;
  reading: questions about a passage in the prompt, see `reading`.

`measure` takes all of them, `compare` says what changed since the initial
model:

    form = asking.make_form(tokenizer, chat_template)  # Or None.
    sets = ability.Sets(
      text=text_windows.load(path, tokenizer, 20_000),
      everyday=ability.write_answers(
        model, first, form, everyday_prompts.REPORTED, max_new=32),
      reading=reading.load(squad, tokenizer, 300),
    )
    before = ability.measure(model, first, tokenizer, form, sets)
    after = ability.measure(model, weights, tokenizer, form, sets)
    ability.compare(model, first, weights, before, after)

With the same weights every change is exactly 0. `first_part` makes sets smaller
for a cheap measurement that is still compared with the same items.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sleep_jax import types
from sleep_jax.evaluate import asking, text_windows, token_rows
from sleep_jax.evaluate import reading as reading_lib

Target = token_rows.Target


@dataclasses.dataclass(frozen=True)
class Answers:
  """Answers of the initial model to requests; M counts tokens of all answers.

  Attributes:
    prompts: tokens of each request.
    answers: tokens of each answer, with the end token if it ended.
    states_MD: inputs of the initial model's head that predict each token.
  """

  prompts: Sequence[Sequence[int]]
  answers: Sequence[Sequence[int]]
  states_MD: np.ndarray

  def targets(self) -> list[Target]:
    """Returns the requests with their answers, whose tokens are predicted."""
    return targets(self.prompts, self.answers)


@dataclasses.dataclass(frozen=True)
class Sets:
  """What a model is measured on; a part that is None is left out.

  Attributes:
    text: windows of text, see `text_windows.load`.
    everyday: see `write_answers`.
    reading: see `reading.load`.
  """

  text: Sequence[Target] | None = None
  everyday: Answers | None = None
  reading: Sequence[reading_lib.Question] | None = None

  def first_part(self, text_tokens: int, questions: int) -> 'Sets':
    """Returns smaller sets: the first tokens and the first questions.

    Args:
      text_tokens: predicted tokens of text.
      questions: of reading.
    """
    return dataclasses.replace(
      self,
      text=self.text and text_windows.cut(self.text, text_tokens),
      reading=self.reading and self.reading[:questions],
    )


@dataclasses.dataclass(frozen=True)
class Measured:
  """What `measure` returns; a part that was left out is None.

  Attributes:
    text_nats_M: loss of each token of text, f32.
    states_MD: inputs of the head on the everyday answers.
    texts: answers to the questions of reading.
    contained_N, exact_N: whether they are right, see `reading.score`.
  """

  text_nats_M: np.ndarray | None = None
  states_MD: np.ndarray | None = None
  texts: list[str] | None = None
  contained_N: np.ndarray | None = None
  exact_N: np.ndarray | None = None

  def first_part(self, text_tokens: int, questions: int) -> 'Measured':
    """Returns what `Sets.first_part` would have given."""
    cut = lambda x, size: None if x is None else x[:size]
    return Measured(
      cut(self.text_nats_M, text_tokens), self.states_MD,
      cut(self.texts, questions), cut(self.contained_N, questions),
      cut(self.exact_N, questions),
    )  # fmt: skip


def targets(
  prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Target]:
  """Returns prompts with their answers, whose tokens are predicted."""
  return [
    Target([*prompt, *answer], len(prompt))
    for prompt, answer in zip(prompts, answers, strict=True)
  ]


def write_answers(
  model: types.Model,
  first: types.Weights,
  form: asking.Form,
  requests: Sequence[str],
  *,
  max_new: int,
) -> Answers:
  """Returns the greedy answers of the initial model to requests.

  Args:
    model: the network.
    first: weights of the initial model.
    form: see `asking.make_form`.
    requests: texts.
    max_new: most tokens of an answer.
  """
  prompts = [form.ask(text) for text in requests]
  answers = asking.generate(
    model, first, prompts, max_new=max_new, ends=form.ends
  )
  rows = token_rows.pack(targets(prompts, answers))
  return Answers(prompts, answers, token_rows.states(model, first, rows))


def text_nats(
  model: types.Model, weights: types.Weights, windows: Sequence[Target]
) -> np.ndarray:
  """Returns the loss of each predicted token, nats, f32 `[M]`.

  Also of other texts than `text_windows.load` returns.
  """
  rows = token_rows.pack(windows)
  states_MD = token_rows.states(model, weights, rows)
  return token_rows.nats(model, weights, states_MD, rows.target_M)


def measure(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  form: asking.Form,
  sets: Sets,
  *,
  apart: int = 0,
) -> Measured:
  """Measures a model on all parts.

  Args:
    model, weights, tokenizer: of the model.
    form: see `asking.make_form`.
    sets: what it is measured on.
    apart: questions that are asked first, in batches of their own. They get the
      same answers, bit for bit, as without the others.
  """
  nats_M = states_MD = texts = contained_N = exact_N = None
  if sets.text:
    nats_M = text_nats(model, weights, sets.text)
  if sets.everyday:
    rows = token_rows.pack(sets.everyday.targets())
    states_MD = token_rows.states(model, weights, rows)
  if sets.reading:
    texts = [
      text
      for part in (sets.reading[:apart], sets.reading[apart:])
      for text in reading_lib.ask(model, weights, tokenizer, form, part)
    ]
    contained_N, exact_N = reading_lib.score(sets.reading, texts)
  return Measured(nats_M, states_MD, texts, contained_N, exact_N)


def compare(
  model: types.Model,
  first: types.Weights,
  weights: types.Weights,
  before: Measured,
  after: Measured,
) -> dict[str, Any]:
  """Returns what is reported of a measurement, for JSON.

  Args:
    model: the network.
    first, weights: of the initial model and of the measured one.
    before: of the initial model, on the same sets.
    after: of the measured one.

  Returns:
    'text': number of 'tokens', 'loss' (nats a token), 'perplexity', and
      'change', the relative change of the perplexity.
    'everyday': number of 'tokens' and 'kl' (nats a token).
    'reading': number of 'questions', shares 'contained' and 'exact', the
      'change' of the share contained with its paired bootstrap interval ('low',
      'high'), 'exact_change', and 'right', 0 or 1 for each question.
    Parts that were left out are missing.
  """
  found: dict[str, Any] = {}
  if after.text_nats_M is not None:
    found['text'] = _compare_text(before.text_nats_M, after.text_nats_M)
  if after.states_MD is not None:
    kl_M = token_rows.divergences(
      model, first, before.states_MD, weights, after.states_MD
    )
    found['everyday'] = {
      'tokens': len(kl_M), 'kl': float(np.mean(kl_M, dtype=np.float64))
    }  # fmt: skip
  if after.contained_N is not None:
    found['reading'] = _compare_reading(before, after)
  return found


def _compare_text(before_M, after_M) -> dict[str, Any]:
  before, after = (
    float(np.mean(x, dtype=np.float64)) for x in (before_M, after_M)
  )
  return {
    'tokens': len(after_M), 'loss': after, 'perplexity': float(np.exp(after)),
    'change': float(np.expm1(after - before)),
  }  # fmt: skip


def _compare_reading(before: Measured, after: Measured) -> Mapping[str, Any]:
  low, high = reading_lib.paired_interval(before.contained_N, after.contained_N)
  contained, exact = (
    (float(np.mean(old)), float(np.mean(new)))
    for old, new in (
      (before.contained_N, after.contained_N),
      (before.exact_N, after.exact_N),
    )
  )
  return {
    'questions': len(after.contained_N), 'contained': contained[1],
    'exact': exact[1], 'change': contained[1] - contained[0], 'low': low,
    'high': high, 'exact_change': exact[1] - exact[0],
    'right': after.contained_N.astype(int).tolist(),
  }  # fmt: skip
