"""Two small generated domains: sums with named numbers, and word-by-word
translation into invented languages.

Both consist of questions with answers, and every name is a new pair of
syllables that pretraining has, see `invented_names`.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, facts_words, invented_names

_PARTS = 20  # First and last parts of names.
# The domains have different first parts, so that they share no name.
_FIRSTS = {
  'arithmetic': invented_names.SYLLABLES[:_PARTS],
  'languages': invented_names.SYLLABLES[_PARTS : 2 * _PARTS],
}
_LASTS = invented_names.SYLLABLES[-_PARTS:]
_BASE = 10
_MOST = 4  # A name stands for 1 to 4: a sum is near its digit.
# What is asked about a number x and a name n that stands for one.
_SUMS = ('{x} + {n} =', '{n} + {x} =', '{x} - {n} =', '{n} - {x} =')
_SIGNS = ((1, 1), (1, 1), (1, -1), (-1, 1))  # Of x and of what n stands for.
_WORDS_KNOWN = 12  # Words of a language.
_ROWS_KNOWN = 150  # Sentences of a pretraining language.
_PROBES = 4  # Scored questions of each name or word.
_HELD_OUT = 20  # One row of pretraining in so many is never trained on.
Asked = tuple[str, str]  # Question and answer.


def arithmetic(
  *, num_pretrain: int, num_days: int, per_day: int, seed: int, stream: int
) -> dataset.Dataset:
  """Returns sums modulo 10 with names that stand for 1, 2, 3 or 4.

  Args:
    num_pretrain: names in pretraining.
    num_days: number of experiences.
    per_day: new names in each.
    seed: draws everything.
    stream: draws the experiences; pretraining does not depend on it.
  """
  groups = _groups('arithmetic', num_pretrain, num_days, per_day, seed, stream)
  made = [
    _sums(np.random.default_rng([seed, 1, number, stream * (number > 0)]), one)
    for number, one in enumerate(groups)
  ]
  return _dataset('arithmetic', made)


def languages(
  *, num_pretrain: int, num_days: int, per_day: int, seed: int, stream: int
) -> dataset.Dataset:
  """Returns translations of two words, word by word; each day a new language.

  Args:
    num_pretrain: languages in pretraining, 12 words each.
    num_days: number of experiences.
    per_day: words of a new language.
    seed, stream: see `arithmetic`.
  """
  words = facts_words.ATTRIBUTES[-1].values
  if not 3 <= per_day <= len(words):
    raise errors.DataError(
      f'domains: a day has a language of {per_day} words, two for each of '
      f'items_per_day: expected 3 to {len(words)} words.'
    )
  if num_pretrain < 1:
    raise errors.DataError(
      f'domains: num_pretrain is {num_pretrain}: expected 1 or more languages.'
    )
  groups = _groups('languages', num_pretrain, num_days, 1, seed, stream)
  made = []
  for number, names in enumerate(groups):
    rng = np.random.default_rng([seed, 2, number, stream * (number > 0)])
    size = per_day if number else _WORDS_KNOWN
    parts = [
      _translations(rng, name, rng.permutation(words)[:size].tolist())
      for name in names
    ]
    taught, asked = zip(*parts, strict=True)
    if not number:
      taught = tuple(part[:_ROWS_KNOWN] for part in taught)
    made.append(
      tuple([*itertools.chain.from_iterable(x)] for x in (taught, asked))
    )
  return _dataset('languages', made)


def _groups(
  what, num_pretrain, num_days, per_day, seed, stream
) -> list[list[str]]:
  """Returns the names of pretraining and of each day."""
  known = max(num_pretrain, _PARTS)
  names = [
    ' '.join(pair)
    for pair in invented_names.draw(
      np.random.default_rng([seed, 0]), _FIRSTS[what], _LASTS,
      known + num_days * per_day, what=f'domains: {what}',
    )
  ]  # fmt: skip
  new = names[known:]
  if stream:
    new = np.random.default_rng([seed, 3, stream]).permutation(new).tolist()
  days = [new[n * per_day : (n + 1) * per_day] for n in range(num_days)]
  return [names[:known], *days]


def _sums(
  rng: np.random.Generator, names: Sequence[str]
) -> tuple[list[Asked], list[Asked]]:
  """Returns sums to learn, and others to ask, of every name."""
  taught, asked = [], []
  for name in names:
    number = 1 + int(rng.integers(_MOST))
    sums = [
      (
        form.format(x=x, n=name),
        f' {(sign_x * x + sign_n * number) % _BASE}',
      )
      for form, (sign_x, sign_n) in zip(_SUMS, _SIGNS, strict=True)
      for x in range(_BASE)
    ]
    order = rng.permutation(len(sums)).tolist()
    asked += [sums[i] for i in order[:_PROBES]]
    taught += [sums[i] for i in order[_PROBES:]]
  return taught, asked


def _translations(
  rng: np.random.Generator, language: str, words: Sequence[str]
) -> tuple[list[Asked], list[Asked]]:
  """Returns sentences of two words to learn, and others to ask."""
  foreign = invented_names.draw(
    rng, _FIRSTS['languages'], _LASTS, _PARTS + len(words), what='words'
  )
  meaning = {
    word: ' '.join(pair)
    for word, pair in zip(words, foreign[_PARTS:], strict=True)
  }
  pairs = [*itertools.permutations(words, 2)]
  order = rng.permutation(len(pairs)).tolist()
  sentences = [
    (
      f'in {language} : {first} {second} =',
      f' {meaning[first]} , {meaning[second]}',
    )
    for first, second in (pairs[i] for i in order)
  ]
  num_asked = min(_PROBES * len(words), len(sentences) // 3)
  return sentences[num_asked:], sentences[:num_asked]


def _dataset(
  name: str, made: Sequence[tuple[list[Asked], list[Asked]]]
) -> dataset.Dataset:
  """Returns the dataset of (taught, asked): of pretraining and of each day."""
  rows, probes = [], []
  for number, (taught, asked) in enumerate(made):
    where = f'{name}, day {number}' if number else f'{name}, pretraining'
    rows.append([_row(*one, where) for one in taught])
    probes.append([
      dataset.Probe(prompt=question, answer=answer, where=where)
      for question, answer in asked
    ])  # fmt: skip
  known = rows[0]
  return dataset.Dataset(
    name=name,
    pretrain=[row for n, row in enumerate(known) if n % _HELD_OUT],
    held_out=known[::_HELD_OUT],
    experiences=[(f'day {day}', part) for day, part in enumerate(rows[1:], 1)],
    probes={
      'pretrain': probes[0],
      **{str(day): part for day, part in enumerate(probes[1:], 1)},
    },
  )


def _row(question: str, answer: str, where: str) -> dataset.Row:
  return dataset.Row(
    text=question + answer, response_start=len(question), where=where
  )
