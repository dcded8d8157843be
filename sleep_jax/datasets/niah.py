"""Needles in a haystack: magic numbers hidden in filler text, asked for later.

A document has several keys, each with a number, and one of them is asked for:
with the document in front of the question, and without it.

References: RULER (2404.06654), multi-key needles. The titles and the
pretraining text are ours, see `hidden_facts`.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import filler as filler_lib
from sleep_jax.datasets import hidden_facts

_USAGE = (
  'The niah dataset reads a text file with one word per line, of which pairs '
  'are keys: any list of common words, such as one that you made from books in '
  'the public domain. Without a path, keys are made from built-in lists.'
)
_PRETRAIN = 'niah, pretraining'
_STATEMENT = 'One of the special magic numbers for {} is: {}.'
_TEMPLATES = (
  'The special magic number for {} is',
  'Which special magic number does {} have? It is',
)
_SCORED = (
  'What is the special magic number for {} mentioned in the provided text? The '
  'special magic number for {} mentioned in the provided text is'
)
_FIRST = (
  'angry basic big bold brave brief calm clever cool cute dark deep eager '
  'early fair fancy fast fine fresh full funny gentle glad good grand great '
  'happy hot icy kind lazy light long loud lucky mad mild neat nice odd'
).split()
_SECOND = (
  'ant ape bat bear bee bird boar bull cat cow crab crow deer dog dove duck '
  'eagle finch fish fox frog goat goose hare hawk hen horse lamb lion mole '
  'mouse mule otter owl pig rat seal sheep swan wolf'
).split()


def make(
  *,
  path: str | None = None,
  haystack: str | Sequence[str] | None = None,
  words: int = 100,
  keys: int = 4,
  digits: int = 2,
  num_pretrain: int = 100,
  readings: int = 4000,
  num_days: int = 4,
  documents_per_day: int = 16,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of documents with needles.

  Args:
    path: file of words for keys; None or '' takes built-in lists.
    haystack: filler text, see `filler.Filler`.
    words: largest number of words of filler in a document. Texts of readings
      have any number up to it.
    keys: needles of a document. Texts of readings have 1 to so many: from one
      needle a model learns to copy, from several which one is meant.
    digits: of a number.
    num_pretrain: keys whose numbers are known without a text.
    readings: number of texts with a question in the pretraining text.
    num_days: number of experiences.
    documents_per_day: documents of an experience, with one question each.
    seed: draws everything.
    stream_seed: if set, other documents are drawn for the experiences, and
      pretraining is unchanged: a stream for tuning.

  Raises:
    MissingFileError: a path matches nothing.
    DataError: a number is out of range, a line is not a word (names it), or
      there are too few words.
  """
  hidden_facts.check_counts(
    'niah',
    words=(words, 0), keys=(keys, 1), digits=(digits, 1),
    num_pretrain=(num_pretrain, 0), readings=(readings, 0),
    num_days=(num_days, 1), documents_per_day=(documents_per_day, 1),
  )  # fmt: skip
  lowest = 10 ** (digits - 1)
  if keys > 9 * lowest:
    raise errors.DataError(
      f'niah: {keys} keys of a document need different numbers, but there are '
      f'{9 * lowest} of {digits} digits: raise digits.'
    )
  first, second = (_read_words(path),) * 2 if path else (_FIRST, _SECOND)
  num_needed = num_pretrain + num_days * documents_per_day * keys
  num_pairs = len(first) * len(second) // 2
  if num_needed > num_pairs:
    raise errors.DataError(
      f'niah: {num_needed} keys are needed, but the words of '
      f'{path or "the built-in lists"} make {num_pairs}: lower num_pretrain, '
      'num_days or documents_per_day, or give a longer list.'
    )
  filler = filler_lib.Filler(haystack)

  def draw_text(rng, num_words: int, num: int, names: Iterator[str]):
    """Returns the sentences of a document, and its `num` needles."""
    numbers = lowest + rng.choice(9 * lowest, num, replace=False)
    # The numbers first: what ends a zip has taken one of what stands before.
    facts = [_needle(key, n) for n, key in zip(numbers, names, strict=False)]
    statements = [fact.statement for fact in facts]
    return filler_lib.insert(
      rng, filler.draw(rng, num_words), statements
    ), facts

  rng = np.random.default_rng([seed, 0])
  known = [
    _needle(key, lowest + rng.integers(9 * lowest))
    for key in itertools.islice(
      hidden_facts.draw_pairs(rng, first, second, 0), num_pretrain
    )
  ]
  questions = (*_TEMPLATES, _SCORED)
  rows = [
    row
    for fact in known
    for row in hidden_facts.known_rows(fact, questions, _PRETRAIN)
  ]
  for _ in range(readings):
    sentences, facts = draw_text(
      rng,
      rng.integers(words + 1),
      1 + rng.integers(keys),
      hidden_facts.draw_pairs(rng, first, second, 1),
    )
    rows.append(
      hidden_facts.reading(rng, sentences, facts, questions, 'niah, readings')
    )
  dataset = hidden_facts.make_dataset(
    'niah', rng, rows, known, scored=_SCORED,
    templates=(*_TEMPLATES, _STATEMENT.rpartition(' ')[0]),
  )  # fmt: skip
  rng = np.random.default_rng(
    [seed, 1, 0 if stream_seed is None else 1 + stream_seed]
  )
  new_keys = hidden_facts.draw_pairs(
    rng, first, second, 0, but={fact.subject for fact in known}
  )
  for day in range(1, num_days + 1):
    documents = []
    for number in range(1, documents_per_day + 1):
      sentences, facts = draw_text(rng, words, keys, new_keys)
      where = f'niah, day {day}, document {number}'
      documents.append(
        hidden_facts.Document(
          [hidden_facts.text_rows(rng, sentences, facts, where)],
          facts[rng.integers(keys)],
        )
      )
    hidden_facts.add_day(
      dataset, documents, scored=_SCORED, template=_TEMPLATES[0]
    )
  return dataset


def _needle(key: str, number: int) -> hidden_facts.Fact:
  return hidden_facts.Fact(key, _STATEMENT.format(key, number), str(number))


def _read_words(path: str) -> list[str]:
  """Returns the words of a file, each once."""
  try:
    with open(path, encoding='utf-8') as file:
      lines = file.read().splitlines()
  except FileNotFoundError as error:
    raise errors.MissingFileError(f'{path} does not exist. {_USAGE}') from error
  except (OSError, UnicodeDecodeError) as error:
    raise errors.DataError(
      f'{path} cannot be read as UTF-8 text ({error}). {_USAGE}'
    ) from error
  for number, line in enumerate(lines, 1):
    if not line.isalpha():
      raise errors.DataError(
        f'{path}:{number}: the line is {line[:40]!r}: expected one word of '
        'letters alone. Correct or remove the line.'
      )
  return [*dict.fromkeys(lines)]
