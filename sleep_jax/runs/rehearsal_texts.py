"""Texts that a pretrained model writes before its first day, and rehearses.

Nothing of the text that a model was pretrained on is stored with it. Half of
the texts begin with a random token and stand for ordinary text, which is the
most varied. A quarter are conversations: the model continues its chat template
where a user would write, and then answers. In the last quarter the model is
asked about a passage: it writes the passage from a random token on, a question
about it, and the answer. Further texts are questions about people whom the
model invents, so that it does not say of strangers what it is told of others.
Nights and the KL penalty keep the predictions of the initial model on them.

References: conversations from the template alone, 2406.08464; texts that begin
with a random token, 2305.17888 section 3.1; questions about a passage that the
model asks itself, 2506.06266; what an edit must not change, 2206.06520.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.evaluate import asking
from sleep_jax.replay import buffer
from sleep_jax.runtime import processes, sharding
from sleep_jax.sleep import (
  question_prompts,
  question_requests,
  question_text,
)

_LEAST = 8  # Tokens of an answer for which there must be room.
_BATCH = 64  # Texts that the model writes at once.
_ROWS = 32  # Those that it reads at once.
# Two requests without a common beginning.
_TWO_REQUESTS = 'Why?', '12 eggs'
# Of conversations, passages and questions: likely ones are worth rehearsing.
# Texts that stand for ordinary text are sampled as the model predicts it.
_LIKELY, _AS_PREDICTED = 0.7, 1.0
_QUESTION = 16  # Most tokens of a question about a passage.
_SENTENCE = 24  # Most tokens of a sentence about a person.
_TRIES = 3  # Sentences for each person that is needed: names differ.
_PEOPLE = (
  'Mara Lund keeps bees.',
  'Ivo Senn has been an actor in Bern since May.',
  'Every summer Petra Holm drives a red van to the coast.',
  'Omar Idris is very good at drawing.',
)
# How a question about a passage is put, in turn.
_ASKED = (
  '{passage}\n\n{question}',
  '{question}\n\n{passage}',
  'Text: {passage}\n\nAnswer from the text: {question}',
)


class Text(NamedTuple):
  """A text.

  Attributes:
    tokens: of the whole text.
    start: of its first token that the model wrote.
  """

  tokens: list[int]
  start: int


def write(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  form: asking.Form,
  *,
  num: int,
  width: int,
  seed: int,
  people: int = 0,
  advance: Callable[[int], None] = lambda num: None,
) -> list[Text]:
  """Returns texts that a model wrote.

  Args:
    model, weights, tokenizer: of the model.
    form: how it is asked.
    num: number of texts. Fewer are returned if some requests are empty.
    width: most tokens of a text.
    seed: of sampling.
    people: how many of the texts are about people whom the model invents.
    advance: called with the number of texts that were finished.

  Raises:
    ConfigError: the form leaves no room for a request and an answer.
  """
  asks = [form.ask(text) for text in _TWO_REQUESTS]
  opening = os.path.commonprefix(asks)
  around = max(map(len, asks)) - 1
  # A third of what is left is for the request.
  room = (width - around) // 3
  if room < _LEAST // 2:
    needed = around + 3 * (_LEAST // 2)
    raise errors.ConfigError(
      f'config.consolidate.max_length is {width}, but a request of one token '
      f'takes {around + 1} in the form in which the model is asked. '
      f'config.replay.own_texts needs a max_length of {needed} or more.'
    )
  writer = _Writer(model, weights, tokenizer, form.ends, seed)
  num_readings = num_requests = (num - people) // 4
  requests = writer.sample([opening] * num_requests, room, 0)
  asked = [tokenizer.decode(tokens).strip() for tokens in requests]
  num_free = num - people - num_readings - num_requests
  beginnings, free = writer.free(num_free, width, 1, _AS_PREDICTED)
  advance(num_free)
  room = width - around - _QUESTION - 2 * _LEAST
  if room >= _LEAST:
    asked += writer.readings(num_readings, room)
  asked += writer.questions_about_people(people)
  prompts = [form.ask(text) for text in asked if text]
  # Written again, a text may have more tokens.
  prompts = [prompt for prompt in prompts if len(prompt) <= width - _LEAST]
  longest = width - min(map(len, prompts), default=0)
  answers = writer.sample(prompts, longest, 2)
  advance(len(answers))
  return [
    Text([*prompt, *answer][:width], start)
    for prompts, parts, start in (
      (prompts, answers, max(len(opening), 1)), (beginnings, free, 1)
    )
    for prompt, answer in zip(prompts, parts, strict=True)
  ]  # fmt: skip


class _Writer(NamedTuple):
  """A model that writes, with the tokens that end a text."""

  model: types.Model
  weights: types.Weights
  tokenizer: types.Tokenizer
  ends: Sequence[int]
  seed: int

  def sample(self, prompts, size, part, temperature=_LIKELY) -> list[list[int]]:
    """Returns up to `size` tokens after each prompt; a part has its own key."""
    return asking.generate(
      self.model, self.weights, prompts, max_new=size, ends=self.ends,
      temperature=temperature, seed=5 * self.seed + part, at_once=_BATCH,
    )  # fmt: skip

  def free(
    self, num, width, part, temperature
  ) -> tuple[list[list[int]], list[list[int]]]:
    """Returns random beginnings and what follows them."""
    allowed = np.setdiff1d(np.arange(self.tokenizer.vocab_size), self.ends)
    first = np.random.default_rng([self.seed, part]).choice(allowed, num)
    beginnings = [[self.tokenizer.bos, int(token)] for token in first]
    return beginnings, self.sample(beginnings, width - 2, part, temperature)

  def readings(self, num, room) -> list[str]:
    """Returns passages of up to `room` tokens, each with a question about it.

    Where the model wrote no question, there is nothing.
    """
    decode = self.tokenizer.decode
    begun = self.free(num, room + 1, 3, _LIKELY)
    passages = [
      decode([first, *(t for t in rest if t not in self.ends)]).strip()
      for (_, first), rest in zip(*begun, strict=True)
    ]
    shown = question_prompts.QuestionPrompts(self.tokenizer, None)
    prompts = [
      shown.writing_prompt(question_text.Passage(passage, passage, ''), 0)
      for passage in passages
    ]
    lines = [
      decode(tokens).strip().split('\n')[0]
      for tokens in self.sample(prompts, _QUESTION, 4)
    ]
    return [
      _ASKED[number % len(_ASKED)].format(
        passage=passage, question=line[: line.index('?') + 1]
      )
      for number, (passage, line) in enumerate(
        zip(passages, lines, strict=True)
      )
      if '?' in line
    ]

  def questions_about_people(self, num) -> list[str]:
    """Returns questions about up to `num` people whom the model invents.

    Each is about another one. Every third is a request, as 'Who is Bo Lind?',
    and so is one where the model wrote no question that names the person.
    """
    people = self._people(num)
    shown = question_prompts.QuestionPrompts(self.tokenizer, None)
    openings, prompts = [], []
    for number, person in enumerate(people):
      openings.append(person.openings[number % len(person.openings)])
      given = shown.opening(openings[-1])
      prompts.append([*shown.writing_prompt(person, number), *given])
    rest = self.sample(prompts, _QUESTION, 6)
    questions = []
    for number, (person, opening, tokens) in enumerate(
      zip(people, openings, rest, strict=True)
    ):
      line = (opening + self.tokenizer.decode(tokens)).split('\n')[0]
      question = line[: line.find('?') + 1]
      if number % 3 == 2 or question_text.why_unusable(question, person):
        forms = question_requests.ABOUT_PEOPLE
        question = forms[number // 3 % len(forms)].format(person.subject)
      questions.append(question)
    return questions

  def _people(self, num) -> list[question_text.Passage]:
    """Returns sentences about up to `num` people, each about another one."""
    if not num:
      return []
    begun = 'Sentences about different people.\n- ' + '\n- '.join(_PEOPLE)
    start = [self.tokenizer.bos, *self.tokenizer.encode(f'{begun}\n-')]
    found: dict[str, question_text.Passage] = {}
    for tokens in self.sample([start] * (_TRIES * num), _SENTENCE, 5):
      line = self.tokenizer.decode(tokens).split('\n')[0].strip()
      for passage in question_text.passages([line])[:1]:
        name = passage.subject
        is_full = ' ' in name and question_text.is_name(name)
        if is_full and line.endswith('.') and name not in begun:
          found.setdefault(name, passage)
    return [*found.values()][:num]


def insert(
  replay: dict[str, state_lib.AgeGroup],
  texts: list[Text],
  model: types.Model,
  weights: types.Weights,
  placement: sharding.Placement,
) -> dict[str, state_lib.AgeGroup]:
  """Returns age groups with texts of the initial model, and its states.

  Args:
    replay: with an empty group of own texts. Where there are fewer texts than
      places, the first ones are repeated.
    texts: see `write`.
    model, weights: that wrote them.
    placement: of the arrays.
  """
  empty = replay[buffer.OWN_TEXTS]
  num, width = empty.tokens_CP.shape
  filled = [texts[n % len(texts)] for n in range(num)]
  tokens_CP = np.zeros((num, width), np.int32)
  for row_P, text in zip(tokens_CP, filled, strict=True):
    row_P[: len(text.tokens)] = text.tokens
  length_C = np.array([len(text.tokens) for text in filled], np.int32)
  start_C = np.array([text.start for text in filled], np.int32)
  parts = [
    processes.fetch(
      _states(model, weights, tokens_CP[n], length_C[n], start_C[n])
    )
    for n in np.split(np.arange(num), range(_ROWS, num, _ROWS))
  ]
  group = state_lib.AgeGroup(
    tokens_CP=tokens_CP, length_C=length_C,
    subject_C2=np.stack([start_C, length_C], 1),
    step_C=np.zeros(num, np.int32), count=np.int32(num),
    states_CGD=np.concatenate(parts),
  )  # fmt: skip
  return replay | placement.put({buffer.OWN_TEXTS: group}, prefix='replay/')


@functools.partial(jax.jit, static_argnums=0)
def _states(model, weights, tokens_BT, length_B, start_B):
  """Returns the states that predict the tokens from `start_B` on."""
  width = tokens_BT.shape[1]
  at_BG = start_B[:, None] - 1 + jnp.arange(width - 1)[None]
  states_BGD = model.states_at(
    weights, *types.model_inputs(tokens_BT, length_B),
    jnp.clip(at_BG, 0, width - 1),
  )  # fmt: skip
  return states_BGD.astype(jnp.float32)
