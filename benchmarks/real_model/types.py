"""A day of the study and its parts."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fact:
  """One fact about one person.

  Attributes:
    person: full name, or 'I' for the user.
    attribute: name of an attribute of `words`.
    value: of the attribute; '' if it was never told.
    day: number of the day that tells it, from 1; 0: none.
    replaces: the value that an earlier day told, '' if none did.
  """

  person: str
  attribute: str
  value: str
  day: int
  replaces: str = ''


@dataclasses.dataclass(frozen=True)
class Question:
  """A question in a wording that no row has.

  Attributes:
    text: the question, as it is asked in a chat.
    wording: 0 or 1, which of the wordings of its attribute it is.
    fact: what it asks for.
    statement: the fact as a sentence, for asking with it in the context; ''
      if it was never told.
  """

  text: str
  wording: int
  fact: Fact
  statement: str

  @property
  def prompt(self) -> str:
    """The question, as it is asked of a model without a chat template."""
    return f'Question: {self.text}\nAnswer:'

  @property
  def answer(self) -> str:
    """What should be answered."""
    return self.fact.value


@dataclasses.dataclass(frozen=True)
class Day:
  """The facts of a day, in three forms.

  Attributes:
    number: from 1.
    facts: about people; each about another one.
    preferences: of the user, which only the conversation tells.
    rows: {'prompt', 'response'}, each fact in four wordings.
    questions: about the facts, each in two other wordings.
    preference_questions: about the preferences, each in two wordings.
    pages: {'text'}, plain prose that states the facts among other sentences.
    conversation: messages with 'role' and 'content', which tell all facts and
      preferences.
  """

  number: int
  facts: tuple[Fact, ...]
  preferences: tuple[Fact, ...]
  rows: tuple[Mapping[str, str], ...]
  questions: tuple[Question, ...]
  preference_questions: tuple[Question, ...]
  pages: tuple[Mapping[str, str], ...]
  conversation: tuple[Mapping[str, Any], ...]
