"""Messages of a conversation, as a chat template gets them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors

# 'role' and 'content', a text or a list of parts {'type': 'text', 'text': ...};
# templates may read further fields.
Message = Mapping[str, Any]
_REASONING = ('reasoning_content', 'thinking', 'reasoning')


def check(messages: Sequence[Message]) -> list[dict[str, Any]]:
  """Returns copies of messages as transformers gives them to a template.

  Fields that are None are left out, and the text of a reasoning has the names
  that templates read.

  Raises:
    DataError: there is no message, a field is missing, or a value is not one
      of JSON. The message is named by its place, from 0.
  """
  if isinstance(messages, str) or not messages:
    raise errors.DataError(
      f'The conversation is {messages!r}: expected a list of at least one '
      'message with "role" and "content".'
    )
  return [_check_one(place, one) for place, one in enumerate(messages)]


def _check_one(place: int, message: Message) -> dict[str, Any]:
  if not isinstance(message, Mapping):
    raise errors.DataError(
      f'Message {place} is a {type(message).__name__}: expected an object '
      'with "role" and "content".'
    )
  try:
    kept = {k: v for k, v in plain(message).items() if v is not None}
  except RecursionError as error:
    raise errors.DataError(
      f'Message {place} nests lists and objects too deeply: expected a text.'
    ) from error
  if 'role' not in kept or not ({'content', 'tool_calls'} & set(kept)):
    raise errors.DataError(
      f'Message {place} has the fields {sorted(kept)}: expected "role" and '
      '"content".'
    )
  for field, types in (('role', str), ('content', str | list | dict)):
    if not isinstance(kept.get(field, ''), types):
      raise errors.DataError(
        f'Message {place}: field "{field}" is {kept[field]!r}: expected a text.'
      )
  reasoning = next((kept[n] for n in _REASONING if n in kept), None)
  if reasoning is not None:
    kept = {'thinking': reasoning} | kept | {'reasoning_content': reasoning}
  return kept


def plain(value: Any) -> Any:
  """Copies plain data, so that a template gets no object of another type.

  Raises:
    DataError: a value is of another type.
  """
  if value is None or type(value) in (int, float, bool):
    return value
  if isinstance(value, str):
    return _text(value)
  if isinstance(value, Mapping):
    return {plain(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  raise errors.DataError(
    f'A conversation contains a {type(value).__name__}: expected texts, '
    'numbers, lists and objects, as in JSON.'
  )


def _text(value: str) -> str:
  """Returns a text as a plain string; refuses halves of a character pair."""
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise errors.DataError(
      f'A conversation contains {value[error.start : error.end]!r}, which is '
      'no character: remove it, or repair the encoding of the text.'
    ) from error
  return str.__str__(value)
