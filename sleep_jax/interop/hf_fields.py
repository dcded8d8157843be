"""Reads single fields of a config.json and checks their types.

A field with a value of another type is refused, never converted: Python reads
the text "false" as true.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors

Config = Mapping[str, Any]
Where = pathlib.Path | str  # File, and object within it, for messages.


def fail(path: Where, field: str, value: Any, expected: str):
  """Raises the error for a field.

  Args:
    path: path of the file.
    field: name of the field.
    value: what was found.
    expected: what was expected, and what to do.

  Raises:
    ModelFileError: always.
  """
  raise errors.ModelFileError(
    f'{path}: {field} is {value!r}: expected {expected}.'
  )


def positive_int(config: Config, field: str, path: Where) -> int:
  """Returns a field that must be an integer above 0.

  Raises:
    ModelFileError: it is missing or is something else.
  """
  value = config.get(field)
  if type(value) is not int or value < 1:
    fail(path, field, value, 'an integer above 0')
  assert isinstance(value, int)
  return value


def optional_int(
  config: Config, field: str, default: int | None, path: Where
) -> int | None:
  """Returns a field that must be an integer above 0 or null.

  A missing field gets the default.
  """
  if config.get(field, default) is None:
    return None
  return positive_int({field: default} | dict(config), field, path)


def flag(config: Config, field: str, default: bool, path: Where) -> bool:
  """Returns a field that must be true or false."""
  value = config.get(field, default)
  if not isinstance(value, bool):
    fail(path, field, value, 'true or false, without quotation marks')
  return value


def number(
  config: Config,
  field: str,
  default: float | None,
  path: Where,
  *,
  above: float = 0.0,
) -> float:
  """Returns a field that must be a finite number above a bound.

  Args:
    default: value of a missing field. None means that it is required.
    above: the bound.
  """
  value = config.get(field, default)
  if (
    isinstance(value, bool)
    or not isinstance(value, int | float)
    or not math.isfinite(value)
    or value <= above
  ):
    fail(path, field, value, f'a number above {above:g}')
  assert isinstance(value, int | float)
  return float(value)


def optional_number(config: Config, field: str, path: Where) -> float:
  """Returns a field that must be a number above 0; 0 if missing or null."""
  return 0.0 if config.get(field) is None else number(config, field, None, path)


def names(
  config: Config,
  field: str,
  allowed: Sequence[str],
  size: int,
  path: Where,
) -> list[str] | None:
  """Returns a list with one of the allowed names per block, or None."""
  value = config.get(field)
  if value is None:
    return None
  if (
    not isinstance(value, list)
    or len(value) != size
    or any(name not in allowed for name in value)
  ):
    fail(
      path, field, value,
      f'{size} entries, one per block, that are each one of {tuple(allowed)}',
    )  # fmt: skip
  return value


def mapping(config: Config, field: str, path: Where) -> dict[str, Any]:
  """Returns a copy of a field that must be an object; empty if null."""
  value = config.get(field)
  if value is None:
    return {}
  if not isinstance(value, Mapping):
    fail(path, field, value, 'an object {...} or null')
  return dict(value)


def check_token_ids(config: Config, path: Where) -> None:
  """Checks that the ids of special tokens are rows of the embedding.

  Raises:
    ModelFileError: an id is not. The message names its field.
  """
  vocab_size = positive_int(config, 'vocab_size', path)
  for field in ('bos_token_id', 'eos_token_id', 'pad_token_id'):
    value = config.get(field)
    if value is None:
      continue
    several = isinstance(value, list) and field == 'eos_token_id' and value
    for token in value if several else [value]:
      if type(token) is not int or not 0 <= token < vocab_size:
        fail(
          path, field, value,
          f'an integer from 0 to {vocab_size - 1}, because the embedding has '
          f'{vocab_size} rows, or null',
        )  # fmt: skip
