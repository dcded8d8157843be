"""The invented facts of the study of a pretrained model."""

import collections
import itertools

import pytest

from benchmarks.real_model import facts, texts, words


def _days(seed=0, split=words.TEST, **settings):
  return facts.days(seed, split=split, **settings)


def _text(day, form):
  """All that a day teaches in one form, as one text."""
  if form == 'rows':
    return '\n'.join(row['prompt'] + row['response'] for row in day.rows)
  if form == 'pages':
    return '\n'.join(page['text'] for page in day.pages)
  return '\n'.join(message['content'] for message in day.conversation)


def test_a_day_asks_each_fact_in_wordings_that_no_row_has():
  for day in _days():
    learned = {row['prompt'] for row in day.rows}
    asked = {question.prompt for question in day.questions}
    assert not learned & asked
    assert len(day.facts) == len({fact.person for fact in day.facts}) == 12
    assert len(day.rows) == len(learned) == 4 * 12
    assert len(day.questions) == len(asked) == 2 * 12


def test_the_questions_of_rows_are_asked_as_the_rows_are():
  (day,) = _days(num_days=1)
  asked = [q for fact in day.facts for q in texts.row_questions(fact)]
  assert [q.prompt for q in asked] == [row['prompt'] for row in day.rows]
  assert [f' {q.answer}' for q in asked] == [r['response'] for r in day.rows]
  assert sorted({q.wording for q in asked}) == [2, 3, 4, 5]


def test_rows_answer_with_the_value_of_the_fact():
  for day in _days():
    told = {fact.person: fact.value for fact in day.facts}
    for row in day.rows:
      (value,) = [v for person, v in told.items() if person in row['prompt']]
      assert row['response'] == f' {value}'


@pytest.mark.parametrize('form', ['rows', 'pages', 'conversation'])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_every_form_tells_each_fact_of_its_day(form, seed):
  for day in _days(seed):
    text = _text(day, form)
    for fact in day.facts:
      assert fact.person in text and facts.contains(text, fact.value)
      if fact.replaces:
        assert not facts.contains(text, fact.replaces) or fact.replaces in {
          other.value for other in day.facts
        }
  assert len(_days(seed)[0].pages) == 5


@pytest.mark.parametrize('split', words.SPLITS)
def test_only_facts_have_values(split):
  # A value in a filler would be an answer that the fact did not teach.
  values = [value for a in words.ATTRIBUTES for value in a.values]
  fixed = ' '.join(
    (*words.OPENINGS, *words.FILLERS, *words.GREETINGS, *words.REPLIES)
  )
  assert not [value for value in values if facts.contains(fixed, value)]
  for day in facts.days(1, split=split):
    told = {fact.value for fact in day.facts}
    others = set(values) - told
    text = _text(day, 'pages')
    assert not [value for value in others if facts.contains(text, value)]


def test_pages_have_the_length_of_a_page():
  lengths = [
    len(page['text'].split())
    for seed, split in itertools.product(range(3), words.SPLITS)
    for day in _days(seed, split)
    for page in day.pages
  ]
  assert 60 <= min(lengths) and max(lengths) <= 120


def test_splits_have_no_name_and_no_value_in_common():
  names, values = collections.defaultdict(set), collections.defaultdict(set)
  for split, seed in itertools.product(words.SPLITS, range(3)):
    for day in _days(seed, split):
      for fact in (*day.facts, *day.preferences):
        names[split] |= set(fact.person.split()) - {facts.USER}
        values[split].add(fact.value)
  assert not names['validation'] & names['test']
  assert not values['validation'] & values['test']


def test_corrections_give_a_person_of_an_earlier_day_another_value():
  found = _days()
  told = {}
  corrected = []
  for day in found:
    for fact in day.facts:
      if fact.replaces:
        assert told[fact.person] == (fact.attribute, fact.replaces)
        assert fact.value != fact.replaces
        corrected.append(fact.person)
      else:
        assert fact.person not in told
    told |= {fact.person: (fact.attribute, fact.value) for fact in day.facts}
  assert len(corrected) == len(set(corrected)) == 12


def test_a_corrected_fact_is_asked_with_its_new_value_only():
  found = _days()
  current = facts.current(found)
  answers = {(q.fact.person, q.answer) for q in current}
  for day in found:
    for fact in day.facts:
      if fact.replaces:
        assert (fact.person, fact.value) in answers
        assert (fact.person, fact.replaces) not in answers
  assert len(current) == 2 * len({person for person, _ in answers}) == 2 * 48


def test_questions_about_the_never_told_have_no_answer():
  found = _days()
  told = {(f.person, f.attribute) for day in found for f in day.facts}
  people = {person for person, _ in told}
  asked = facts.never_told(0, found, split=words.TEST)
  assert len({question.text for question in asked}) == 24
  assert not told & {(q.fact.person, q.fact.attribute) for q in asked}
  assert sum(q.fact.person in people for q in asked) == 12


def test_a_quarter_of_the_facts_of_a_later_day_are_corrections():
  for per_day, expected in ((1, 0), (4, 1), (12, 3)):
    _, later = _days(num_days=2, facts_per_day=per_day)
    assert sum(bool(fact.replaces) for fact in later.facts) == expected


def test_the_first_days_do_not_depend_on_how_many_follow():
  assert _days(num_days=2) == _days()[:2]
  assert _days(seed=1)[0] != _days(seed=0)[0]


def test_the_user_tells_two_preferences_a_day():
  wishes = [fact for day in _days() for fact in day.preferences]
  assert len({fact.attribute for fact in wishes}) == len(wishes) == 10
  for day in _days():
    for fact in day.preferences:
      assert facts.contains(_text(day, 'conversation'), fact.value)
    assert len(day.preference_questions) == 4


def test_an_answer_contains_a_value_as_a_whole_word():
  assert facts.contains(' In Oslo.', 'oslo')
  assert not facts.contains(' A carpenter', 'carp')


def test_impossible_settings_are_refused():
  with pytest.raises(ValueError, match='expected at most 65 people'):
    _days(num_days=7)
  with pytest.raises(ValueError, match='as many corrections as facts'):
    _days(facts_per_day=2, corrections=3)
  with pytest.raises(ValueError, match='expected one of'):
    _days(split='tset')
