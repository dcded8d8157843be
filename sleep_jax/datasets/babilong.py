"""Stories of who went where, scattered in a text that is longer than a window.

A document is filler text with the sentences of one story (bAbI, task 1) at
random places. It is read in pages, each a row with a title that names the
people on it. The question asks where one of them is. What sleep kept is asked
for without the text. In front of the question, only the end of the document
fits into the context, so the open probes measure truncation.

Stories share four names, so that no question without its text would have one
answer: each document gets people of its own. Pages are learned in no order, so
only stories that tell each person's place once are used.

References: bAbI (1502.05698); BABILong (2406.10149). New names, pages, titles
and the pretraining text are ours, see `hidden_facts`.
"""

import ast
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import (
  data_files,
  facts_words,
  hidden_facts,
  json_lines,
  row_files,
)
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import filler as filler_lib

_USAGE = (
  'The babilong dataset reads .jsonl or .jsonl.gz rows {"task", "context", '
  '"question", "answers"} of the bAbI tasks of Facebook AI Research (Weston et '
  'al. 2015, CC BY 3.0), of which those of task 1 are used. Without a path, '
  'stories are generated.'
)
_PRETRAIN = 'babilong, pretraining'
_TASK = '1'
_TEMPLATES = ('In which room is {}?', 'The place of {} is the')
_SCORED = 'Where is {}?'
_VERBS = ('moved', 'went', 'went back', 'journeyed', 'travelled')
_PLACES = 'bathroom bedroom garden hallway kitchen office'.split()
_MOST_PEOPLE = 4  # Of a generated story, as in bAbI.
_MOVE = re.compile(rf'(\w+) ({"|".join(_VERBS)}) to the (\w+)')
_ASKED = re.compile(r'Where is (\w+)\?')


@dataclasses.dataclass(frozen=True)
class _Story:
  """A story with a slot instead of each name.

  Attributes:
    moves: (what was done, place) of each person, each person once.
    asked: index of the one that is asked for.
  """

  moves: list[tuple[str, str]]
  asked: int

  def facts(self, names: Sequence[str]) -> list[hidden_facts.Fact]:
    """Returns what the story says if these are its people."""
    return [
      hidden_facts.Fact(name, f'{name} {verb} to the {place}.', place)
      for name, (verb, place) in zip(names, self.moves, strict=True)
    ]


