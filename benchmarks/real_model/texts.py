"""Facts as rows, questions, pages and conversations."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.real_model import types, words

NUM_PAGES = 5  # Pages of a day.
MIN_WORDS = 65  # Words of a page, at least; it ends with the next sentence.
_ATTRIBUTES = {a.name: a for a in (*words.ATTRIBUTES, *words.PREFERENCES)}


def rows(facts: Iterable[types.Fact]) -> list[dict[str, str]]:
  """Returns the rows that are learned: each fact in four wordings."""
  return [
    {
      'prompt': f'Question: {wording.format(fact.person)}\nAnswer:',
      'response': f' {fact.value}',
    }
    for fact in facts
    for wording in _ATTRIBUTES[fact.attribute].learned
  ]


def questions(fact: types.Fact) -> list[types.Question]:
  """Returns the questions that ask for a fact, in wordings that no row has."""
  attribute = _ATTRIBUTES[fact.attribute]
  wordings = attribute.written or attribute.said
  statement = _fill(wordings[0], fact) if fact.value else ''
  return [
    types.Question(wording.format(fact.person), number, fact, statement)
    for number, wording in enumerate(attribute.asked)
  ]


def row_questions(fact: types.Fact) -> list[types.Question]:
  """Returns the questions of `rows`, which pages and conversations have not."""
  first, *_ = asked = questions(fact)
  return [
    dataclasses.replace(first, text=wording.format(fact.person), wording=number)
    for number, wording in enumerate(
      _ATTRIBUTES[fact.attribute].learned, len(asked)
    )
  ]


def pages(
  facts: Sequence[types.Fact], rng: np.random.Generator
) -> list[dict[str, str]]:
  """Returns pages of prose, 65 to 120 words long, that state the facts.

  Args:
    facts: of a day; each stands on one page.
    rng: draws wordings and the sentences between facts.
  """
  openings = [str(text) for text in rng.permutation(words.OPENINGS)]
  found = []
  for number in range(NUM_PAGES):
    fillers = [str(text) for text in rng.permutation(words.FILLERS)]
    sentences = [openings[number % len(openings)]]
    for fact in facts[number::NUM_PAGES]:
      sentences += [_written(fact, rng), fillers.pop()]
    while _num_words(sentences) < MIN_WORDS:
      sentences.append(fillers.pop())
    found.append({'text': ' '.join(sentences)})
  return found


def conversation(
  facts: Sequence[types.Fact],
  preferences: Sequence[types.Fact],
  rng: np.random.Generator,
) -> list[dict[str, str]]:
  """Returns messages in which a user tells facts in free sentences.

  A message tells one fact. The answers repeat none of them.

  Args:
    facts: about people, of a day.
    preferences: of the user.
    rng: draws the order, the wordings and the answers.
  """
  told = [_said(fact, rng) for fact in (*facts, *preferences)]
  told = [told[n] for n in rng.permutation(len(told))]
  said = [str(rng.choice(words.GREETINGS)), *told]
  messages = []
  for text in said:
    reply = str(rng.choice(words.REPLIES))
    messages += [
      {'role': 'user', 'content': text},
      {'role': 'assistant', 'content': reply},
    ]
  return messages


def _written(fact: types.Fact, rng: np.random.Generator) -> str:
  """Returns a fact as a sentence of a page."""
  attribute = _ATTRIBUTES[fact.attribute]
  if fact.replaces:
    return _fill(attribute.changed, fact)
  return _fill(str(rng.choice(attribute.written)), fact)


def _said(fact: types.Fact, rng: np.random.Generator) -> str:
  """Returns what a user says about a fact."""
  attribute = _ATTRIBUTES[fact.attribute]
  if attribute in words.PREFERENCES:
    return _fill(attribute.said[0], fact)
  if fact.replaces:
    return 'Something has changed. ' + _fill(attribute.changed, fact)
  start, relation = rng.choice(words.STARTS), rng.choice(words.RELATIONS)
  owner = 'My' if start.endswith('? ') else 'my'
  told = _fill(str(rng.choice(attribute.said)), fact)
  return f'{start}{owner} {relation} {told}'


def _fill(template: str, fact: types.Fact) -> str:
  """Returns a sentence about a fact, with 'an' before a vowel."""
  if template.count('{}') == 1:
    return template.format(fact.value)
  text = template.format(fact.person, fact.value)
  if fact.value[0] in 'aeio':
    text = text.replace(f' a {fact.value}', f' an {fact.value}')
  return text


def _num_words(sentences: Iterable[str]) -> int:
  return len(' '.join(sentences).split())
