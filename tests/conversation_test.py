"""A conversation sleeps, wakes up with an empty context, and goes on."""

import json

import pytest

from configs import chat as chat_config
from sleep_jax import conversation
from tests import checkpoints, town

pytestmark = pytest.mark.usefixtures('one_device')
one_device = town.one_device

TEMPLATE = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>"
  '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}'
)


@pytest.fixture
def home(tmp_path):
  folder = tmp_path / 'host'
  folder.mkdir()
  end = checkpoints.save_words(folder, ['user: a cat', 'assistant: sat'])
  checkpoints.save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': TEMPLATE})
  )
  return tmp_path


def _talk(home):
  c = town.shrink(chat_config.get_config())
  c.data.update(context=48, max_prompt=12, overlap=4, batch_size=1)
  c.wake.optimizers = (dict(learning_rate=0.0),)
  c.levels = (
    c.levels[0] | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=3,
      rank=4,
    ),
    c.levels[1] | dict(slots=0, rank=0),
  )  # fmt: skip
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old, day | dict(teacher='context'))
  c.data.settings.stems = ()
  return conversation.Conversation(
    c, str(home / 'work'), str(home / 'host'), max_new=6
  )


def test_a_day_is_slept_on_and_the_next_begins_empty(home):
  talk = _talk(home)
  answer = ''.join(talk.say('a cat'))
  assert [m['role'] for m in talk.messages] == ['user', 'assistant']
  assert talk.messages[1]['content'] == answer
  # Closed and opened again in the middle of the day.
  again = _talk(home)
  assert again.messages == talk.messages
  nights = again.sleep()
  assert len(nights) == again.days == 1 and again.messages == []
  assert 'night 1: level 1, expert 0, activated' in again.status()
  list(again.say('a dog'))
  assert len(again.sleep()) == again.days == 2
  assert len(_talk(home).status().splitlines()) == 3
  days = sorted((home / 'work' / 'days').iterdir())
  (row,) = map(json.loads, days[0].read_text().splitlines())
  assert row['text'] == f'user: a cat\nassistant: {answer}'


def test_an_answer_that_nobody_hears_out_is_kept_as_far_as_it_came(home):
  talk = _talk(home)
  answer = talk.say('a cat')
  first = next(answer)
  answer.close()
  assert talk.messages[-1] == {'role': 'assistant', 'content': first}
  assert _talk(home).messages == talk.messages


def test_there_is_no_night_without_a_day(home):
  with pytest.raises(ValueError, match='Nothing was said today'):
    _talk(home).sleep()
