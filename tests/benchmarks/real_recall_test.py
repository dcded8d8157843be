"""How a learner is asked what it was told, and how its answers are scored."""

import pytest

from benchmarks.real_model import facts, recall, words
from sleep_jax import errors

DAYS = facts.days(0, 2, split=words.TEST)


class Learner:
  """A learner that answers with a function of the prompt, two letters a piece.

  Attributes:
    asked: every prompt, padding included.
    pieces: number of pieces that were read.
  """

  def __init__(self, answer, has_template=True):
    self._answer, self._has_template = answer, has_template
    self.asked, self.pieces = [], 0

  def chat_template(self):
    if not self._has_template:
      raise errors.UsageError('no template')

  def stream(self, prompts, **sampling):
    assert sampling['temperature'] == 0.0
    self.asked += prompts
    texts = [self._answer(prompt) for prompt in prompts]
    for start in range(0, 2 * sampling['max_new'], 2):
      self.pieces += 1
      yield [text[start : start + 2] for text in texts]

  stream_answers = stream


def _ask(answer, form='a', told=None, **options):
  learner = Learner(answer, **options)
  questions = recall.questions_of(DAYS, form)
  return learner, recall.ask(learner, questions, form, told)


def _value(prompt):
  """Returns the value that the days tell about whom a prompt asks for."""
  text = prompt if isinstance(prompt, str) else prompt[-1]['content']
  asked = text.rpartition('Question: ')[2]
  found = [f.value for day in DAYS for f in day.facts if f.person in asked]
  return found[-1] if found else ''


def test_an_answer_is_its_first_line_and_ends_there():
  learner, answers = _ask(lambda prompt: f' {_value(prompt)}\nQuestion: more')
  assert all(row['exact'] and row['contained'] for row in answers)
  assert [row['answer'] for row in answers] == [r['expected'] for r in answers]
  assert 0 < learner.pieces < 2 * recall._MAX_NEW


def test_a_sentence_contains_the_value_but_is_not_exact():
  _, answers = _ask(lambda p: _value(p) + ' it', form='b')
  told = [row for row in answers if row['person'] != facts.USER]
  assert all(row['contained'] and not row['exact'] for row in told)


def test_a_wrong_answer_is_neither():
  _, answers = _ask(lambda prompt: ' nothing\n')
  score = recall.summary(answers)
  assert score['exact'] == score['contained'] == 0
  assert score['questions'] == len(answers)
  assert sum(day['questions'] for day in score['by_day'].values()) == len(
    answers
  )


def test_a_summary_is_by_day():
  first = {fact.value for fact in DAYS[0].facts}
  _, answers = _ask(lambda p: _value(p) if _value(p) in first else 'no')
  by_day = recall.summary(answers)['by_day']
  assert by_day['1']['contained'] == 1 and by_day['2']['contained'] < 1


def test_answers_are_in_the_order_of_the_questions():
  people = [q.fact.person for q in recall.questions_of(DAYS, 'a')]
  _, answers = _ask(_value)
  assert [row['person'] for row in answers] == people


@pytest.mark.parametrize('form', recall.FORMS)
def test_in_context_the_answer_stands_in_front(form):
  learner, _ = _ask(_value, form, told=DAYS)
  for prompt in learner.asked:
    (message,) = prompt
    assert message['content'].startswith('Passage: ')
    if _value(prompt):
      assert facts.contains(message['content'], _value(prompt))


@pytest.mark.parametrize('form', recall.FORMS)
def test_closed_book_no_value_stands_in_the_prompt(form):
  learner, _ = _ask(_value, form)
  for prompt in learner.asked:
    text = prompt if form == 'a' else prompt[0]['content']
    assert not (_value(prompt) and facts.contains(text, _value(prompt)))


def test_without_a_template_the_fact_stands_before_the_question():
  learner, _ = _ask(_value, told=DAYS, has_template=False)
  for prompt in learner.asked:
    first, second, third = prompt.split('\n')
    assert facts.contains(first, _value(prompt))
    assert second.startswith('Question: ') and third == 'Answer:'


def test_corrections_count_new_and_old_values():
  _, answers = _ask(_value)
  assert recall.corrections(answers, DAYS) == {
    'facts': 3, 'questions': 6, 'new': 6, 'old': 0,
  }  # fmt: skip
  old = {f.person: f.replaces for f in DAYS[1].facts if f.replaces}
  stale = lambda p: next((v for k, v in old.items() if k in p), 'nothing')
  _, answers = _ask(stale)
  assert recall.corrections(answers, DAYS) == {
    'facts': 3, 'questions': 6, 'new': 0, 'old': 6,
  }  # fmt: skip


def test_a_learned_value_about_the_never_told_is_counted():
  questions = facts.never_told(0, DAYS, split=words.TEST)
  value = DAYS[0].facts[0].value
  for answer, count in ((f' {value}.\n', 24), (' I do not know.\n', 0)):
    answers = recall.ask(Learner(lambda p, a=answer: a), questions, 'a')
    assert not any(row['exact'] or row['contained'] for row in answers)
    found = recall.never_told(answers, DAYS)
    assert found == {
      'questions': 24, 'learned': count, 'strangers': count // 2
    }  # fmt: skip


def test_only_conversations_tell_preferences():
  asked = {form: recall.questions_of(DAYS, form) for form in recall.FORMS}
  assert asked['a'] == asked['c']
  more = [q for q in asked['b'] if q not in asked['a']]
  assert {q.fact.person for q in more} == {facts.USER} and len(more) == 8


def test_a_day_is_taught_in_the_form_of_the_study():
  day = DAYS[0]
  assert recall.rows_of(day, 'a') == list(day.rows)
  assert recall.rows_of(day, 'c') == list(day.pages)
  (document,) = recall.rows_of(day, 'b')
  assert document.startswith('user: ') and '\nassistant: ' in document
