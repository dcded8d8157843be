"""Which sentences are asked about, and which questions are of use."""

import pytest

from sleep_jax.sleep import question_text

_PAGE = (
  'The mill is old. Ada Ray works there as a potter. She keeps three owls. '
  'Nobody was surprised. People talk about it.'
)


def _passages(*texts):
  return question_text.passages(texts)


def _one(text):
  (passage,) = _passages(text)
  return passage


def test_every_sentence_is_a_passage_with_its_subject():
  found = [(p.sentence, p.subject) for p in _passages(_PAGE)]
  assert found == [
    ('The mill is old.', ''), ('Ada Ray works there as a potter.', 'Ada Ray'),
    ('She keeps three owls.', 'Ada Ray'), ('Nobody was surprised.', ''),
    ('People talk about it.', ''),
  ]  # fmt: skip


def test_a_pronoun_needs_the_sentences_before_it():
  passage = _passages(_PAGE)[2]
  assert passage.text.endswith('as a potter. She keeps three owls.')
  assert passage.answers == ('keeps', 'three', 'owls')


@pytest.mark.parametrize(
  'text, subject',
  [
    ('Above all Ruth Voss likes figs.', 'Ruth Voss'),
    ('It was built by Otto Berg in 1820.', 'Otto Berg'),
    ('The sport of Ian Hobb is golf.', 'Ian Hobb'),
    ('My dog is called Rex.', 'Rex'),
    ("Ida Moe's house is red.", 'Ida Moe'),
    ('Rain fell all day.', ''),
    ('user: I live in Lund.', question_text.USER),
    ('user: My favourite colour is green', question_text.USER),
    ('user: My sister Vera keeps bees.', 'Vera'),
  ],
)
def test_the_subject_is_a_name_or_the_user_who_speaks(text, subject):
  assert _one(text).subject == subject


def test_of_a_conversation_the_user_is_asked_about():
  found = _passages(
    'I know Berg.\nuser: I like tea. Do you?\nIt is hot.\nassistant: '
    'You like tea. I am glad.\nuser: Ada Ray sings.'
  )
  assert [p.sentence for p in found] == [
    'I like tea.', 'It is hot.', 'Ada Ray sings.'
  ]  # fmt: skip


def test_a_window_that_begins_inside_a_turn_of_the_user():
  found = _passages('like tea.\nassistant: Thank you.\nuser: Ada Ray sings.')
  assert [p.sentence for p in found] == ['like tea.', 'Ada Ray sings.']


def test_windows_of_a_text_give_each_sentence_once_and_whole():
  found = _passages(
    'Ada Ray sings. Leo Orr plays the', 'Leo Orr plays the lute. Ada Ray sings.'
  )
  assert [p.sentence for p in found] == [
    'Ada Ray sings.', 'Leo Orr plays the lute.'
  ]  # fmt: skip


def test_openings_name_the_subject_where_they_have_a_slot():
  assert 'What does Ada Ray' in _one('Ada Ray sings.').openings
  assert 'What do I' in _one('user: I like tea.').openings
  assert all('{' not in o for o in _one('Rain fell all day.').openings)


@pytest.mark.parametrize(
  'question, reason',
  [
    ('What does Ada Ray do?', ''),
    ('What does Ada Ray do', 'no question'),
    ('What does Ada\nRay do?', 'no question'),
    ('What does Leo do?', 'names nothing of the text'),
    ('What does Ada Ray like to like to?', 'repeats itself'),
    ('What does Ada Ray do in Rome?', 'names another'),
    ("What is Ada Ray's work?", ''),
  ],
)
def test_questions_that_are_of_no_use(question, reason):
  passage = _one('Ada Ray works as a potter.')
  assert question_text.why_unusable(question, passage) == reason


def test_a_question_to_the_user_speaks_of_the_user():
  passage = _one('user: I live in Lund.')
  assert not question_text.why_unusable('Where do I live?', passage)
  assert question_text.why_unusable('Where does he live?', passage)
  other = 'Where does Ivo Senn live when I am away?'
  assert question_text.why_unusable(other, passage) == 'names another'


@pytest.mark.parametrize(
  'question, answer, reason',
  [
    ('What does Ada Ray do?', 'Ada Ray is a potter.', ''),
    ('What does Ada Ray do?', 'Ada Ray works as a potter.', ''),
    ('Where is Ada Ray a potter?', 'Ada Ray is a potter.', 'nothing new'),
    ('What does Ada Ray do?', 'Ada Ray is a nice potter.', 'not in the text'),
    ('What does Ada Ray do?', 'Ada Ray is not a potter.', 'denies it'),
    ('What does Ada Ray do?', '', 'nothing new'),
  ],
)
def test_questions_that_their_text_does_not_answer(question, answer, reason):
  passage = _one('Ada Ray works as a potter.')
  assert question_text.why_unanswered(question, answer, passage) == reason


def test_other_forms_of_a_word_are_the_same_word():
  passage = _one('Ada Ray practises the lute.')
  new = question_text.asks_for(
    'What does Ada Ray practice?', 'Ada Ray practices lutes.', passage
  )
  assert new == {'lute'}


def test_chosen_questions_ask_for_each_word_before_one_twice():
  lute, band = frozenset(['lute']), frozenset(['band'])
  both = lute | band
  assert question_text.spread([lute, lute, band, both], 2) == [0, 2]
  assert question_text.spread([lute, lute, band, both], 3) == [0, 2, 1]
  assert question_text.spread([lute], 5) == [0]
