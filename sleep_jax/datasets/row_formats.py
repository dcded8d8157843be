"""Formats of rows that are read, each a JSON object with certain fields."""

import re

from sleep_jax import errors
from sleep_jax.datasets import dataset, json_lines

_DIALOG_FIELDS = (
  'prompt', 'response', 'completion', 'messages', 'conversations'
)  # fmt: skip
# A field of a common format that is not read -> how to convert it.
_OTHER_FORMATS = {
  'messages': 'chat rows are not read; write one row per assistant turn, with '
  'the turns before it as "prompt" and its content as "response"',
  'conversations': 'chat rows are not read; write one row per answer, with the '
  'turns before it as "prompt" and its value as "response"',
  'instruction': 'write "instruction" (and "input") as "prompt" and "output" '
  'as "response"',
  'question': 'write "question" as "prompt" and "answer" as "response"',
}
_SUBJECT_WORDS = 4  # First words of a plain text that are its subject.


def to_row(where: str, row: dict) -> dataset.Row:
  """Converts a JSON object to a row.

  Args:
    where: 'file:line' of the object, for messages.
    row: the object.

  Raises:
    DataError: its fields are none of those that are read, or are ambiguous.
  """
  parts = [name for name in _DIALOG_FIELDS if name in row]
  if 'text' in row and parts:
    raise errors.DataError(
      f'{where}: found "text" and {parts}: a row is either plain text or a '
      'prompt with its response. Keep one of them.'
    )
  if 'response' in row and 'completion' in row:
    raise errors.DataError(
      f'{where}: found "response" and "completion", which mean the same: keep '
      'one of them.'
    )
  if 'completion' in row:
    row = {**row, 'response': row['completion']}
  if 'text' in row:
    text = json_lines.text_field(row, 'text', where)
    match = re.match(rf'\s*\S+(\s+\S+){{0,{_SUBJECT_WORDS - 1}}}', text)
    return dataset.Row(
      text=text, subject=match.span() if match else None, where=where
    )
  if 'prompt' not in row or 'response' not in row:
    hint = next(
      (text for name, text in _OTHER_FORMATS.items() if name in row),
      'add the missing field',
    )
    raise errors.DataError(
      f'{where}: found the fields {sorted(row)}, expected "text", or "prompt" '
      f'and "response" (or "completion"): {hint}.'
    )
  prompt = json_lines.text_field(row, 'prompt', where)
  response = with_space(prompt, json_lines.text_field(row, 'response', where))
  return dataset.Row(
    text=prompt + response, response_start=len(prompt), where=where
  )


def with_space(prompt: str, response: str) -> str:
  """Returns the response, with a space before it if there is none yet."""
  has_space = prompt[-1].isspace() or response[0].isspace()
  return response if has_space else ' ' + response
