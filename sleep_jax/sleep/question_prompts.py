"""What a model reads to write questions, to answer them, and when it is asked.

The model continues examples, which small models follow better than
instructions. A stored question has two prompts: the student's, as a user will
ask it, and the teacher's, which ends in the same tokens and has the passage and
examples of answers in front.

References: 2606.03979 v2 section 3.3 (from in-context to parametric);
2005.14165 (examples in the prompt).
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from sleep_jax import errors, types
from sleep_jax.sleep import question_requests, question_text

CHAT, PLAIN = FORMS = ('chat', 'plain')


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a model writes questions about its day.

  Attributes:
    on: whether it does. A model that was pretrained here never does.
    per_sentence: most questions about a sentence that are stored.
    attempts: how often it writes about a sentence, each time after other
      examples, as long as there are fewer questions.
    temperature: of all attempts but the first, which takes the likeliest
      tokens.
    forms: how the questions will be asked: 'chat' (a message in the model's
      chat template, if it has one) and 'plain' ('Question: ... Answer:'). As
      rows of a day, those about one sentence have one form each, in turn.
    about_subjects: requests about the subject of each sentence, as 'Tell me
      about Ada.', that the sentence itself answers; at most 4, and 2 about what
      no user says. With any, what users say of themselves is asked for once by
      each of its words, as 'What did I say about tea?'. Requests are in the
      chat template, if the model has one.
  """

  on: bool = False
  per_sentence: int = 6
  attempts: int = 2
  temperature: float = 0.7
  forms: tuple[str, ...] = FORMS
  about_subjects: int = 0


def make_settings(**fields: Any) -> Settings:
  """Returns checked settings.

  Args:
    **fields: of `Settings`.

  Raises:
    ConfigError: there is no such form, or none, or too many requests.
  """
  made = Settings(**fields | {'forms': tuple(fields.get('forms', FORMS))})
  if not made.forms or set(made.forms) - set(FORMS):
    raise errors.ConfigError(
      f'config.questions.forms is {made.forms}: expected some of {FORMS}.'
    )
  if made.about_subjects > question_requests.MOST:
    raise errors.ConfigError(
      f'config.questions.about_subjects is {made.about_subjects}: expected at '
      f'most {question_requests.MOST}.'
    )
  return made


class Example(NamedTuple):
  """A text, a question about it and its answer."""

  text: str
  question: str
  answer: str


# One group for each attempt, in turn.
EXAMPLES = (
  (
    Example(
      'Mara Lund was born in Turku. She keeps bees.',
      'What does Mara Lund keep?', 'Mara Lund keeps bees.',
    ),
    Example(
      'Ivo Senn has been an actor in Bern since May.',
      'Where does Ivo Senn work?', 'Ivo Senn works in Bern.',
    ),
  ),
  (
    Example(
      'Nobody in Turku sings as well as Mara Lund.',
      'What is Mara Lund good at?', 'Mara Lund is good at singing.',
    ),
    Example(
      'Every summer Ivo Senn drives a red van to the coast.',
      'What kind of vehicle does Ivo Senn have?', 'Ivo Senn has a red van.',
    ),
  ),
)  # fmt: skip


class Template(Protocol):
  """What is needed of a `chat_template.ChatTemplate`."""

  def encode(self, messages: Sequence[Mapping[str, Any]]) -> list[int]: ...


class StoredQuestion(NamedTuple):
  """A question as it is stored.

  Attributes:
    prompt: tokens that the student reads, BOS first.
    context: first tokens of what the teacher reads.
    replaces: the teacher reads them in place of so many of the prompt.
  """

  prompt: list[int]
  context: list[int]
  replaces: int


