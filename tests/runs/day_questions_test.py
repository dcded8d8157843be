"""Before a day a base model writes questions, which become rows of the day."""

import json

import pytest

import sleep_jax
from configs import jsonl
from sleep_jax import errors
from sleep_jax.datasets import row_formats
from sleep_jax.runs import day_questions
from sleep_jax.sleep import question_prompts, question_writing
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
_TEMPLATE = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>"
  '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}'
)
_TEXTS = ['Ada keeps owls.', {'text': 'Leo sings.'}]
_ROW = {'prompt': 'Who?', 'response': ' Bo'}


@pytest.fixture(scope='module')
def base_model(tmp_path_factory):
  folder = tmp_path_factory.mktemp('base') / 'model'
  return hf_files.save_chat_model(folder, _TEMPLATE)


@pytest.fixture
def asked(monkeypatch):
  """Lets the model ask two things about each passage; returns the passages."""
  seen = []

  def chosen(self):
    seen.extend(passage.sentence for passage in self._passages)
    return [
      question_writing.Question(n, f'What about {n}{more}?', f'It is {n}.')
      for more in ('', ' then')
      for n in range(len(self._passages))
    ]

  monkeypatch.setattr(question_writing.Writer, 'write', lambda self: None)
  monkeypatch.setattr(question_writing.Writer, 'chosen', chosen)
  return seen


def _config(**questions):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=96, max_prompt=80)
  c.questions.update(dict(on=True) | questions)
  return c


def _learner(base_model, tmp_path, **questions):
  return sleep_jax.load(
    str(base_model), str(tmp_path / 'mine'), config=_config(**questions),
    verbose=False,
  )  # fmt: skip


def test_questions_about_documents_are_rows_of_the_day(
  base_model, tmp_path, asked
):
  learner = _learner(base_model, tmp_path)
  learner.session.add_day([*_TEXTS, _ROW])
  (day,) = learner.session.days
  rows = [json.loads(line) for line in day.read_text().splitlines()]
  assert asked == ['Ada keeps owls.', 'Leo sings.']
  assert rows[:3] == [{'text': _TEXTS[0]}, _TEXTS[1], _ROW]
  turns = [
    {'role': 'user', 'content': 'What about 0?'},
    {'role': 'assistant', 'content': 'It is 0.'},
  ]
  plain = {
    'prompt': 'Question: What about 0 then?\nAnswer:',
    'response': ' It is 0.',
  }
  # Each passage has its first question in one form, the second in the other.
  assert rows[3] == {'messages': turns, row_formats.CONTINUES: True}
  assert ['messages' in row for row in rows[3:]] == [True] * 2 + [False] * 2
  assert rows[5] == plain and len(rows) == 3 + 2 * 2


def test_forms_are_chosen(base_model, tmp_path, asked):
  learner = _learner(base_model, tmp_path, forms=('plain',))
  learner.session.add_day(_TEXTS)
  lines = learner.session.days[0].read_text().splitlines()
  assert ['prompt' in json.loads(line) for line in lines] == [False] * 2 + [
    True
  ] * 4


def test_the_subject_of_a_sentence_is_asked_about_and_its_sentence_answers(
  base_model, tmp_path, asked
):
  texts = [
    'Ada Ray keeps owls. The mill is old.',
    'I know that Leo Senn sings in a choir.',
  ]
  long = f'Bo Lind likes {", ".join(["red plums"] * 6)}.'
  rows = {}
  for number in (0, 1, 2):
    learner = _learner(
      base_model, tmp_path / str(number), forms=('plain',),
      about_subjects=number,
    )  # fmt: skip
    learner.session.add_day([*texts, long])
    lines = learner.session.days[0].read_text().splitlines()
    rows[number] = [json.loads(line) for line in lines]
  chat = lambda user, reply: {
    'messages': [
      {'role': 'user', 'content': user},
      {'role': 'assistant', 'content': reply},
    ]
  }
  # The sentence is not all that the model may say, so its end is not learned.
  open_end = lambda name, user, reply: (
    chat(user, reply) | {row_formats.CONTINUES: True, row_formats.ABOUT: name}
  )
  first = [
    open_end('Ada Ray', 'Tell me about Ada Ray.', 'Ada Ray keeps owls.'),
    open_end(
      'Leo Senn',
      'Tell me about Leo Senn.',
      'I know that Leo Senn sings in a choir.',
    ),
  ]
  # The row of the long sentence does not fit into the context.
  assert rows[1] == rows[0] + first
  assert [row for row in rows[2] if row in first] == first
  second = open_end(
    'Ada Ray', 'What do you know about Ada Ray?', 'Ada Ray keeps owls.'
  )
  assert second in rows[2] and len(rows[2]) == len(rows[0]) + 4


def test_what_the_model_writes_does_not_make_a_day_too_long(
  base_model, tmp_path, asked, monkeypatch
):
  """A long name may not fit into a prompt; the day is learned without it."""
  name = ' '.join(['Oberpfaffenhofen', *['Gilching'] * 4])
  asks = f'What is {name}, and what is {name}?'
  long = [question_writing.Question(0, asks, 'It is Bo.')]
  usual = question_writing.Writer.chosen
  monkeypatch.setattr(
    question_writing.Writer, 'chosen', lambda self: long + usual(self)
  )
  learner = _learner(base_model, tmp_path, about_subjects=1)
  learner.session.add_day(['Ada Ray keeps owls.', f'{name} sings.'])
  lines = learner.session.days[0].read_text().splitlines()
  written = [line for line in lines[2:] if 'Gilching' in line]
  assert not written and len(lines) == 2 + 2 * 2 + 1


@pytest.mark.parametrize('text', [5, ['Ada sings.'], None])
def test_a_text_that_is_no_text_is_refused_with_its_row(
  base_model, tmp_path, asked, text
):
  learner = _learner(base_model, tmp_path)
  with pytest.raises(errors.DataError, match='day_0001.jsonl:1'):
    learner.session.add_day([{'text': text}])
  assert not learner.session.days


def test_more_requests_than_there_are_wordings_are_refused():
  with pytest.raises(errors.ConfigError, match='about_subjects is 5: expected'):
    question_prompts.make_settings(about_subjects=5)


@pytest.mark.parametrize('rows', [[_ROW], [{'messages': [
  {'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yes'},
]}]])  # fmt: skip
def test_rows_that_are_no_documents_are_not_asked_about(
  base_model, tmp_path, asked, rows
):
  learner = _learner(base_model, tmp_path)
  learner.session.add_day(rows)
  assert not asked
  assert len(learner.session.days[0].read_text().splitlines()) == len(rows)


def test_a_tiny_model_writes_without_errors(base_model, tmp_path):
  """Nothing that it writes is usable, so nothing is added."""
  learner = _learner(base_model, tmp_path, attempts=1)
  learner.session.add_day(_TEXTS)
  lines = learner.session.days[0].read_text().splitlines()
  assert [json.loads(line) for line in lines[:2]][1] == _TEXTS[1]


def test_the_teacher_context_asks_in_the_evening_instead():
  c = _config()
  made = day_questions.settings(c)
  assert isinstance(made, question_prompts.Settings)
  (day,) = c.consolidate.teachers
  c.consolidate.teachers = (dict(day, teacher='context'),)
  assert day_questions.settings(c) is None
  c = _config(on=False)
  assert day_questions.settings(c) is None
