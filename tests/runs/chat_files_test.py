"""A chat on disk: nothing said is lost, and no file of the user changes."""

import dataclasses
import json
import pathlib
import stat
import types

import pytest

from sleep_jax import errors
from sleep_jax.runs import chat_session, session_days


@dataclasses.dataclass
class Session:
  """A session without a model: its nights do nothing."""

  folder: pathlib.Path
  num_slept: int = 0

  @property
  def loaded(self):
    return types.SimpleNamespace(expert_history=[])

  @property
  def day_files(self):
    return session_days.SessionDays(self.folder, self.folder / 'run' / 'seed_0')

  @property
  def days(self):
    return self.day_files.paths()

  def needs_night(self):
    return len(self.day_files.names()) > self.num_slept

  def add_day(self, rows, name):
    assert not self.needs_night(), 'sleep() first'
    return self.day_files.add(name, [json.dumps({'text': row}) for row in rows])


class Learner:
  """Answers with letters; the answer can be interrupted."""

  def __init__(self, session):
    self.session = session
    self.interrupts = self.fails = False
    self.on_disk = []  # The file of messages when each piece was generated.

  def stream_answer(self, messages, **sampling):
    assert messages[-1]['content'] != 'refuse', 'refused by the template'

    def pieces():
      for piece in 'yes':
        self.on_disk.append(json.loads(today(self.session)))
        if self.fails:
          raise OSError('out of order')
        yield piece

    return pieces()

  def sleep(self):
    if self.interrupts:
      raise KeyboardInterrupt
    self.session.num_slept += 1
    return [{'night': self.session.num_slept, 'accepted': True}]


def today(session):
  return (session.folder / 'today.json').read_text()


@pytest.fixture
def learner(tmp_path):
  return Learner(Session(tmp_path / 'chat'))


def open_chat(learner):
  return chat_session.ChatSession(learner)


def test_a_message_is_on_disk_before_it_is_answered(learner):
  chat = open_chat(learner)
  assert ''.join(chat.say('a cat')) == 'yes'
  asked = {'role': 'user', 'content': 'a cat'}
  assert all(kept['messages'] == [asked] for kept in learner.on_disk)
  # The process is killed during the next answer.
  answer = chat.say('a dog')
  next(answer)
  reopened = open_chat(learner)
  said = [message['content'] for message in reopened.messages]
  assert said == ['a cat', 'yes', 'a dog']
  assert ''.join(reopened.say('a hen')) == 'yes'
  # A failed answer keeps the message too.
  learner.fails = True
  with pytest.raises(OSError, match='out of order'):
    list(reopened.say('a fox'))
  assert open_chat(learner).messages[-2]['content'] == 'a fox'


def test_files_are_for_their_owner_only(learner):
  chat = open_chat(learner)
  list(chat.say('a cat'))
  chat.sleep()
  modes = {
    path.name: stat.S_IMODE(path.stat().st_mode)
    for path in [learner.session.folder, *learner.session.folder.rglob('*')]
  }
  assert modes == {
    'chat': 0o700, 'days': 0o700, 'day_0001.jsonl': 0o600, 'days.json': 0o600,
    'today.json': 0o600,
  }  # fmt: skip


def test_files_of_the_user_are_neither_days_nor_overwritten(learner):
  days = learner.session.folder / 'days'
  days.mkdir(parents=True)
  own = ('notes.txt', 'my.jsonl', 'day_3.jsonl', 'day_0004.jsonl', '.hidden')
  for name in own:
    (days / name).write_text('mine')
  chat = open_chat(learner)
  (note,) = chat.notes()
  assert 'day_0004.jsonl, day_3.jsonl, my.jsonl, notes.txt' in note
  assert chat.status().startswith('0 messages today, after 0 days')
  list(chat.say('a cat'))
  chat.sleep()
  assert learner.session.day_files.names() == ['day_0005']
  assert all((days / name).read_text() == 'mine' for name in own)
  # Even if a file appears at the last moment.
  (days / 'day_0006.jsonl').write_text('mine')
  with pytest.raises(errors.ExistsError, match='day_0006.jsonl exists'):
    learner.session.day_files.add('day_0006', ['{}'])
  assert (days / 'day_0006.jsonl').read_text() == 'mine'
  assert learner.session.day_files.names() == ['day_0005']


def test_a_deleted_day_changes_no_other(learner):
  chat = open_chat(learner)
  for text in ('a cat', 'a dog', 'a hen'):
    list(chat.say(text))
    chat.sleep()
  days = learner.session.day_files
  before = {path.name: path.read_text() for path in days.paths()}
  (days.folder / 'day_0001.jsonl').unlink()
  list(chat.say('a fox'))
  (night,) = chat.sleep()
  assert night['night'] == 4
  after = {path.name: path.read_text() for path in days.paths()}
  del before['day_0001.jsonl']
  assert sorted(after) == [*sorted(before), 'day_0004.jsonl']
  assert before.items() <= after.items()
  # Nor do all of them.
  for path in days.paths():
    path.unlink()
  list(chat.say('an ox'))
  chat.sleep()
  assert [path.name for path in days.paths()] == ['day_0005.jsonl']
  assert len(days.names()) == 5


