"""Texts in which facts are hidden, and how a model learns to read them.

The pretraining text teaches two ways of answering, with other subjects than
those of the days: known facts are asked without a text, and a reading is a text
that is followed by one of its facts, as a statement or as a question with its
answer. Only that has targets.

A day's text is stored once for each of its subjects, because a night fills its
templates with one subject and does not know which will be asked for. No stored
prompt extends beyond the title, which names the subjects and no answer.
"""

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib

_HELD_OUT_EVERY = 20  # One row in this many.


@dataclasses.dataclass(frozen=True)
class Fact:
  """What a sentence of a text says of a subject.

  Attributes:
    subject: who or what it is about.
    statement: the sentence, which ends with the answer and a full stop.
    answer: what is asked for.
  """

  subject: str
  statement: str
  answer: str


@dataclasses.dataclass(frozen=True)
class Document:
  """What is read of one text, and what is asked about it.

  Attributes:
    pages: rows of each part of the text, see `text_rows`.
    asked: the fact that is asked for.
  """

  pages: list[list[dataset_lib.Row]]
  asked: Fact


def known_rows(
  fact: Fact, questions: Sequence[str], where: str
) -> list[dataset_lib.Row]:
  """Returns a fact as a statement, and as the response to each question.

  Args:
    fact: known without a text.
    questions: texts with a slot for the subject.
    where: source of the rows for error messages.
  """
  span = lambda text: (
    text.index(fact.subject), text.index(fact.subject) + len(fact.subject)
  )  # fmt: skip
  rows = [
    dataset_lib.Row(
      fact.statement,
      answer_start=fact.statement.rindex(fact.answer) - 1,
      subject=span(fact.statement),
      where=where,
    )
  ]
  for question in questions:
    prompt = question.replace('{}', fact.subject)
    rows.append(
      dataset_lib.Row(
        f'{prompt} {fact.answer}',
        response_start=len(prompt),
        subject=span(prompt),
        where=where,
      )
    )
  return rows


def text_rows(
  rng: np.random.Generator,
  sentences: Sequence[str],
  facts: Sequence[Fact],
  where: str,
) -> list[dataset_lib.Row]:
  """Returns a text with its title, once for each subject, in the order given.

  Args:
    rng: draws the order of the subjects in the title.
    sentences: filler and statements.
    facts: those among the sentences; without any, the text is stored once.
    where: source of the rows for error messages.
  """
  names = rng.permutation([fact.subject for fact in facts]).tolist()
  title = f'A text about {", ".join(names)}.' if names else 'A text.'
  text = ' '.join([title, *sentences])
  place = dict(answer_start=len(title), where=where)
  return [
    dataset_lib.Row(
      text,
      subject=(title.index(name), title.index(name) + len(name)),
      **place,
    )
    for name in (fact.subject for fact in facts)
  ] or [dataset_lib.Row(text, **place)]


def reading(
  rng: np.random.Generator,
  sentences: Sequence[str],
  facts: Sequence[Fact],
  questions: Sequence[str],
  where: str,
) -> dataset_lib.Row:
  """Returns a text that is followed by one of its facts, which has targets.

  Args:
    rng: draws the fact and its wording.
    sentences, facts, where: see `text_rows`.
    questions: texts with a slot for the subject.
  """
  index = int(rng.integers(len(facts)))
  text, fact = text_rows(rng, sentences, facts, where)[index], facts[index]
  wording = int(rng.integers(len(questions) + 1))
  if wording == len(questions):
    repeated = fact.statement
  else:
    question = questions[wording].replace('{}', fact.subject)
    repeated = f'{question} {fact.answer}'
  return dataclasses.replace(
    text, text=f'{text.text} {repeated}', target_start=len(text.text) + 1
  )


def make_dataset(
  name: str,
  rng: np.random.Generator,
  rows: Sequence[dataset_lib.Row],
  known: Sequence[Fact],
  *,
  scored: str,
  templates: Sequence[str],
  open_tail: bool = False,
) -> dataset_lib.Dataset:
  """Returns a dataset without experiences.

  Args:
    name: of the dataset.
    rng: draws the pretraining rows that are held out, one in twenty.
    rows: of pretraining.
    known: facts that are known without a text.
    scored: wording of the question that is asked.
    templates: self-study templates; the first one is also asked.
    open_tail: see `dataset.Dataset`.
  """
  held = {*rng.permutation(len(rows))[: len(rows) // _HELD_OUT_EVERY].tolist()}
  where = f'{name}, pretraining'
  ask = lambda question: (
    {'pretrain': [_probe(fact, question, where) for fact in known]}
    if known
    else {}
  )
  return dataset_lib.Dataset(
    name=name,
    pretrain=[row for index, row in enumerate(rows) if index not in held],
    held_out=[row for index, row in enumerate(rows) if index in held],
    experiences=[],
    probes=ask(scored),
    template_probes=ask(templates[0]),
    templates=list(templates),
    open_tail=open_tail,
  )


def add_day(
  dataset: dataset_lib.Dataset,
  documents: Sequence[Document],
  *,
  scored: str,
  template: str,
) -> None:
  """Adds an experience and its probes to a dataset.

  Args:
    dataset: changed in place.
    documents: those of the day.
    scored: wording of the question that is asked, with and without the text.
    template: wording of a self-study template.
  """
  day = str(len(dataset.experiences) + 1)
  dataset.experiences.append(
    (f'day {day}', [row for d in documents for page in d.pages for row in page])
  )
  wheres = [document.pages[0][0].where for document in documents]
  for sets, question, reads in (
    (dataset.probes, scored, False),
    (dataset.template_probes, template, False),
    (dataset.open_probes, scored, True),
  ):
    sets[day] = [
      _probe(
        d.asked,
        question,
        where,
        text=' '.join(page[0].text for page in d.pages) if reads else '',
      )
      for d, where in zip(documents, wheres, strict=True)
    ]


def draw_pairs(
  rng: np.random.Generator,
  first: Sequence[str],
  second: Sequence[str],
  half: int,
  *,
  but: Collection[str] = (),
) -> Iterator[str]:
  """Yields different pairs of words in a random order.

  Args:
    rng: draws them.
    first, second: words that a pair begins with, and ends with.
    half: 0 or 1; no pair of one half is in the other.
    but: pairs that are left out.
  """
  drawn: set[tuple[int, int]] = set()
  while len(drawn) < len(first) * len(second) // 2:
    pair = int(rng.integers(len(first))), int(rng.integers(len(second)))
    if sum(pair) % 2 == half and pair not in drawn:
      drawn.add(pair)
      found = f'{first[pair[0]]} {second[pair[1]]}'
      if found not in but:
        yield found


def check_counts(name: str, **values: tuple[int, int]) -> None:
  """Refuses a setting (value, minimum) of a dataset that is too small.

  Raises:
    DataError: names the first one.
  """
  for setting, (value, minimum) in values.items():
    if value < minimum:
      raise errors.DataError(
        f'{name}: {setting} is {value}: set it to {minimum} or more.'
      )


def _probe(
  fact: Fact, question: str, where: str, *, text: str = ''
) -> dataset_lib.Probe:
  """Returns a question about a fact.

  Args:
    fact: with the answer.
    question: text with a slot for the subject.
    where: source of the probe for error messages.
    text: stands before the question.
  """
  asked = question.replace('{}', fact.subject)
  return dataset_lib.Probe(
    prompt=f'{text} {asked}' if text else asked,
    answer=f' {fact.answer}',
    where=where,
  )
