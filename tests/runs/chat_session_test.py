"""A chat session: its days, its nights, and what it forgets."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from configs import documents
from sleep_jax import api
from sleep_jax.runs import chat_session, study
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

TEMPLATE = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>"
  '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}'
)


def _write_base_model(folder):
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['user: a cat', 'assistant: sat'])
  hf_files.save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': TEMPLATE})
  )


@pytest.fixture
def home(tmp_path):
  """Returns a folder with a base model that has a chat template."""
  _write_base_model(tmp_path / 'base_model')
  return tmp_path


def _open_chat(home):
  """Starts or continues the chat in a folder."""
  c = tiny_study.shrink(documents.get_config(), prompts=('old', 'day'))
  c.data.update(context=48, max_prompt=12, overlap=4, batch_size=1)
  c.wake.optimizers = (dict(learning_rate=0.0),)
  c.levels = (
    c.levels[0] | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=2,
      rank=4,
    ),
    c.levels[1] | dict(slots=0, rank=0),
  )  # fmt: skip
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old, day | dict(teacher='context'))
  c.data.settings.templates = ()
  c.consolidate.full = 'merge'
  learner = api.load(
    str(home / 'base_model'), str(home / 'work'), config=c, verbose=False
  )
  return chat_session.ChatSession(learner, max_new=6)


def _num_days(chat):
  return len(chat.session.days)


def _logits(chat):
  """Returns the logits of the next token after a fixed prompt."""
  loaded = chat.session.loaded
  logits, _ = loaded.model.prefill(
    loaded.weights, jnp.arange(8)[None], jnp.array([8]), cache_size=8
  )
  return np.asarray(logits)


@dataclasses.dataclass
class _TwoDays:
  """Two days and nights of a chat, and what was recorded meanwhile.

  Attributes:
    home: folder of the base model and the chat.
    answer: to the first message.
    messages: after that answer.
    reopened_messages: of the chat when it is opened again at that moment.
    after_nights: after each night, the number of its records, the number of
      days, today's messages, and the status.
    logits: before the first night and after each.
  """

  home: pathlib.Path
  answer: str
  messages: list
  reopened_messages: list
  after_nights: list = dataclasses.field(default_factory=list)
  logits: list = dataclasses.field(default_factory=list)


@functools.cache
def _two_days(home):
  home.mkdir()
  _write_base_model(home / 'base_model')
  chat = _open_chat(home)
  answer = ''.join(chat.say('a cat'))
  reopened = _open_chat(home)  # In the middle of the day.
  days = _TwoDays(home, answer, chat.messages, list(reopened.messages))
  days.logits.append(_logits(chat))
  for _ in range(2):
    nights = reopened.sleep()
    days.after_nights.append(
      (
        len(nights),
        _num_days(reopened),
        list(reopened.messages),
        reopened.status(),
      )
    )
    days.logits.append(_logits(reopened))
    if _num_days(reopened) == 1:
      list(reopened.say('a dog'))
  shutil.copytree(home / 'work', home / 'saved_work')
  return days


@pytest.fixture
def two_days(tmp_path_factory, one_device):
  """Returns a chat after its second night; a fresh copy for each test."""
  days = _two_days(tmp_path_factory.getbasetemp() / 'chat')
  shutil.rmtree(days.home / 'work')
  shutil.copytree(days.home / 'saved_work', days.home / 'work')
  return days


def test_a_night_consolidates_the_messages_and_starts_an_empty_day(two_days):
  assert [m['role'] for m in two_days.messages] == ['user', 'assistant']
  assert two_days.messages[1]['content'] == two_days.answer
  assert two_days.reopened_messages == two_days.messages
  for night, after_night in enumerate(two_days.after_nights, 1):
    num_nights, num_days, messages, status = after_night
    assert num_nights == 1 and num_days == night and messages == []
    assert 'night 1: level 1, expert 0, activated' in status
  assert len(_open_chat(two_days.home).status().splitlines()) == 3
  files = sorted((two_days.home / 'work' / 'days').iterdir())
  (row,) = map(json.loads, files[0].read_text().splitlines())
  assert row['text'] == f'user: a cat\nassistant: {two_days.answer}'


def _fail_if_called(where):
  raise AssertionError(f'confirmation was asked for: {where}')


def test_a_forgotten_night_has_no_effect_and_its_slot_is_free_again(two_days):
  initial, first, second = two_days.logits
  chat = _open_chat(two_days.home)
  np.testing.assert_array_equal(_logits(chat), second)
  assert not np.allclose(second, first, atol=1e-6)
  assert chat.forget(2, _fail_if_called)
  np.testing.assert_array_equal(_logits(chat), first)
  # The next nights do not restore it.
  reopened = _open_chat(two_days.home)
  np.testing.assert_array_equal(_logits(reopened), first)
  with pytest.raises(ValueError, match=r'No expert holds night 2.*\[1\]'):
    reopened.forget(2, _fail_if_called)
  list(reopened.say('a hat'))
  reopened.sleep()
  assert 'night 3: level 1, expert 1, activated' in reopened.status()
  assert reopened.forget(1, _fail_if_called)
  assert reopened.forget(3, _fail_if_called)
  np.testing.assert_allclose(_logits(reopened), initial, atol=1e-6)


def test_a_chat_goes_on_without_the_texts_of_its_days(two_days):
  chat = _open_chat(two_days.home)
  for path in chat.session.days:
    path.unlink()
  assert not chat.session.needs_night()
  assert chat.forget(1, _fail_if_called)
  list(chat.say('a hat'))
  (night,) = chat.sleep()
  assert night['night'] == 3
  assert [path.name for path in chat.session.days] == ['day_0003.jsonl']


def test_forgetting_a_merged_night_needs_confirmation(two_days):
  chat = _open_chat(two_days.home)
  list(chat.say('a hat'))
  chat.sleep()
  assert 'night 3: level 1, expert 0, merged' in chat.status()
  questions, before = [], _logits(chat)
  assert not chat.forget(2, lambda where: questions.append(where) or False)
  (where,) = questions
  assert 'expert 0 of level 1, with nights [1], which would' in where
  np.testing.assert_array_equal(_logits(chat), before)
  assert chat.forget(2, lambda where: True)
  assert not np.allclose(_logits(chat), before, atol=1e-6)


def test_a_chat_opens_after_a_first_night_that_saved_nothing(home):
  folder = home / 'work' / 'run' / 'seed_0' / 'sleep' / 'checkpoints'
  folder.mkdir(parents=True)
  chat = _open_chat(home)
  list(chat.say('a cat'))
  assert chat.messages[1]['role'] == 'assistant'


def test_forgetting_before_the_first_night_raises(home):
  with pytest.raises(ValueError, match='No expert holds night 1'):
    _open_chat(home).forget(1, _fail_if_called)


def test_an_interrupted_answer_is_kept_as_far_as_it_was_generated(home):
  chat = _open_chat(home)
  answer = chat.say('a cat')
  first = next(answer)
  answer.close()
  assert chat.messages[-1] == {'role': 'assistant', 'content': first}
  assert _open_chat(home).messages == chat.messages


def _interrupt(study, **options):
  raise KeyboardInterrupt


def test_an_interrupted_night_is_continued_without_new_messages(
  home, monkeypatch
):
  chat = _open_chat(home)
  chat.messages = [
    {'role': 'user', 'content': 'a cat'},
    {'role': 'assistant', 'content': ' sat\n'},
  ]
  with monkeypatch.context() as patch:
    patch.setattr(study.Study, 'run', _interrupt)
    with pytest.raises(KeyboardInterrupt):
      chat.sleep()
  reopened = _open_chat(home)
  assert 'not finished: /sleep continues it' in reopened.status()
  assert len(reopened.sleep()) == _num_days(reopened) == 1
  assert 'not finished' not in reopened.status()
  (day,) = (home / 'work' / 'days').iterdir()
  assert json.loads(day.read_text())['text'] == 'user: a cat\nassistant: sat'
  with pytest.raises(ValueError, match='no messages since the last night'):
    reopened.sleep()


def test_a_message_that_the_template_rejects_is_not_kept(home):
  one_turn = (
    "{% if messages|length > 2 %}{{ raise_exception('too long') }}{% endif %}"
  )
  (home / 'base_model' / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': one_turn + TEMPLATE})
  )
  chat = _open_chat(home)
  list(chat.say('a cat'))
  before = list(chat.messages)
  with pytest.raises(ValueError, match='too long'):
    list(chat.say('a dog'))
  assert chat.messages == _open_chat(home).messages == before


def test_a_damaged_file_of_messages_is_named(home):
  _open_chat(home).save()
  (home / 'work' / 'today.json').write_text('[{"role": "us')
  with pytest.raises(ValueError, match=r'today\.json is damaged.*delete it'):
    _open_chat(home)


def test_a_night_without_messages_raises(home):
  with pytest.raises(ValueError, match='no messages since the last night'):
    _open_chat(home).sleep()


def test_a_message_is_answered_after_the_chat_was_killed(home):
  """Its answer is the one that it would have had."""
  answered = _open_chat(home)
  expected = ''.join(answered.say('a cat'))
  messages = answered.messages
  answered.messages = messages[:1]
  answered.save()  # As it is on disk before the first piece of the answer.
  chat = _open_chat(home)
  assert chat.is_unanswered
  assert ''.join(chat.answer()) == expected
  assert chat.messages == _open_chat(home).messages == messages
  assert not chat.is_unanswered
