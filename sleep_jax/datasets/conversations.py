"""Conversations in rows of text: which ones are read, and how they are written.

A conversation gives one row per assistant turn: that turn is learned, and the
turns before it are its prompt. `data/chat_rows.py` writes the prompt with the
chat template of the model. A model without one reads the plain format:

    user: Where does Ada live?
    assistant: In Oslo.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import dataset, json_lines

ASSISTANT = 'assistant'
# Roles of Hugging Face, and what ShareGPT calls them.
_ROLES = {role: role for role in ('system', 'user', ASSISTANT)}
_FROM = _ROLES | {'human': 'user', 'gpt': ASSISTANT}
# Fields of a message that change what a model would see or learn.
_NOT_READ = (
  'tool_calls', 'tool_call_id', 'function_call', 'reasoning_content',
  'thinking', 'reasoning', 'images', 'audio', 'weight',
)  # fmt: skip
_TOOL_ROLES = (
  'tool', 'function', 'function_call', 'observation', 'tool_response', 'ipython'
)  # fmt: skip


def read_messages(
  where: str, value: Any, field: str, *, share_gpt: bool = False
) -> tuple[dataset.Message, ...]:
  """Returns the messages of a field as (role, content).

  Args:
    where: 'file:line' of the row, for messages.
    value: the field's value.
    field: its name, for messages.
    share_gpt: whether messages are {"from", "value"} and not {"role",
      "content"}.

  Raises:
    DataError: it is not a list of messages that are read; names the place, such
      as `messages[2].role`.
  """
  names = ('from', 'value') if share_gpt else ('role', 'content')
  example = f'[{{"{names[0]}": "user", "{names[1]}": "Hi"}}, ...]'
  if not isinstance(value, list) or not value:
    raise errors.DataError(
      f'{where}: field {field!r} is {_short(value)}: expected a list of '
      f'messages, {example}.'
    )
  return tuple(
    _read_message(where, message, f'{field}[{place}]', names)
    for place, message in enumerate(value)
  )


def to_rows(
  where: str,
  messages: Sequence[dataset.Message],
  field: str,
  *,
  first: int = 0,
  roles: Sequence[str] = (),
  ends: bool = True,
) -> list[dataset.Row]:
  """Returns one row per assistant turn of a conversation.

  Args:
    where: 'file:line' of the conversation.
    messages: all turns.
    field: name of the list, for messages.
    first: number of the first turn that may be learned.
    roles: of all turns as the row names them, for messages; those of `messages`
      if it is empty.
    ends: whether the last turn is over, see `dataset.Row`.

  Raises:
    DataError: the conversation does not end with an assistant turn, or begins
      with one.
  """
  place = len(messages) - 1 - first
  name = 'from' if field == 'conversations' else 'role'
  roles = roles or [role for role, _ in messages]
  if messages[-1][0] != ASSISTANT:
    raise errors.DataError(
      f'{where}: {field}[{place}].{name} is {roles[-1]!r}, and it is the '
      'last message: expected an assistant turn, which is what is learned. '
      'Remove the messages after the last assistant turn, or the row.'
    )
  if messages[0][0] == ASSISTANT:
    list_name = 'prompt' if first else field
    raise errors.DataError(
      f'{where}: {list_name}[0].{name} is {roles[0]!r}, and it is the first '
      'message: expected a user turn before it, which it answers. Add it, or '
      'remove the first message.'
    )
  rows = []
  for stop in range(first, len(messages)):
    role, content = messages[stop]
    if role == ASSISTANT:
      prompt = plain_prompt(messages[:stop])
      rows.append(
        dataset.Row(
          text=f'{prompt} {content}',
          response_start=len(prompt),
          messages=tuple(messages[: stop + 1]),
          ends=ends or stop < len(messages) - 1,
          where=f'{where}, {field}[{stop - first}]',
        )
      )
  return rows


def plain_prompt(messages: Sequence[dataset.Message]) -> str:
  """Returns turns in the plain format, and the header of the next answer."""
  turns = [f'{role}: {content}\n' for role, content in messages]
  return ''.join([*turns, f'{ASSISTANT}:'])


def _read_message(
  where: str, message: Any, path: str, names: tuple[str, str]
) -> dataset.Message:
  """Returns (role, content) of a message at `path`."""
  role_name, content_name = names
  if not isinstance(message, Mapping):
    raise errors.DataError(
      f'{where}: {path} is {_short(message)}: expected an object with '
      f'"{role_name}" and "{content_name}".'
    )
  for name in _NOT_READ:
    # A weight of 1 is that of a message without one.
    if message.get(name) not in (None, '', [], {}, 1):
      raise errors.DataError(
        f'{where}: {path}.{name} is {_short(message[name])}: it is not read, '
        'and the model would see or learn something else without it. Remove '
        'the field if that is right, or the row.'
      )
  missing = [name for name in names if message.get(name) is None]
  if missing:
    raise errors.DataError(
      f'{where}: {path} has the fields {sorted(message)}, and no '
      f'"{missing[0]}": expected "{role_name}" and "{content_name}".'
    )
  roles = _FROM if role_name == 'from' else _ROLES
  role = message[role_name]
  if not isinstance(role, str) or role not in roles:
    what_to_do = (
      'tool calls are not read; remove the row'
      if role in _TOOL_ROLES
      else 'rename it, or remove the message'
    )
    raise errors.DataError(
      f'{where}: {path}.{role_name} is {_short(role)}: expected one of '
      f'{", ".join(roles)}: {what_to_do}.'
    )
  content = _read_content(
    where, message[content_name], f'{path}.{content_name}'
  )
  return roles[role], content


def _read_content(where: str, content: Any, path: str) -> str:
  """Returns a content, which is a string or a list of text parts."""
  if not isinstance(content, list):
    return json_lines.text_value(content, path, where)
  texts = []
  for place, part in enumerate(content):
    kind = part.get('type') if isinstance(part, Mapping) else None
    if kind != 'text':
      found = f'has the type {kind!r}' if kind else f'is {_short(part)}'
      raise errors.DataError(
        f'{where}: {path}[{place}] {found}: only text is read, as {{"type": '
        '"text", "text": ...}. Remove the part if the text is right without '
        'it, or the row.'
      )
    if not isinstance(part.get('text'), str):
      raise errors.DataError(
        f'{where}: {path}[{place}].text is {_short(part.get("text"))}: '
        'expected a string.'
      )
    texts.append(part['text'])
  return json_lines.text_value(''.join(texts), path, where)


def _short(value: Any) -> str:
  """Returns the beginning of a value, for messages."""
  text = repr(value)
  return text if len(text) <= 60 else f'{text[:57]}...'
