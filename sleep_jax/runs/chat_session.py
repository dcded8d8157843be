"""A conversation that is consolidated overnight: one day is one document.

The messages since the last night are in the context of every answer, and on
disk before it is generated. At night they become the text of one day, which the
learner consolidates, and the next day starts with an empty context.
"""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sleep_jax import errors
from sleep_jax.runs import expert_history, session_days
from sleep_jax.storage import private_files

_TODAY = 'today.json'


class Learner(Protocol):
  """What a chat needs of `api.Learner`."""

  session: Any  # A `runs.session.Session`.

  def stream_answer(self, messages: Any, **sampling: Any) -> Iterator[str]: ...

  def wake(self, rows: Any) -> None: ...

  def sleep(self) -> list[dict[str, Any]]: ...

  def forget(self, night: int, confirm: Callable[[str], bool]) -> bool: ...


class ChatSession:
  """A conversation with a learner.

  Attributes:
    messages: of today, dicts with 'role' and 'content'.
    session: the learner's session.

  Raises:
    WorkdirError: the file of today's messages is damaged.
  """

  def __init__(
    self, learner: Learner, *, max_new: int = 256, temperature: float = 0.0
  ):
    """Continues the conversation that the learner's folder holds.

    Args:
      learner: model and folder.
      max_new: most tokens of an answer.
      temperature: 0 takes the likeliest tokens.
    """
    self._learner, self.session = learner, learner.session
    self._sampling = {'max_new': max_new, 'temperature': temperature}
    self._file = self.session.folder / _TODAY
    self.messages, day = _read(self._file)
    if self.messages and self._are_learned_in(day):
      # They became a day just before the chat was ended. If that day is erased
      # later, they must not come back.
      self.messages = []
      self.save()

  def _are_learned_in(self, day: str) -> bool:
    """Returns whether a day begins with today's messages.

    If the chat was ended before it wrote the day, another learner of the folder
    may have given its name to another text.
    """
    first = session_days.as_line(0, _as_document(self.messages))
    for path in self.session.days:
      if path.stem == day:
        with open(path, encoding='utf-8') as file:
          return file.readline().rstrip('\n') == first
    return False

  @property
  def is_unanswered(self) -> bool:
    """Whether the chat was ended before the last message was answered."""
    return bool(self.messages) and self.messages[-1]['role'] == 'user'

  def say(self, text: str) -> Iterator[str]:
    """Yields the model's answer to a message, in pieces.

    The message is on disk before the first piece. If the caller stops
    listening, the answer so far is kept.

    Raises:
      UsageError: the message is not valid Unicode, or the conversation is too
        long for the model; the message is not kept then.
      ModelFileError, DataError: the chat template refuses the conversation; the
        message is not kept then.
    """
    _check_text(text)
    messages = list(self.messages)
    if self.is_unanswered:  # Templates expect an answer.
      messages.append({'role': 'assistant', 'content': ''})
    yield from self._answer([*messages, {'role': 'user', 'content': text}])

  def answer(self) -> Iterator[str]:
    """Yields the answer to the last message, before which the chat was ended.

    It is the answer that the message would have had.
    """
    yield from self._answer(self.messages)

  def _answer(self, asked: list[dict[str, str]]) -> Iterator[str]:
    """Yields the answer to the last of some messages, and keeps all of them."""
    pieces = self._learner.stream_answer(
      asked, seed=len(asked), **self._sampling
    )
    self.messages, answer = asked, ''
    try:
      self.save()
      for piece in pieces:
        answer += piece
        yield piece
    finally:
      self.messages = [*asked, {'role': 'assistant', 'content': answer}]
      self.save()

  def sleep(self) -> list[dict[str, Any]]:
    """Consolidates today's messages; returns the records of the nights.

    First continues a night that was interrupted.

    Raises:
      UsageError: there are no messages and no night is under way.
    """
    nights = []
    if self.session.needs_night():
      nights = self._learner.sleep()
    elif not self.messages:
      raise errors.UsageError(
        'There are no messages since the last night: there is nothing to '
        'consolidate.'
      )
    if not self.messages:
      return nights
    name = self.session.day_files.next_name()
    # If the chat ends after the day is written, its messages are not kept.
    self.save(becomes=name)
    self.session.add_day([_as_document(self.messages)], name)
    self.messages = []
    self.save()
    return nights + self._learner.sleep()

  def forget(self, night: int, confirm: Callable[[str], bool]) -> bool:
    """Switches off the expert of a night; see `api.Learner.forget`."""
    return self._learner.forget(night, confirm)

  def status(self) -> str:
    """Returns how many messages there are, and which night is where."""
    days = self.session.day_files
    num, num_days = len(self.messages), len(days.names())
    today = f'{num} message{"s" * (num != 1)} today, after {num_days} day'
    today += 's' * (num_days != 1)
    if self.session.needs_night():
      today += ', whose night is not finished: /sleep continues it'
    history = self.session.loaded.expert_history
    forgotten = expert_history.forgotten_at(history)
    rows = [
      f'night {night}: level {row["level"]}, expert {row["slot"]}, '
      f'{row["event"]}'
      for index, row in enumerate(history)
      for night in forgotten.get(index, (None, [row['night']]))[1]
    ]
    return '\n'.join([today, *self.notes(), *rows])

  def notes(self) -> list[str]:
    """Returns a sentence if there are files that are no days of the chat."""
    others = self.session.day_files.others()
    if not others:
      return []
    more = f' and {len(others) - 5} more' if len(others) > 5 else ''
    return [
      f'{self.session.day_files.folder} has files that are no days of this '
      f'chat: {", ".join(others[:5])}{more}. They are not learned and stay as '
      'they are. To learn a text, teach it with Learner.wake.'
    ]

  def save(self, becomes: str = '') -> None:
    """Writes today's messages to disk.

    Args:
      becomes: name of the day that they are about to become.
    """
    private_files.write(
      self._file, json.dumps({'becomes': becomes, 'messages': self.messages})
    )


