"""Tests of requests about a sentence, and of how it answers them."""

import pytest

from sleep_jax.sleep import question_requests, question_text


def _passages(said):
  return question_text.passages([f'user: {said}\nassistant: I see.'])


def test_a_sentence_is_asked_for_by_its_subject_or_by_the_words_of_the_user():
  user, ada = _passages('I prefer tea in the morning. Ada Ray keeps owls.')
  by_word = [
    'What did I say about prefer?',
    'What did I say about tea?',
    'What did I say about morning?',
  ]
  for num in (1, 4):
    assert question_requests.requests(user, num) == by_word
  assert question_requests.requests(ada, 1) == ['Tell me about Ada Ray.']
  every = question_requests.requests(ada, question_requests.MOST)
  assert len(set(every)) == 4 and all('Ada Ray' in one for one in every)
  (unknown,) = question_text.passages(['The mill is old.'])
  assert question_requests.requests(unknown, 2) == []
  assert question_requests.requests(user, 0) == []
  _, later = question_text.passages(['Ada Ray has a mill. It is old.'])
  assert later.subject == 'Ada Ray'
  assert question_requests.requests(later, 4) == []


@pytest.mark.parametrize(
  'said, answer',
  [
    ('I heard that my old friend Ada Ray keeps owls.', 'Ada Ray keeps owls.'),
    ('By the way, my boss Ada Ray likes tea.', 'Ada Ray likes tea.'),
    ('You know, and my aunt Ada Ray sang.', None),  # Too little is left.
    ('My landlord Ada Ray moved to Rome.', 'Ada Ray moved to Rome.'),
    # What is said before the name would be lost, or means something.
    ('My boss gave tea to the sister of Ada Ray and me.', None),
    ("I know that Ada Ray's owl is white.", None),
    ('In Rome, Ada Ray keeps owls.', None),
    ('Ada Ray keeps owls.', None),
    ('The home of Ada Ray is in Rome.', None),
  ],
)
def test_an_answer_leaves_out_what_only_the_user_can_say(said, answer):
  passage = question_text.Passage(said, said, subject='Ada Ray')
  assert question_requests.answer(passage) == (answer or said)


def test_what_users_say_of_themselves_is_answered_in_the_second_person():
  (passage,) = _passages('My tea is what I like, and I’m sure it is mine.')
  assert question_requests.answer(passage) == (
    "Your tea is what you like, and you're sure it is yours."
  )
  assert question_requests.in_second_person('So am I! I swim.') == (
    'So are you! You swim.'
  )
  assert question_requests.in_second_person('Mia made it.') == 'Mia made it.'
