"""A conversation sleeps, wakes up with an empty context, and goes on."""

import dataclasses
import functools
import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from configs import chat as chat_config
from sleep_jax import api
from sleep_jax.runs import chat_session, study
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

TEMPLATE = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>"
  '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}'
)


def _base_model(folder):
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['user: a cat', 'assistant: sat'])
  hf_files.save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': TEMPLATE})
  )


@pytest.fixture
def home(tmp_path):
  _base_model(tmp_path / 'base_model')
  return tmp_path


def _talk(home):
  c = tiny_study.shrink(chat_config.get_config())
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
  learner = api.load(
    str(home / 'base_model'), str(home / 'work'), config=c, verbose=False
  )
  return chat_session.ChatSession(learner, max_new=6)


def _days(talk):
  return len(talk._session.days)


def _logits(talk):
  """Of what would be said next, to some tokens."""
  loaded = talk._session.loaded
  said, _ = loaded.model.prefill(
    loaded.weights, jnp.arange(8)[None], jnp.array([8]), cache_size=8
  )
  return np.asarray(said)


@dataclasses.dataclass
class _Lived:
  """Two days and nights of a conversation, and what was seen on the way."""

  home: pathlib.Path
  answer: str  # To the first thing said.
  messages: list  # Then,
  reopened: list  # and after it was closed and opened again.
  mornings: list = dataclasses.field(default_factory=list)
  logits: list = dataclasses.field(default_factory=list)  # Each, from birth on.


@functools.cache
def _lived(home):
  home.mkdir()
  _base_model(home / 'base_model')
  talk = _talk(home)
  answer = ''.join(talk.say('a cat'))
  again = _talk(home)  # In the middle of the day.
  lived = _Lived(home, answer, talk.messages, list(again.messages))
  lived.logits.append(_logits(talk))
  for _ in range(2):
    nights = again.sleep()
    lived.mornings.append(
      (len(nights), _days(again), list(again.messages), again.status())
    )
    lived.logits.append(_logits(again))
    if _days(again) == 1:
      list(again.say('a dog'))
  shutil.copytree(home / 'work', home / 'kept')
  return lived


@pytest.fixture
def lived(tmp_path_factory, one_device):
  """The morning after the second night, each time anew."""
  lived = _lived(tmp_path_factory.getbasetemp() / 'conversation')
  shutil.rmtree(lived.home / 'work')
  shutil.copytree(lived.home / 'kept', lived.home / 'work')
  return lived


def test_a_day_is_slept_on_and_the_next_begins_empty(lived):
  assert [m['role'] for m in lived.messages] == ['user', 'assistant']
  assert lived.messages[1]['content'] == lived.answer
  assert lived.reopened == lived.messages
  for night, (nights, days, messages, status) in enumerate(lived.mornings, 1):
    assert nights == 1 and days == night and messages == []
    assert 'night 1: level 1, expert 0, activated' in status
  assert len(_talk(lived.home).status().splitlines()) == 3
  days = sorted((lived.home / 'work' / 'days').iterdir())
  (row,) = map(json.loads, days[0].read_text().splitlines())
  assert row['text'] == f'user: a cat\nassistant: {lived.answer}'


def _never(where):
  raise AssertionError(f'asked: {where}')


def test_a_forgotten_night_says_nothing_any_more_and_leaves_its_place(lived):
  initial_model, first, second = lived.logits
  talk = _talk(lived.home)
  np.testing.assert_array_equal(_logits(talk), second)
  assert not np.allclose(second, first, atol=1e-6)
  assert talk.forget(2, _never)
  np.testing.assert_array_equal(_logits(talk), first)
  # It stays forgotten, as long as the life goes on.
  again = _talk(lived.home)
  np.testing.assert_array_equal(_logits(again), first)
  with pytest.raises(ValueError, match=r'No expert holds night 2.*\[1\]'):
    again.forget(2, _never)
  list(again.say('a hat'))
  again.sleep()
  assert 'night 3: level 1, expert 1, activated' in again.status()
  assert again.forget(1, _never) and again.forget(3, _never)
  np.testing.assert_allclose(_logits(again), initial_model, atol=1e-6)


def test_who_would_forget_a_merged_night_is_asked(lived):
  talk = _talk(lived.home)
  list(talk.say('a hat'))
  talk.sleep()
  assert 'night 3: level 1, expert 0, merged' in talk.status()
  asked, before = [], _logits(talk)
  assert not talk.forget(2, lambda where: asked.append(where) or False)
  (where,) = asked
  assert 'expert 0 of level 1, with nights [1], which would' in where
  np.testing.assert_array_equal(_logits(talk), before)
  assert talk.forget(2, lambda where: True)
  assert not np.allclose(_logits(talk), before, atol=1e-6)


def test_a_first_night_that_saved_nothing_leaves_a_model_to_talk_to(home):
  folder = home / 'work' / 'run' / 'seed_0' / 'sleep' / 'checkpoints'
  folder.mkdir(parents=True)
  talk = _talk(home)
  list(talk.say('a cat'))
  assert talk.messages[1]['role'] == 'assistant'


def test_nothing_can_be_forgotten_before_anything_was_slept(home):
  with pytest.raises(ValueError, match='No expert holds night 1'):
    _talk(home).forget(1, _never)


def test_an_answer_that_nobody_hears_out_is_kept_as_far_as_it_came(home):
  talk = _talk(home)
  answer = talk.say('a cat')
  first = next(answer)
  answer.close()
  assert talk.messages[-1] == {'role': 'assistant', 'content': first}
  assert _talk(home).messages == talk.messages


def _interrupt(study, **how):
  raise KeyboardInterrupt


def test_a_night_that_was_interrupted_is_slept_without_a_word_more(
  home, monkeypatch
):
  talk = _talk(home)
  talk.messages = [
    {'role': 'user', 'content': 'a cat'},
    {'role': 'assistant', 'content': ' sat\n'},
  ]
  with monkeypatch.context() as patch:
    patch.setattr(study.Study, 'run', _interrupt)
    with pytest.raises(KeyboardInterrupt):
      talk.sleep()
  again = _talk(home)
  assert 'not finished: /sleep continues it' in again.status()
  assert len(again.sleep()) == _days(again) == 1
  assert 'not finished' not in again.status()
  (day,) = (home / 'work' / 'days').iterdir()
  assert json.loads(day.read_text())['text'] == 'user: a cat\nassistant: sat'
  with pytest.raises(ValueError, match='no messages since the last night'):
    again.sleep()


def test_what_the_template_refuses_was_never_said(home):
  short = (
    "{% if messages|length > 2 %}{{ raise_exception('too long') }}{% endif %}"
  )
  (home / 'base_model' / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': short + TEMPLATE})
  )
  talk = _talk(home)
  list(talk.say('a cat'))
  said = list(talk.messages)
  with pytest.raises(ValueError, match='too long'):
    list(talk.say('a dog'))
  assert talk.messages == _talk(home).messages == said


def test_a_broken_day_is_named(home):
  _talk(home).save()
  (home / 'work' / 'today.json').write_text('[{"role": "us')
  with pytest.raises(ValueError, match=r'today\.json is not JSON.*delete it'):
    _talk(home)


def test_there_is_no_night_without_a_day(home):
  with pytest.raises(ValueError, match='no messages since the last night'):
    _talk(home).sleep()