def discard_messages(folder: pathlib.Path, day: str) -> None:
  """Removes messages that became a day, if the chat ended before it did so.

  Args:
    folder: of a session.
    day: name of the day.
  """
  file = folder / _TODAY
  if _read(file)[1] == day:
    private_files.write(file, json.dumps({'becomes': '', 'messages': []}))


def _check_text(text: str) -> None:
  """Refuses text that cannot be stored: bytes that are no UTF-8."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise errors.UsageError(
      f'The message has a byte that is not UTF-8 after '
      f'{text[: error.start]!r}: it was not sent. Type it again, or set the '
      'terminal to UTF-8.'
    ) from error


def _as_document(messages: list[dict[str, str]]) -> str:
  """Returns a conversation as one text, without answers that are empty."""
  return '\n'.join(
    f'{message["role"]}: {message["content"].strip()}'
    for message in messages
    if message['content'].strip()
  )


def _read(path) -> tuple[list[dict[str, str]], str]:
  """Returns the messages that `save` wrote, and the day they were to become.

  Raises:
    WorkdirError: the file is damaged.
  """
  if not path.is_file():
    return [], ''
  try:
    kept = json.loads(path.read_text())
    if isinstance(kept, list):  # Written by an earlier version.
      kept = {'messages': kept}
    messages = [
      {'role': message['role'], 'content': message['content']}
      for message in kept['messages']
    ]
    if all(isinstance(v, str) for m in messages for v in m.values()):
      return messages, kept.get('becomes', '')
    found = 'a message has no text'
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    found = f'{type(error).__name__}: {error}'
  raise errors.WorkdirError(
    f'{path} is damaged ({found}): it holds the messages since the last night. '
    'Repair it, or delete it to start an empty day.'
  )
