"""Formats of rows that are read, each a JSON object with certain fields.

A field that is null counts as absent. Other fields than those of a format are
not read; a row with fields of two formats is refused, because one of them would
be dropped. A prompt and response, and messages, may have the field `about`.
"""

import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import conversations, dataset, json_lines

# The last message is the beginning of an answer, as in transformers.
CONTINUES = 'continue_final_message'
ABOUT = 'about'  # Whom or what a row is about, as its prompt calls it.
# Fields that each format needs, and fields that it also takes.
_FORMATS = (
  (('text',), ()),
  (('prompt', 'response'), ()),
  (('prompt', 'completion'), ()),
  (('messages',), (CONTINUES,)),
  (('conversations',), ()),
  (('instruction', 'output'), ('input',)),
  (('question', 'answer'), ()),
)
_FIELDS = {name for needs, takes in _FORMATS for name in (*needs, *takes)}
# Fields of other formats that would be dropped -> what to do.
_DROPPED = {
  'context': 'write it into the prompt',
  'system': 'write it as the first message of {"messages": [...]}',
  'history': 'write the whole conversation as {"messages": [...]}',
  'chosen': 'write the chosen answer as "completion"',
  'rejected': 'remove it; only answers that should be learned are read',
  'tools': 'remove the row; tool calls are not read',
  'functions': 'remove the row; tool calls are not read',
  'images': 'remove the row; only text is read',
}
# Other names of fields -> a field that is read.
_SYNONYMS = {
  **dict.fromkeys(('content', 'document', 'body', 'article'), 'text'),
  **dict.fromkeys(
    ('conversation', 'dialog', 'dialogue', 'chat', 'turns'), 'messages'
  ),
  **dict.fromkeys(
    ('instruction', 'question', 'query', 'input', 'inputs', 'source', 'user'),
    'prompt',
  ),
  **dict.fromkeys(
    ('completion', 'output', 'answer', 'answers', 'target', 'targets', 'reply',
     'assistant', 'chosen'),
    'response',
  ),
}  # fmt: skip
_SUBJECT_WORDS = 4  # First words of a plain text that are its subject.


def to_rows(where: str, row: Mapping[str, Any]) -> list[dataset.Row]:
  """Converts a JSON object to rows: a conversation gives several, others one.

  Args:
    where: 'file:line' of the object, for messages.
    row: the object.

  Raises:
    DataError: its fields are none of those that are read, or are ambiguous.
  """
  needs = _find_format(where, row)
  if needs == ('text',):
    return [_plain_row(where, json_lines.text_field(row, 'text', where))]
  for name, what_to_do in _DROPPED.items():
    if row.get(name) not in (None, '', [], {}):
      raise errors.DataError(
        f'{where}: field {name!r} is not read with {_quoted(needs)}, and would '
        f'be dropped: {what_to_do}, or remove the field.'
      )
  if needs == ('messages',):
    messages = conversations.read_messages(where, row['messages'], 'messages')
    goes_on = row.get(CONTINUES) or False
    if not isinstance(goes_on, bool):
      raise errors.DataError(
        f'{where}: field {CONTINUES!r} is {json.dumps(goes_on)}: expected true '
        '(the end of the last message is not learned) or false.'
      )
    return [
      _with_subject(row, read)
      for read in conversations.to_rows(
        where, messages, 'messages', ends=not goes_on
      )
    ]
  if needs == ('conversations',):
    messages = conversations.read_messages(
      where, row['conversations'], 'conversations', share_gpt=True
    )
    roles = [message['from'] for message in row['conversations']]
    return conversations.to_rows(where, messages, 'conversations', roles=roles)
  first, second = needs
  if first == 'prompt' and (
    isinstance(row[first], list) or isinstance(row[second], list)
  ):
    return _read_turns(where, row, second)
  prompt = json_lines.text_field(row, first, where)
  if row.get('input') not in (None, ''):
    prompt += '\n\n' + json_lines.text_field(row, 'input', where)
  response = with_space(prompt, json_lines.text_field(row, second, where))
  read = dataset.Row(
    text=prompt + response, response_start=len(prompt), where=where
  )
  return [_with_subject(row, read)]


