"""Tests of the domains dataset: three domains in turn, each answered right."""

import itertools

import pytest

from sleep_jax import errors
from sleep_jax.datasets import domain_texts, domains, facts

SMALL = dict(num_days=4, items_per_day=4)


def test_the_days_take_turns():
  made = domains.make(**SMALL)
  assert [name for name, _ in made.experiences] == [
    'day 1, facts', 'day 2, arithmetic', 'day 3, languages', 'day 4, facts',
  ]  # fmt: skip
  alone = facts.make(num_pretrain=60, num_days=2, people_per_day=4)
  assert made.experiences[0][1] == alone.experiences[0][1]
  assert made.experiences[3][1] == alone.experiences[1][1]
  assert made.probes['4'] == alone.probes['2']
  assert {*alone.pretrain} <= {*made.pretrain}


def test_a_name_stands_for_one_digit_in_all_sums():
  made = domain_texts.arithmetic(
    num_pretrain=20, num_days=2, per_day=3, seed=0, stream=0
  )
  values = {}
  asked = [p.prompt + p.answer for g in made.probes.values() for p in g]
  rows = [row.text for _, group in made.experiences for row in group]
  for text in asked + rows:
    question, answer = text.split(' = ')
    sign = '+' if '+' in question else '-'
    sides = question.split(f' {sign} ')
    (name,) = (side for side in sides if not side.isdigit())
    number = lambda n, side, name=name: n if side == name else int(side)
    fits = {
      n
      for n in range(10)
      if int(answer) == (
        number(n, sides[0]) + (1 if sign == '+' else -1) * number(n, sides[1])
      ) % 10
    }  # fmt: skip
    values[name] = values.get(name, fits) & fits
  assert len(values) == 26 and all(len(fits) == 1 for fits in values.values())


def test_a_language_has_one_word_for_each_word():
  made = domain_texts.languages(
    num_pretrain=20, num_days=2, per_day=4, seed=0, stream=0
  )
  for day, (_, rows) in enumerate(made.experiences, 1):
    meaning = {}
    asked = [p.prompt + p.answer for p in made.probes[str(day)]]
    for text in asked + [row.text for row in rows]:
      words, foreign = text.split(' : ')[1].split(' = ')
      for word, other in zip(words.split(), foreign.split(' , '), strict=True):
        assert meaning.setdefault(word, other) == other
    assert len(meaning) == len({*meaning.values()}) == 4


def test_no_scored_question_is_learned_and_no_new_word_is_unknown():
  made = domains.make(num_days=6)
  learned = {row.text for _, rows in made.experiences for row in rows}
  asked = [p for day in '123456' for p in made.probes[day]]
  assert not learned & {p.prompt + p.answer for p in asked}
  known = set(' '.join(row.text for row in made.pretrain).split())
  rows = itertools.chain.from_iterable(rows for _, rows in made.experiences)
  assert {word for row in rows for word in row.text.split()} <= known


def test_domains_share_no_name():
  made = domains.make(num_days=6)
  texts = lambda sign: [row.text for row in made.pretrain if sign in row.text]
  numbers = {
    tuple(word for word in text.split() if word.isalpha())
    for text in texts(' + ')
  }
  named = {tuple(text.split(' : ')[0].split()[1:]) for text in texts(' : ')}
  assert len(numbers) == 60 and len(named) == 20 and not numbers & named


def test_tuning_has_other_content_and_the_same_pretraining():
  made, tuning = domains.make(**SMALL), domains.make(stream_seed=0, **SMALL)
  assert made.pretrain == tuning.pretrain
  for (_, one), (_, other) in zip(
    made.experiences, tuning.experiences, strict=True
  ):
    assert one != other


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(domains=('facts', 'art')), "is .'facts', 'art'.: expected different"),
    (dict(domains=('facts', 'facts')), 'expected different names'),
    (dict(num_days=2), 'num_days is 2: expected 3 or more'),
    (dict(items_per_day=2), 'items_per_day is 2: expected 3 or more'),
    (dict(items_per_day=21), 'a language of 42 words, two for each of items'),
  ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
  with pytest.raises(errors.DataError, match=message):
    domains.make(**SMALL | settings)
