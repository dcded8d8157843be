"""Reads a JSON object that a stranger may have written.

The size is checked before the file is read. What Python's parser would accept
or drop in silence is an error that names the file and the field: NaN and
Infinity, and a field that stands there twice.
"""

import json
import math
from typing import Any

from sleep_jax import errors
from sleep_jax.storage import workdir

# The index of 100,000 tensors has about 10 MB, a large tokenizer.json 40 MB.
MAX_JSON, MAX_TEXT = 3 * 10**7, 10**8
GIT_LFS = b'version https://git-lfs'  # How the placeholder of a file begins.


def read(path: workdir.Folder) -> dict[str, Any]:
  """Returns the content of a JSON file that holds one object.

  Raises:
    ModelFileError: it is too large, not UTF-8, not valid JSON, no object, or
      ambiguous.
    StorageError: it cannot be read.
  """
  return parse(read_text(path, MAX_JSON), str(path))


def read_text(path: workdir.Folder, max_bytes: int = MAX_TEXT) -> str:
  """Returns the text of a file of at most `max_bytes`.

  Raises:
    ModelFileError: it is larger, or not UTF-8.
    StorageError: it cannot be read.
  """
  try:
    size = 0 if workdir.in_bucket(path) else path.stat().st_size
    if size > max_bytes:
      raise errors.ModelFileError(
        f'{path} has {size:,} bytes: expected at most {max_bytes:,}. A file of '
        'this kind is never that large: get it from its author again.'
      )
    content = path.read_bytes()
    if content.startswith(GIT_LFS):
      raise errors.ModelFileError(pointer(path))
    return content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise errors.ModelFileError(
      f'{path} is not UTF-8 ({error}): download it again.'
    ) from error
  except errors.SleepJaxError:
    raise
  except OSError as error:
    raise errors.StorageError(f'{path} cannot be read ({error}).') from error


def pointer(path: workdir.Folder) -> str:
  """Returns what to do with a file that git-lfs has not downloaded."""
  return (
    f'{path} is a pointer of git-lfs, not the file itself: run git lfs pull '
    'in this directory, or download the file.'
  )


def parse(text: str, where: str) -> dict[str, Any]:
  """Returns the object that a JSON text holds.

  Args:
    text: the text.
    where: its file, for messages.

  Raises:
    ModelFileError: it is not valid JSON, no object, or ambiguous.
  """

  def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      names = [name for name, _ in pairs]
      twice = next(name for name in names if names.count(name) > 1)
      raise errors.ModelFileError(
        f'{where}: the field {twice!r} is there twice: expected it once.'
      )
    for name, value in pairs:
      if isinstance(value, float) and not math.isfinite(value):
        raise errors.ModelFileError(
          f'{where}: the field {name!r} is {value}: expected a finite number.'
        )
    return found

  try:
    found = json.loads(text, object_pairs_hook=fields)
  except errors.ModelFileError:
    raise
  except (ValueError, RecursionError) as error:
    raise errors.ModelFileError(
      f'{where} is not valid JSON ({error}): download it again.'
    ) from error
  if not isinstance(found, dict):
    raise errors.ModelFileError(
      f'{where} holds a {type(found).__name__}: expected a JSON object.'
    )
  return found
