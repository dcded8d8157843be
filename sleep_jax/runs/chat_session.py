"""A conversation that is consolidated overnight: one day is one document.

The messages since the last night are kept in a file and are in the context of
every answer. At night they become the text of one day, which the learner
consolidates, and the next day starts with an empty context.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from sleep_jax import errors
from sleep_jax.storage import workdir

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
    UsageError: the file of today's messages is damaged.
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
    self.messages: list[dict[str, str]] = _read(self._file)

  def say(self, text: str) -> Iterator[str]:
    """Yields the model's answer to a message, in pieces.

    If the caller stops listening, the answer so far is kept.

    Raises:
      UsageError: the chat template refuses the conversation; the message is not
        kept then.
    """
    asked = [*self.messages, {'role': 'user', 'content': text}]
    pieces = self._learner.stream_answer(
      asked, seed=len(asked), **self._sampling
    )
    self.messages, answer = asked, ''
    try:
      for piece in pieces:
        answer += piece
        yield piece
    finally:
      self.messages.append({'role': 'assistant', 'content': answer})
      self.save()

  def sleep(self) -> list[dict[str, Any]]:
    """Consolidates today's messages; returns the records of the nights.

    Without messages it continues a night that was interrupted.

    Raises:
      UsageError: there are no messages and no night is under way.
    """
    if self.messages:
      text = '\n'.join(
        f'{m["role"]}: {m["content"].strip()}' for m in self.messages
      )
      self.session.add_day([text])
      self.messages = []  # From here on the day is on disk.
      self.save()
    elif not self.session.needs_night():
      raise errors.UsageError(
        'There are no messages since the last night: there is nothing to '
        'consolidate.'
      )
    return self._learner.sleep()

  def forget(self, night: int, confirm: Callable[[str], bool]) -> bool:
    """Switches off the expert of a night; see `api.Learner.forget`."""
    return self._learner.forget(night, confirm)

  def status(self) -> str:
    """Returns how many messages there are, and which night is where."""
    num_days = len(self.session.days)
    today = f'{len(self.messages)} messages since the last of {num_days} nights'
    if self.session.needs_night():
      today += ', which is not finished: /sleep continues it'
    rows = [
      f'night {row["night"]}: level {row["level"]}, expert {row["slot"]}, '
      f'{row["event"]}'
      for row in self.session.loaded.expert_history
    ]
    return '\n'.join([today, *rows])

  def save(self) -> None:
    """Writes today's messages to disk."""
    workdir.write_text(self._file, json.dumps(self.messages))


def _read(path) -> list[dict[str, str]]:
  """Returns the messages that `save` wrote; none if there is no file."""
  if not path.is_file():
    return []
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise errors.WorkdirError(
      f'{path} is not JSON ({error}): it holds the messages since the last '
      'night. Repair it, or delete it to start an empty day.'
    ) from error
