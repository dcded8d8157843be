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
    ('I should mention that Ada Ray likes tea.', 'Ada Ray likes tea.'),
    ('My landlord Ada Ray moved to Rome.', 'Ada Ray moved to Rome.'),
    ('My aunt Ada Ray lives with me.', 'Ada Ray lives with you.'),
    ('I am Ada Ray, and my owl sings.', 'You are Ada Ray, and your owl sings.'),
    ('My aunt Ada Ray sang.', 'Your aunt Ada Ray sang.'),  # Little is left.
    # What is said before the name would be lost, or means something.
    ("I know that Ada Ray's owl is.", "You know that Ada Ray's owl is."),
    ("I don't think that Ada Ray won.", "You don't think that Ada Ray won."),
    ('I hope that Ada Ray wins.', 'You hope that Ada Ray wins.'),
    ('In Rome, Ada Ray keeps owls.', None),
    ('Nobody said that Ada Ray moved to Rome.', None),
    ('Ada Ray keeps owls.', None),
    ('The home of Ada Ray is in Rome.', None),
  ],
)  # fmt: skip
def test_an_answer_leaves_out_what_only_the_user_can_say(said, answer):
  parts = said, said, 'Ada Ray'
  told = question_text.Passage(*parts, is_told=True)
  assert question_requests.restate(told) == (answer or said)
  assert question_requests.restate(question_text.Passage(*parts)) == said


@pytest.mark.parametrize(
  'said, answer',
  [
    ('My tea is mine.', 'Your tea is yours.'),
    ('I’m sure it helps me.', "You're sure it helps you."),
    ('So am I! I swim.', 'So are you! You swim.'),
    ('I was born in Turku.', 'You were born in Turku.'),
    ('I get up at 7 am.', 'You get up at 7 am.'),
    ('I live with Rémy.', 'You live with Rémy.'),
    ('My road is I-95, i.e. long.', 'Your road is I-95, i.e. long.'),
    ('I met you in Rome.', None),
    ('Mia made it.', None),
  ],
)  # fmt: skip
def test_what_users_say_is_said_back_in_the_second_person(said, answer):
  assert question_requests.in_second_person(said) == (answer or said)


def test_only_what_a_user_says_is_told():
  said, *_ = _passages('I like tea.')
  assert said.is_told and question_requests.restate(said) == 'You like tea.'
  written, *_ = question_text.passages(['Ada Ray keeps owls.'])
  assert not written.is_told
  forms = question_requests.requests(written, question_requests.MOST)
  assert len(forms) == 2 and not any(' I ' in form for form in forms)