def make(
  *,
  path: str | Sequence[str] | None = None,
  haystack: str | Sequence[str] | None = None,
  words: int = 180,
  page: int = 90,
  num_pretrain: int = 100,
  readings: int = 4000,
  num_days: int = 4,
  documents_per_day: int = 16,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of stories in long texts.

  Args:
    path: file, folder, pattern or list of rows of bAbI; None or '' generates
      stories.
    haystack: filler text, see `filler.Filler`.
    words: words of a document, its story included; the last sentence may be
      missing.
    page: largest number of words of a page, without its title. A sentence is
      never divided.
    num_pretrain: people whose place is known without a text.
    readings: number of texts with a question in the pretraining text; their
      filler has any number of words that a page allows.
    num_days: number of experiences.
    documents_per_day: documents of an experience, with one question each.
    seed: draws everything.
    stream_seed: if set, other documents are drawn for the experiences, and
      pretraining is unchanged: a stream for tuning.

  Raises:
    MissingFileError: a path matches nothing.
    DataError: a number is out of range, a row cannot be read (names file and
      line), or there are too few stories or names.
  """
  hidden_facts.check_counts(
    'babilong',
    words=(words, 60), page=(page, 60), num_pretrain=(num_pretrain, 0),
    readings=(readings, 0), num_days=(num_days, 1),
    documents_per_day=(documents_per_day, 1),
  )  # fmt: skip
  names = facts_words.FIRST_NAMES, facts_words.LAST_NAMES
  num_needed = num_pretrain + num_days * documents_per_day * _MOST_PEOPLE
  num_pairs = len(names[0]) * len(names[1]) // 2
  if num_needed > num_pairs:
    raise errors.DataError(
      f'babilong: up to {num_needed} names are needed, but there are '
      f'{num_pairs}: lower num_pretrain, num_days or documents_per_day.'
    )
  filler = filler_lib.Filler(haystack)

  def draw_sentences(rng, num_words: int, facts: Sequence[hidden_facts.Fact]):
    statements = [fact.statement for fact in facts]
    num_words -= sum(len(x.split()) for x in statements)
    return filler_lib.insert(
      rng, filler.draw(rng, max(0, num_words)), statements
    )

  rng = np.random.default_rng([seed, 0])
  known = [
    fact
    for name in itertools.islice(
      hidden_facts.draw_pairs(rng, *names, 0), num_pretrain
    )
    for fact in _make_story(rng, 1).facts([name])
  ]
  questions = (*_TEMPLATES, _SCORED)
  rows = [
    row
    for fact in known
    for row in hidden_facts.known_rows(fact, questions, _PRETRAIN)
  ]
  for _ in range(readings):
    story = _make_story(rng, 1 + rng.integers(_MOST_PEOPLE))
    people = hidden_facts.draw_pairs(rng, *names, 1)
    facts = story.facts([*itertools.islice(people, len(story.moves))])
    text = draw_sentences(rng, rng.integers(page + 1), facts)
    rows.append(
      hidden_facts.reading(rng, text, facts, questions, 'babilong, readings')
    )
  dataset = hidden_facts.make_dataset(
    'babilong', rng, rows, known, scored=_SCORED, templates=_TEMPLATES,
    open_tail=True,
  )  # fmt: skip

  tuning = stream_seed is not None
  rng = np.random.default_rng([seed, 1, 1 + stream_seed if tuning else 0])
  num = num_days * documents_per_day
  stories = _choose(path, seed, num, tuning=tuning) if path else None
  new_names = hidden_facts.draw_pairs(
    rng, *names, 0, but={fact.subject for fact in known}
  )
  for day in range(1, num_days + 1):
    documents = []
    for number in range(1, documents_per_day + 1):
      story = (
        stories.pop()
        if stories is not None
        else _make_story(rng, 2 + rng.integers(_MOST_PEOPLE - 1))
      )
      facts = story.facts([*itertools.islice(new_names, len(story.moves))])
      where = f'babilong, day {day}, document {number}'
      documents.append(
        hidden_facts.Document(
          [
            hidden_facts.text_rows(
              rng, sentences, [f for f in facts if f.statement in sentences],
              f'{where}, page {index}',
            )
            for index, sentences in enumerate(
              _pages(draw_sentences(rng, words, facts), page), 1
            )
          ],
          facts[story.asked],
        )
      )  # fmt: skip
    hidden_facts.add_day(
      dataset, documents, scored=_SCORED, template=_TEMPLATES[0]
    )
  return dataset


def _make_story(rng: np.random.Generator, num_people: int) -> _Story:
  """Draws a story of some people, each of whom goes to a place once."""
  draw = lambda items: items[rng.integers(len(items))]
  moves = [(draw(_VERBS), draw(_PLACES)) for _ in range(num_people)]
  return _Story(moves, int(rng.integers(num_people)))


def _pages(sentences: Sequence[str], size: int) -> list[list[str]]:
  """Divides sentences into pages of at most `size` words."""
  pages: list[list[str]] = [[]]
  left = size
  for sentence in sentences:
    num_words = len(sentence.split())
    if num_words > left and pages[-1]:
      pages.append([])
      left = size
    pages[-1].append(sentence)
    left -= num_words
  return pages


def _choose(
  path: str | Sequence[str], seed: int, num: int, *, tuning: bool
) -> list[_Story]:
  """Returns `num` stories of files; those for tuning are others."""
  stories = [*_read(path)]
  begin = num if tuning else 0
  if begin + num > len(stories):
    raise errors.DataError(
      f'babilong: the days{" after those of the stream itself" * tuning} need '
      f'{begin + num} stories, but {path} has {len(stories)} of task {_TASK} '
      "that tell each person's place once: lower num_days or "
      'documents_per_day.'
    )
  order = np.random.default_rng([seed, 2]).permutation(len(stories))
  return [stories[index] for index in order[begin : begin + num]]


def _read(path: str | Sequence[str]) -> Iterator[_Story]:
  """Yields the stories of task 1 that tell each person's place once."""
  for file in data_files.find(path, _USAGE):
    for where, row in row_files.read(file):
      if str(row.get('task')) != _TASK:
        continue
      context, question = (
        json_lines.text_field(row, field, where).strip()
        for field in ('context', 'question')
      )
      moves = {}
      sentences = [x for x in re.split(r'\.\s*', context) if x]
      for sentence in sentences:
        found = _MOVE.fullmatch(sentence)
        if not found:
          raise errors.DataError(
            f'{where}: field "context" has the sentence {sentence!r}: expected '
            f"one such as 'Mary moved to the kitchen.' {_USAGE}"
          )
        moves[found[1]] = found[2], found[3]
      asked = _ASKED.fullmatch(question)
      if not asked or asked[1] not in moves:
        raise errors.DataError(
          f'{where}: field "question" is {question!r}: expected "Where is '
          'NAME?" with one of the names of the story.'
        )
      answer = _answer(row, where)
      if answer != moves[asked[1]][1]:
        raise errors.DataError(
          f'{where}: field "answers" is {row["answers"]!r}: expected the place '
          f'of {asked[1]} in the story, {moves[asked[1]][1]!r}.'
        )
      if len(moves) == len(sentences):
        yield _Story([*moves.values()], [*moves].index(asked[1]))


def _answer(row: dict, where: str) -> str:
  """Returns the answer, which may be a list in a string, as "['kitchen']"."""
  value = row.get('answers')
  if isinstance(value, str) and value.startswith('['):
    try:
      value = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      pass  # Refused below.
  if isinstance(value, list) and value:
    value = value[0]
  if not isinstance(value, str) or not value:
    raise errors.DataError(
      f'{where}: field "answers" is {row.get("answers")!r}: expected the '
      'answer, or a list that starts with it.'
    )
  return value