@dataclasses.dataclass(frozen=True)
class QuestionPrompts:
  """Renders passages and questions as tokens.

  Attributes:
    tokenizer: of the model.
    template: its chat template, or None.
    forms: see `Settings`.
  """

  tokenizer: types.Tokenizer
  template: Template | None
  forms: Sequence[str] = FORMS

  def writing_prompt(
    self, passage: question_text.Passage, attempt: int
  ) -> list[int]:
    """Returns what the model reads to write questions about a passage."""
    examples = EXAMPLES[attempt % len(EXAMPLES)]
    shown = ''.join(f'Text: {e.text}\nQuestion: {e.question}\n\n'
                    for e in examples)  # fmt: skip
    return self._plain(f'{shown}Text: {passage.text}\nQuestion:')

  def opening(self, opening: str) -> list[int]:
    """Returns the first tokens of a question."""
    return self.tokenizer.encode(f' {opening}')

  def banned(self, word: str) -> list[int]:
    """Returns the tokens that begin a word, small and capitalized."""
    forms = {form for w in (word, word.capitalize()) for form in (w, f' {w}')}
    firsts = {self.tokenizer.encode(form)[0] for form in sorted(forms)}
    # A piece of one letter begins too many other words.
    return sorted(
      t for t in firsts if len(self.tokenizer.decode([t]).strip()) > 1
    )

  def answering_prompt(self, passage: question_text.Passage) -> list[int]:
    """Returns what the model reads to answer questions about a passage."""
    return self._plain(f'{_answered()}Text: {passage.text}\n')

  def question(self, question: str) -> list[int]:
    """Returns a question, to follow `answering_prompt`."""
    return self.tokenizer.encode(f'Question: {question}\nAnswer:')

  def stored_questions(
    self, question: str, passage: question_text.Passage
  ) -> list[StoredQuestion]:
    """Returns a question in each form, with what its teacher reads."""
    found = []
    for form in self.forms:
      if form == PLAIN:
        last = f'Question: {question}\nAnswer:'
        student = self._plain(last)
        teacher = self._plain(f'{_answered()}Text: {passage.text}\n{last}')
      elif self.template is not None:
        turns = [
          turn for e in EXAMPLES[0]
          for turn in (
            {'role': 'user', 'content': f'{e.text}\n{e.question}'},
            {'role': 'assistant', 'content': e.answer},
          )
        ]  # fmt: skip
        student = self._chat([{'role': 'user', 'content': question}])
        text = f'{passage.text}\n{question}'
        teacher = self._chat([*turns, {'role': 'user', 'content': text}])
      else:
        continue
      found.append(_stored_question(student, teacher))
    return found

  def _plain(self, text: str) -> list[int]:
    return [self.tokenizer.bos, *self.tokenizer.encode(text)]

  def _chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    tokens = self.template.encode(messages)
    more = tokens[0] != self.tokenizer.bos
    return [self.tokenizer.bos] * more + tokens


def ends_line(tokenizer: types.Tokenizer, also: str = '') -> np.ndarray:
  """Returns bool `[V]`, the tokens that end a line.

  Args:
    tokenizer: of the model.
    also: a character that ends it too.
  """
  ends_V = np.zeros(tokenizer.vocab_size, bool)
  for token in range(tokenizer.vocab_size):
    text = tokenizer.decode([token])
    ends_V[token] = '\n' in text or bool(also) and also in text
  ends_V[[tokenizer.bos, tokenizer.eos]] = True
  return ends_V


def _answered() -> str:
  return ''.join(
    f'Text: {e.text}\nQuestion: {e.question}\nAnswer: {e.answer}\n\n'
    for e in EXAMPLES[0]
  )


def _stored_question(student: list[int], teacher: list[int]) -> StoredQuestion:
  """Returns a student's prompt and the part of the teacher's that differs."""
  reversed_rows = [student[::-1], teacher[::-1]]
  same = len(os.path.commonprefix(reversed_rows))
  same = min(same, len(student) - 1, len(teacher) - 1)  # BOS is replaced.
  return StoredQuestion(
    student, teacher[: len(teacher) - same], len(student) - same
  )
