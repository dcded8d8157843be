"""Rows that have more tokens than the settings allow: counted and listed."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from sleep_jax import errors

MAX_LISTED = 20  # Rows that are named in a message.


@dataclasses.dataclass(frozen=True)
class TooLong:
  """A row that is too long.

  Attributes:
    where: source of the row.
    what: 'the prompt' or 'the text'.
    num_tokens: its tokens, BOS and EOS included.
    field: setting that limits them.
    limit: value of the setting.
    needs: settings with which the row would fit, by field.
  """

  where: str
  what: str
  num_tokens: int
  field: str
  limit: int
  needs: Mapping[str, int]

  def __str__(self) -> str:
    return (
      f'{self.where}: {self.what} has {self.num_tokens:,} tokens, and '
      f'{self.field} is {self.limit:,}'
    )


def find(
  where: str,
  *,
  prompt_length: int | None,
  length: int,
  max_prompt: int,
  context: int,
) -> TooLong | None:
  """Returns why a row is too long, or None if it fits.

  Args:
    where: source of the row.
    prompt_length: tokens of its prompt; None for plain text.
    length: tokens of all of it.
    max_prompt, context: see `token_cache.make_source`.
  """
  needs = {}
  if prompt_length is not None and prompt_length > max_prompt:
    needs['data.max_prompt'] = prompt_length
  if length > context:
    needs['data.context'] = length
  if not needs:
    return None
  if 'data.max_prompt' in needs:
    assert prompt_length is not None
    what, size, limit = 'the prompt', prompt_length, max_prompt
  else:
    what, size, limit = 'the text', length, context
  return TooLong(where, what, size, next(iter(needs)), limit, needs)


@dataclasses.dataclass(frozen=True)
class Summary:
  """Rows of a source that are too long.

  Attributes:
    num_rows: their number.
    lines: a line for each of the first `MAX_LISTED`.
    needs: settings with which all of them would fit, by field.
  """

  num_rows: int = 0
  lines: tuple[str, ...] = ()
  needs: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def to_json(self) -> dict[str, Any]:
    """Returns the fields, as JSON can hold them."""
    return dataclasses.asdict(self)


def summarize(rows: Iterable[TooLong]) -> Summary:
  """Returns the summary of rows."""
  return merge(Summary(1, (str(row),), row.needs) for row in rows)


def merge(parts: Iterable[Summary]) -> Summary:
  """Returns the summary of several sources."""
  num = 0
  lines: tuple[str, ...] = ()
  needs: dict[str, int] = {}
  for part in parts:
    num += part.num_rows
    lines = (*lines, *part.lines)[:MAX_LISTED]
    needs |= {k: max(v, needs.get(k, 0)) for k, v in part.needs.items()}
  return Summary(num, lines, needs)


def from_json(fields: Mapping[str, Any]) -> Summary:
  """Returns the summary that `Summary.to_json` described."""
  return Summary(fields['num_rows'], tuple(fields['lines']), fields['needs'])


def choices(summary: Summary) -> str:
  """Returns what can be done about rows that are too long."""
  fields = ' '.join(f'--config.{k}={v}' for k, v in summary.needs.items())
  return (
    f'To read all of them: {fields}. Or split them (plain text is split into '
    'windows by data.overlap), or leave them out: --config.data.too_long=skip.'
  )


def error(summary: Summary) -> errors.TooLongError:
  """Returns the error for rows that are too long, with the choices."""
  num, shown = summary.num_rows, len(summary.lines)
  what = 'row is' if num == 1 else 'rows are'
  first = f' (first {shown})' if shown < num else ''
  lines = '\n  '.join(summary.lines)
  return errors.TooLongError(
    f'{num:,} {what} too long{first}:\n  {lines}\n{choices(summary)}',
    summary=summary,
  )