def read_rows(
  objects: Iterable[tuple[str, Mapping[str, Any]]],
  on_error: json_lines.OnError | None = None,
) -> list[dataset.Row]:
  """Returns the rows of ('file:line', JSON object) pairs; see `to_rows`.

  Args:
    objects: as `row_files.read` yields them.
    on_error: called with the error of an object that cannot be used; the
      others are read. None raises it.
  """
  rows: list[dataset.Row] = []
  for where, fields in objects:
    try:
      rows += to_rows(where, fields)
    except errors.DataError as error:
      if on_error is None:
        raise
      on_error(error)
  return rows


def with_space(prompt: str, response: str) -> str:
  """Returns the response, with a space before it if there is none yet."""
  has_space = prompt[-1].isspace() or response[0].isspace()
  return response if has_space else ' ' + response


def _find_format(where: str, row: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the fields that make a row one of the formats.

  Raises:
    DataError: it is none of them, or more than one.
  """
  found = [name for name in row if name in _FIELDS and row[name] is not None]
  complete = _complete(found) or _complete(row)
  if not complete:
    raise errors.DataError(
      f'{where}: found the fields {sorted(row)}, expected "text", "prompt" and '
      '"response" (or "completion"), "messages", "conversations", '
      '"instruction" and "output", or "question" and "answer": '
      f'{_conversion(row)}.'
    )
  if 'response' in found and 'completion' in found:
    raise errors.DataError(
      f'{where}: found "response" and "completion", which mean the same: keep '
      'one of them.'
    )
  needs, takes = complete[0]
  others = [name for name in found if name not in (*needs, *takes)]
  if others:
    raise errors.DataError(
      f'{where}: found {_quoted(needs)} and also {_quoted(others)}: it is not '
      'clear which is to be learned, and the other would be dropped. Keep one '
      'of them.'
    )
  return needs


def _complete(found: Collection[str]):
  """Returns the formats whose fields are all there."""
  return [format for format in _FORMATS if set(format[0]) <= set(found)]


def _read_turns(where, row, second: str) -> list[dataset.Row]:
  """Returns the rows of {"prompt": [messages], "completion": [messages]}."""
  if not (isinstance(row['prompt'], list) and isinstance(row[second], list)):
    kinds = [
      'messages' if isinstance(row[name], list) else type(row[name]).__name__
      for name in ('prompt', second)
    ]
    raise errors.DataError(
      f'{where}: "prompt" is {kinds[0]} and "{second}" is {kinds[1]}: expected '
      'two strings, or two lists of messages. Write both in one way.'
    )
  prompt = conversations.read_messages(where, row['prompt'], 'prompt')
  answers = conversations.read_messages(where, row[second], second)
  return conversations.to_rows(
    where, (*prompt, *answers), second, first=len(prompt)
  )


def _plain_row(where: str, text: str) -> dataset.Row:
  match = re.match(rf'\s*\S+(\s+\S+){{0,{_SUBJECT_WORDS - 1}}}', text)
  return dataset.Row(
    text=text, subject=match.span() if match else None, where=where
  )


def _with_subject(fields: Mapping[str, Any], row: dataset.Row) -> dataset.Row:
  """Returns a row with its subject, where it last stands in the prompt.

  Other programs may mean something else by the field. So it is not read where
  it is no word or words of the prompt.
  """
  subject = fields.get(ABOUT)
  if not isinstance(subject, str) or not subject.strip():
    return row
  pattern = rf'(?<!\w){re.escape(subject)}(?!\w)'
  spans = [
    m.span() for m in re.finditer(pattern, row.text[: row.response_start])
  ]
  return dataclasses.replace(row, subject=spans[-1]) if spans else row


def _conversion(row: Mapping[str, Any]) -> str:
  """Returns how to convert a row of another format."""
  names: dict[str, str] = {}
  for name in row:
    names.setdefault(_SYNONYMS.get(name, name), name)
  for fields in (('prompt', 'response'), ('messages',), ('text',)):
    if all(field in names for field in fields):
      pairs = ', '.join(f'{f}: .{json.dumps(names[f])}' for f in fields)
      return f"convert the file, such as: jq -c '{{{pairs}}}' OLD > NEW"
  return 'add the missing field, or rename fields'


def _quoted(names) -> str:
  return ' and '.join(f'"{name}"' for name in names)
