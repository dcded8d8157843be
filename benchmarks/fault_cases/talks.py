"""Days of chats whose files change between two starts.

A chat has two days and two nights. Files are changed, then it is opened again,
something is said, and it sleeps. No file of the user may change, what was said
must be in one new file, and its nights must be run. Where the names of the
days are those of an undisturbed chat, the learned arrays must be equal too.
"""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

from benchmarks.fault_cases import days, endings

GOES_ON = 'goes on'
_NIGHTS = 2  # Of the third day: two experts are merged before its own.
_SAID = ('Ann has a cat.', 'Bo has a dog.', 'Cy has a hen.')


@dataclasses.dataclass(frozen=True)
class Talk:
  """A change of the files of a chat.

  Attributes:
    name: unique.
    change: changes the folder of the chat.
    right: GOES_ON, or days.REFUSED.
    message: pattern, if it is refused.
    equal: whether the end has the arrays of an undisturbed chat.
    scenario, moment: for the table.
  """

  name: str
  change: days.Change
  right: str = GOES_ON
  message: str = ''
  equal: bool = True
  scenario: str = 'chat'
  moment: str = 'after the end'

  def attempt(
    self, case: 'Talk', context: days.Context, home: pathlib.Path
  ) -> tuple[str, str, list[str]]:
    """Returns what happened, the message, and what is wrong with it."""
    from sleep_jax import errors

    _copy(context, home / 'work')
    self.change(home / 'work')
    before = _files(home / 'work')
    try:
      chat = _open(context, home / 'work')
      nights = _say_and_sleep(chat, _SAID[2])
    except errors.SleepJaxError as error:
      message, why = str(error), []
      if self.right != days.REFUSED:
        why = [f'refused: {message}']
      elif not re.search(self.message, message):
        why = [f'expected {self.message!r}: {message}']
      return 'refused', message, why
    if self.right == days.REFUSED:
      return 'goes on', '', ['not refused']
    after = _files(home / 'work')
    why = [f'{n} was changed' for n in before if after.get(n) != before[n]]
    new = [n for n in after if n not in before and _SAID[2] in after[n]]
    if len(new) != 1:
      why.append(f'what was said is in {new}')
    if len(nights) != _NIGHTS:
      why.append(f'{len(nights)} nights')
    if self.equal:
      found = days.learned_arrays(endings.read(home / 'work'))
      why += endings.differences(_undisturbed(context), found)
    return f'goes on, {", ".join(new)} is new', '', why


def _open(context: days.Context, work: pathlib.Path) -> Any:
  """Opens a chat; compiled programs are those of the other chats."""
  from benchmarks.fault_cases.configs import talk
  from launch import tiny_llama
  from sleep_jax import api
  from sleep_jax.runs import chat_session

  model = context.home / 'llama'
  if not model.exists():
    tiny_llama.write(model)
  config = talk.get_config()
  config.checkpoint.every_seconds = 1e9
  learner = api.load(str(model), str(work), config=config, verbose=False)
  learner.session._programs = context.programs.setdefault('chat', {})
  return chat_session.ChatSession(learner, max_new=8)


def _say_and_sleep(chat: Any, text: str) -> list[dict[str, Any]]:
  for _ in chat.say(text):
    pass
  return chat.sleep()


def _copy(context: days.Context, target: pathlib.Path) -> None:
  """Copies a chat with two days."""
  kept = context.home / 'two_days'
  if not kept.exists():
    for text in _SAID[:2]:
      _say_and_sleep(_open(context, kept), text)
  shutil.copytree(kept, target)


def _undisturbed(context: days.Context) -> endings.Ending:
  """Returns the arrays of a chat with three days."""
  if 'chat' not in context.ends:
    work = context.home / 'three_days'
    _copy(context, work)
    _say_and_sleep(_open(context, work), _SAID[2])
    context.ends['chat'] = days.learned_arrays(endings.read(work))
  return context.ends['chat']


def _files(work: pathlib.Path) -> dict[str, str]:
  """Returns name -> text of the files in days/."""
  return {
    path.name: path.read_text()
    for path in sorted((work / 'days').glob('*'))
    if path.is_file()
  }


def _delete(*names: str) -> days.Change:
  return lambda work: [(work / 'days' / n).unlink() for n in names] and None


def _put(name: str, text: str) -> days.Change:
  return lambda work: (work / name).write_text(text) and None


def _rename(work: pathlib.Path) -> None:
  (work / 'days' / 'day_0001.jsonl').rename(work / 'days' / 'monday.jsonl')


def _edit(work: pathlib.Path) -> None:
  days.rewrite('day_0001.jsonl', 'cat', 'cow')(work / 'days')


def _remove_days(work: pathlib.Path) -> None:
  shutil.rmtree(work / 'days')


_ROW = json.dumps({'text': 'My own text.'}) + '\n'
CASES = (
  Talk('chat: nothing', lambda work: None),
  Talk('chat: the first day is deleted', _delete('day_0001.jsonl')),
  Talk('chat: the last day is deleted', _delete('day_0002.jsonl')),
  Talk(
    'chat: all days are deleted', _delete('day_0001.jsonl', 'day_0002.jsonl')
  ),
  Talk('chat: the folder of days is deleted', _remove_days),
  Talk('chat: a day is edited', _edit),
  Talk('chat: a day is renamed', _rename),
  Talk('chat: a file is put beside', _put('days/monday.jsonl', _ROW)),
  Talk('chat: a text is put beside', _put('days/notes.txt', 'x')),
  Talk(
    'chat: a file has the name of the next day',
    _put('days/day_0003.jsonl', _ROW), equal=False,
  ),
  Talk(
    'chat: a file has the name of a later day',
    _put('days/day_0009.jsonl.gz', 'x'), equal=False,
  ),
  Talk(
    "chat: the messages' file is damaged", _put('today.json', '[{"role": "us'),
    days.REFUSED, r'today\.json is damaged',
  ),
  Talk(
    'chat: the list of days is damaged', _put('days.json', '["day_00'),
    days.REFUSED, r'days\.json is damaged',
  ),
)  # fmt: skip
