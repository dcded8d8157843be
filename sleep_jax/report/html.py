"""Renders the report page from the templates in `templates/`.

Autoescape is on, so text from a run never becomes markup. Each strategy and
each teacher has one colour on the whole page, in light and in dark mode.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2

from sleep_jax.report import text_format

# Name -> colour in light mode, colour in dark mode.
STRATEGIES = {
  'sleep': ('#4340c4', '#a9abff'),
  'hope': ('#0a7f7a', '#4fd0c6'),
  'sft': ('#c8471a', '#ff9b70'),
  'er': ('#876500', '#e6c04d'),
  'seal': ('#9c2f6f', '#f08fc4'),
  'joint_wake': ('#6b717d', '#a9afbb'),
  'joint_night': ('#3d434d', '#d3d8e0'),
}
TEACHERS = {
  'anchor': ('#2b6a99', '#7fc0ee'),
  'next': ('#c4356b', '#ff8db4'),
  'now': ('#76588f', '#c9a8e6'),
  'context': ('#4c7f2f', '#9ed47c'),
}
SPARE = (
  ('#ad2f86', '#ff8fd4'),
  ('#2f7d32', '#84d588'),
  ('#1f6fb2', '#7dbcf2'),
  ('#8a5a3c', '#d8a98b'),
  ('#55606e', '#bac3cf'),
)


@dataclasses.dataclass(frozen=True)
class Figure:
  """A drawing with a caption above it.

  Attributes:
    drawing: SVG element; '' shows nothing.
    style, name, note: strategy in the caption, its colour class and a remark.
    keys: class -> name of the colours used in the drawing.
  """

  drawing: str
  style: str = ''
  name: str = ''
  note: str = ''
  keys: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A table cell that is more than text.

  Attributes:
    text: the content.
    note: small second line.
    style: colour class of the chip before the text, or of the meter.
    meter: width of a bar below the text, in percent of the cell, or None.
    kind: class of the cell: 'words' for running text, 'best' for emphasis.
  """

  text: str
  note: str = ''
  style: str = ''
  meter: float | None = None
  kind: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    head: groups of columns, (name, column names); the name may be empty.
    rows: cells; plain text or `Cell`.
  """

  head: Sequence[tuple[str, Sequence[str]]]
  rows: Sequence[Sequence[str | Cell]]


def render(template: str = 'page.html.j2', **values: Any) -> str:
  """Returns a page as text.

  Args:
    template: of the folder `templates`.
    **values: that the template names.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(
      pathlib.Path(__file__).with_name('templates')
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['value'] = text_format.value
  return environment.get_template(template).render(**values)


def colours(
  names: Iterable[str], known: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
  """Returns the colours of each name: its own, or spare ones in order."""
  spare = itertools.cycle(SPARE)
  return {name: known.get(name) or next(spare) for name in names}
