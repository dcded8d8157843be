"""Ordinary text in windows, on which the loss of a model is measured."""

import os
from collections.abc import Iterator, Sequence

from sleep_jax import errors, types
from sleep_jax.datasets import row_files
from sleep_jax.evaluate import token_rows

# Describes the file that is expected, for errors.
SET = (
  'ordinary text, rows {"text"} or a .txt file, such as the test articles of '
  'WikiText-2 (Merity et al. 2016, CC BY-SA 3.0, Salesforce/wikitext on '
  'huggingface.co)'
)
_MAX_TXT = 2**26  # Bytes of a .txt file.

Target = token_rows.Target


def load(
  path: str, tokenizer: types.Tokenizer, num_tokens: int
) -> list[Target]:
  """Returns the first tokens of a text, in windows.

  Rows are joined by an empty line. A window is BOS and 256 tokens that are all
  predicted, the first from BOS alone; windows do not overlap.

  Args:
    path: file of rows {"text"}, or a .txt file.
    tokenizer: of the model.
    num_tokens: number of predicted tokens.

  Raises:
    MissingFileError, StorageError: the file cannot be read.
    DataError: a row has no text, or the text is too short.
  """
  tokens: list[int] = []
  for text in _texts(path):
    if text.strip():
      tokens += tokenizer.encode(('\n\n' if tokens else '') + text)
    if len(tokens) >= num_tokens:
      break
  if len(tokens) < num_tokens:
    raise errors.DataError(
      f'{path} has {len(tokens):,} tokens, but {num_tokens:,} are asked for '
      f'(config.ability.text_tokens, full_text_tokens): expected {SET}. '
      'Name a longer text or lower the number.'
    )
  width = token_rows.WIDTH
  return [
    Target([tokenizer.bos, *tokens[start : min(start + width, num_tokens)]], 1)
    for start in range(0, num_tokens, width)
  ]


def _texts(path: str) -> Iterator[str]:
  """Yields the texts of a file."""
  try:
    if path.lower().endswith('.txt'):
      with open(path, encoding='utf-8') as file:
        yield file.read(_MAX_TXT)
      return
    for where, row in row_files.read(path):
      text = row.get('text')
      if not isinstance(text, str):
        raise errors.DataError(
          f'{where}: field "text" is {text!r}: expected a text. The file '
          f'should be {SET}.'
        )
      yield text
  except UnicodeDecodeError as error:
    raise errors.DataError(
      f'{path} is not UTF-8 ({error.reason}): save it as UTF-8.'
    ) from error
  except FileNotFoundError as error:
    raise errors.MissingFileError(
      f'config.ability.text: {os.fspath(path)} does not exist. Expected '
      f'{SET}; an empty path switches this part off.'
    ) from error


def cut(windows: Sequence[Target], num_tokens: int) -> list[Target]:
  """Returns the windows that hold the first predicted tokens."""
  found = []
  for window in windows:
    if num_tokens <= 0:
      break
    found.append(Target(window.tokens[: 1 + num_tokens], window.first))
    num_tokens -= len(window.tokens) - 1
  return found