def test_a_day_is_learned_once_wherever_the_chat_ends(learner, monkeypatch):
  chat = open_chat(learner)
  list(chat.say('a cat'))

  def die(*_):
    raise KeyboardInterrupt

  # Before the day is written, also if it was recorded: nothing is lost.
  for place in ('sleep_jax.runs.session_days.SessionDays.add',
                'sleep_jax.storage.private_files.write_new'):  # fmt: skip
    with monkeypatch.context() as patch:
      patch.setattr(place, die)
      with pytest.raises(KeyboardInterrupt):
        chat.sleep()
    chat = open_chat(learner)
    assert len(chat.messages) == 2 and learner.session.days == []
  # Right after: they are not there twice.
  learner.session.num_slept = len(learner.session.day_files.names())
  save = chat.save
  monkeypatch.setattr(
    chat, 'save', lambda becomes='': save(becomes) if becomes else die()
  )
  with pytest.raises(KeyboardInterrupt):
    chat.sleep()
  chat = open_chat(learner)
  assert chat.messages == [] and learner.session.needs_night()
  # In the night, and something is said before it goes on.
  learner.interrupts = True
  with pytest.raises(KeyboardInterrupt):
    chat.sleep()
  chat = open_chat(learner)
  list(chat.say('a dog'))
  learner.interrupts = False
  assert len(chat.sleep()) == len(learner.session.days) == 2


def test_messages_stay_if_another_learner_takes_the_name_of_their_day(
  learner, monkeypatch
):
  chat = open_chat(learner)
  list(chat.say('a cat'))

  def die(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(Session, 'add_day', die)
    with pytest.raises(KeyboardInterrupt):
      chat.sleep()
  name = learner.session.day_files.next_name()
  assert json.loads(today(learner.session))['becomes'] == name
  learner.session.add_day(['something else'], name)
  assert [m['content'] for m in open_chat(learner).messages][0] == 'a cat'


def test_messages_of_a_day_that_is_erased_do_not_come_back(
  learner, monkeypatch
):
  """Also if the chat was killed just after they became that day."""
  chat = chat_session.ChatSession(learner)
  list(chat.say('hello'))
  add_day = Session.add_day

  def add_and_die(self, rows, name):
    add_day(self, rows, name)
    raise KeyboardInterrupt

  monkeypatch.setattr(Session, 'add_day', add_and_die)
  with pytest.raises(KeyboardInterrupt):
    chat.sleep()
  assert json.loads(today(learner.session))['messages']
  assert chat_session.ChatSession(learner).messages == []
  learner.session.day_files.remove('day_0001')
  assert chat_session.ChatSession(learner).messages == []


def test_a_message_that_is_refused_is_not_kept(learner):
  chat = open_chat(learner)
  list(chat.say('a cat'))
  before = today(learner.session)
  with pytest.raises(errors.UsageError, match="not UTF-8 after 'a '"):
    list(chat.say('a \udcff'))
  with pytest.raises(AssertionError, match='refused by the template'):
    list(chat.say('refuse'))
  assert today(learner.session) == before
  assert ''.join(chat.say('é ✓ 漢')) == 'yes'


def test_answers_that_were_never_given_are_not_learned(learner):
  chat = open_chat(learner)
  chat.say('a cat').close()
  answer = chat.say('a dog')
  next(answer)
  answer.close()
  chat = open_chat(learner)
  chat.messages[-1]['content'] = ''
  list(chat.say('a hen'))
  chat.sleep()
  (day,) = learner.session.day_files.paths()
  text = json.loads(day.read_text())['text']
  assert text == 'user: a dog\nuser: a hen\nassistant: yes'


@pytest.mark.parametrize(
  'text',
  ['[{"role": "us', '3', '[3]', '[{"role": "user"}]', '{"messages": 3}',
   '[{"role": "user", "content": 3}]', '{"becomes": "day_0001"}'],
)  # fmt: skip
def test_a_damaged_file_of_messages_is_named(learner, text):
  learner.session.folder.mkdir()
  (learner.session.folder / 'today.json').write_text(text)
  with pytest.raises(errors.WorkdirError, match=r'today\.json is damaged'):
    open_chat(learner)


def test_a_chat_of_an_earlier_version_is_continued(learner):
  """It has messages as a list, and no record of its days."""
  folder = learner.session.folder
  seed, days = folder / 'run' / 'seed_0', folder / 'days'
  seed.mkdir(parents=True)
  days.mkdir()
  for name in ('day_0001.jsonl', 'day_0002.jsonl', 'day_3.jsonl'):
    (days / name).write_text('{"text": "a cat"}\n')
  messages = [
    {'role': 'user', 'content': 'a cat'},
    {'role': 'assistant', 'content': 'yes'},
  ]
  (folder / 'today.json').write_text(json.dumps(messages))
  assert learner.session.day_files.names() == ['day_0001', 'day_0002']
  record = {'rows': 1, 'digest': ''}
  names = ('pretraining text', 'day 1', 'day_0002')
  records = [{'name': name, **record} for name in names]
  (seed / 'days.json').write_text(json.dumps(records))
  assert learner.session.day_files.names() == ['day_0002']
  learner.session.num_slept = 1
  chat = open_chat(learner)
  assert chat.messages == messages
  chat.sleep()
  assert learner.session.day_files.names() == ['day_0002', 'day_0004']


@pytest.mark.parametrize('text', ['{', '3', '[3]', '["../x"]', '["day"]'])
def test_a_damaged_record_of_days_is_named(learner, text):
  learner.session.folder.mkdir()
  (learner.session.folder / 'days.json').write_text(text)
  with pytest.raises(errors.WorkdirError, match=r'days\.json is damaged'):
    learner.session.day_files.names()
