"""Draws points and lines on two axes with units, as SVG text."""

import dataclasses
from collections.abc import Callable, Sequence

from sleep_jax.report import svg, text_format


@dataclasses.dataclass(frozen=True)
class Marks:
  """What is drawn of one strategy.

  Attributes:
    label: beside its last large point.
    style: class that sets the colour.
    large: points that are strong, such as means.
    small: points or lines behind them, one list per seed.
    joined: whether the points of each list are joined.
  """

  label: str
  style: str
  large: Sequence[svg.Point]
  small: Sequence[Sequence[svg.Point]] = ()
  joined: bool = False


def plane(
  marks: Sequence[Marks],
  *,
  title: str,
  x_title: str,
  size: tuple[int, int] = (560, 360),
  x_text: Callable[[float], str] = text_format.short,
) -> str:
  """Returns a drawing of marks, or '' if there are none.

  Args:
    marks: by strategy.
    title: quantity on the y axis.
    x_title: quantity on the x axis.
    size: width and height in pixels.
    x_text: writes a number of the x axis.
  """
  points = [
    point for one in marks for line in (one.large, *one.small) for point in line
  ]
  if not points:
    return ''
  width, height = size
  x_ticks = svg.ticks(min(p[0] for p in points), max(p[0] for p in points), 5)
  y_ticks = svg.ticks(min(p[1] for p in points), max(p[1] for p in points), 4)
  x = svg.scale(x_ticks[0], x_ticks[-1], 44, width - 96)
  y = svg.scale(y_ticks[0], y_ticks[-1], height - 40, 34)
  parts = [svg.text(0, 14, title, 'title')]
  for tick in y_ticks:
    parts.append(
      svg.line(x(x_ticks[0]), y(tick), x(x_ticks[-1]), y(tick), 'grid')
    )
    label = text_format.short(tick)
    parts.append(svg.text(36, y(tick) + 4, label, 'tick', 'end'))
  for tick in x_ticks:
    label = x_text(tick)
    parts.append(svg.text(x(tick), height - 24, label, 'tick', 'middle'))
  middle = (x(x_ticks[0]) + x(x_ticks[-1])) / 2
  parts.append(svg.text(middle, height - 6, x_title, 'tick', 'middle'))
  for one in marks:
    parts.append(f'<g class="{one.style}">')
    if one.joined:
      parts += [svg.path(line, x, y, 'seed') for line in one.small]
      parts.append(svg.path(one.large, x, y, 'morning'))
    else:
      parts += [
        svg.circle(x(a), y(b), 2, 'hollow')
        for line in one.small
        for a, b in line
      ]
    radius = 2.5 if one.joined else 5
    parts += [svg.circle(x(a), y(b), radius, 'solid') for a, b in one.large]
    if one.large:
      a, b = one.large[-1]
      parts.append(svg.text(x(a) + 8, y(b) + 4, one.label, 'name'))
    parts.append('</g>')
  return svg.drawing(width, height, parts, title)
