"""Writes the tables of a report as Markdown."""

from collections.abc import Sequence

from sleep_jax.report import html


def table(made: html.Table) -> str:
  """Returns a table; small second lines follow in the same cell.

  Markdown has one line of headings, so the name of a group of columns stands
  before theirs where they would be the same.
  """
  names = [name for _, columns in made.head for name in columns]
  if len(set(names)) < len(names):
    names = [
      f'{group}: {name}' if group else name
      for group, columns in made.head
      for name in columns
    ]
  lines = [_row(names), _row(['---'] * len(names))]
  lines += [_row([_cell(cell) for cell in cells]) for cells in made.rows]
  return '\n'.join(lines)


def bullets(sentences: Sequence[str]) -> str:
  """Returns sentences as a list."""
  return '\n'.join(f'- {sentence}' for sentence in sentences)


def _row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _cell(cell: str | html.Cell) -> str:
  if isinstance(cell, str):
    text = cell
  else:
    text = f'{cell.text} {cell.note}' if cell.note else cell.text
  # A bar or a line break would end the cell.
  return ' '.join(text.replace('|', '\\|').split())
