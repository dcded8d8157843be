"""Questions are written, answered, chosen and rendered as prompts."""

import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.sleep import (
  question_calls,
  question_prompts,
  question_text,
  question_writing,
)

_PAGE = 'Ada Ray keeps owls. Leo Orr sings.'
_SETTINGS = question_prompts.Settings(on=True, attempts=2, per_sentence=2)


class _Template:
  """Writes 'role:content|' for each message and 'a:' at the end."""

  def __init__(self, tokenizer, starts):
    self._tokenizer, self._starts = tokenizer, starts

  def encode(self, messages):
    text = ''.join(f'{m["role"]}:{m["content"]}|' for m in messages)
    tokens = self._tokenizer.encode(f'system: be kind|{text}a:')
    return [self._tokenizer.bos] * self._starts + tokens


def _prompts(starts=True, **fields):
  tokenizer = tokenizer_lib.Bytes()
  template = _Template(tokenizer, starts)
  return question_prompts.QuestionPrompts(tokenizer, template, **fields)


class _Model:
  """Writes what a function of the text before says, and counts its calls."""

  def __init__(self, tokenizer, answer):
    self._tokenizer, self._answer = tokenizer, answer
    self.temperatures = []

  def __call__(self, prompts, rows, ends_V, call, temperature, max_new):
    self.temperatures.append(float(temperature))
    tokens = np.zeros((len(rows.prompt_B), 32), np.int32)
    length = np.zeros(len(rows.prompt_B), np.int32)
    for n, given in enumerate(rows.given_length_B):
      if given < 0:
        continue
      prompt = prompts.tokens_BT[rows.prompt_B[n]]
      read = [*prompt[: prompts.length_B[rows.prompt_B[n]]],
              *rows.given_BO[n, :given]]  # fmt: skip
      banned = rows.banned_BK[n]
      text = self._answer(self._tokenizer.decode(read), banned[banned >= 0])
      ids = self._tokenizer.encode(text)
      tokens[n, : len(ids)], length[n] = ids, len(ids)
    return types.Texts(tokens, length)


def _writer(answer, settings=_SETTINGS):
  prompts = _prompts()
  model = _Model(prompts.tokenizer, answer)
  passages = question_text.passages([_PAGE])
  calls = question_calls.Calls(model)
  writer = question_writing.Writer(passages, prompts, settings, calls)
  writer.write()
  return writer, model


def _about_owls(text, banned):
  """Asks and answers about Ada only."""
  del banned
  *_, last = text.split('Text: ')
  if last.endswith('Answer:'):
    return ' Ada Ray keeps owls.'
  return ' keep?' if last.endswith('What does Ada Ray') else ' nothing'


def test_questions_that_are_answered_from_their_sentence_are_kept():
  writer, _ = _writer(_about_owls)
  (question,) = writer.chosen()
  assert question.text == 'What does Ada Ray keep?'
  assert question.passage == 0 and question.asks_for == {'owls'}
  assert writer.counts['usable'] == writer.counts['answered'] == 1
  assert writer.counts['written'] > 20


def test_a_subject_without_questions_is_asked_about_by_templates():
  writer, _ = _writer(_about_owls)
  texts = [question.text for question in writer.templates()]
  assert texts == ['What do you know about Leo Orr?',
                   'What is said about Leo Orr?']  # fmt: skip
  silent, _ = _writer(lambda text, banned: '')
  assert not silent.chosen() and len(silent.templates()) == 4


def test_a_wrong_answer_drops_the_question():
  def wrong(text, banned):
    if text.endswith('Answer:'):
      return ' Ada Ray keeps cats.'
    return _about_owls(text, banned)

  writer, _ = _writer(wrong)
  assert not writer.chosen()
  assert writer.counts['usable'] == 1 and not writer.counts['answered']


def test_later_attempts_draw_and_write_about_few_questions_only():
  one = question_prompts.Settings(on=True, attempts=3, per_sentence=1)
  writer, model = _writer(_about_owls, one)
  first = writer.counts['written']
  assert model.temperatures[0] == 0 and 0.7 in np.round(model.temperatures, 3)
  more, _ = _writer(
    _about_owls, question_prompts.Settings(on=True, attempts=1, per_sentence=1)
  )
  # Ada has her question after the first attempt; only Leo is asked about.
  assert first < 3 * more.counts['written']


def test_no_more_questions_are_chosen_than_allowed():
  texts = iter(f' do {n}?' for n in range(10**6))

  def many(text, banned):
    return ' Ada Ray keeps owls.' if text.endswith('Answer:') else next(texts)

  writer, _ = _writer(many)
  of_passage = [question.passage for question in writer.chosen()]
  assert of_passage == [0, 0]
  assert writer.counts['answered'] > 2


def test_the_answer_is_banned_from_the_question():
  seen = []

  def record(text, banned):
    seen.append(bytes(t - 3 for t in banned.tolist() if t > 2).decode())
    return ''

  prompts = _prompts()
  (owls,) = question_text.passages(['Ada Ray keeps owls.'])
  assert owls.answers == ('keeps', 'owls')
  # Bytes are pieces of one letter, which are never banned.
  assert prompts.banned('owls') == []
  _writer(record)
  assert seen


@pytest.mark.parametrize('starts', [True, False])
def test_the_teacher_ends_in_the_students_prompt(starts):
  prompts = _prompts(starts)
  passage = question_text.passages([_PAGE])[0]
  question = 'What does Ada Ray keep?'
  decode = prompts.tokenizer.decode
  for form, asked in zip(
    prompts.forms, prompts.stored_questions(question, passage), strict=True
  ):
    teacher = asked.context + asked.prompt[asked.replaces :]
    assert asked.prompt[0] == teacher[0] == prompts.tokenizer.bos
    assert asked.prompt.count(prompts.tokenizer.bos) == 1
    student = decode(asked.prompt[1:])
    assert 'owls' not in student and question in student
    read = decode(teacher[1:])
    assert passage.text in read and read.endswith(question + (
      '|a:' if form == 'chat' else '\nAnswer:'))  # fmt: skip
    # As little as possible is stored twice.
    assert len(asked.prompt) - asked.replaces >= len(question)


def test_a_model_without_a_template_is_asked_in_plain_words():
  tokenizer = tokenizer_lib.Bytes()
  prompts = question_prompts.QuestionPrompts(tokenizer, None)
  passage = question_text.passages([_PAGE])[0]
  (asked,) = prompts.stored_questions('What does Ada Ray keep?', passage)
  text = tokenizer.decode(asked.prompt[1:])
  assert text == 'Question: What does Ada Ray keep?\nAnswer:'


def test_end_tokens_of_a_line():
  tokenizer = tokenizer_lib.Bytes()
  newline, mark = tokenizer.encode('\n')[0], tokenizer.encode('?')[0]
  line = question_prompts.ends_line(tokenizer)
  question = question_prompts.ends_line(tokenizer, '?')
  assert line[newline] and line[tokenizer.eos] and not line[mark]
  assert question[mark] and question.sum() == line.sum() + 1


@pytest.mark.parametrize('forms', [(), ('chat', 'poem')])
def test_unknown_forms_are_refused(forms):
  with pytest.raises(errors.ConfigError, match='config.questions.forms'):
    question_prompts.make_settings(forms=forms)
