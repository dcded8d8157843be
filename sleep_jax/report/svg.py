"""Writes the elements of an SVG drawing as text.

Elements name a class of the page's style sheet instead of a colour, so one
drawing serves light and dark mode. All text is escaped here.
"""

import html
import math
from collections.abc import Callable, Sequence

Point = tuple[float, float]


def drawing(
  width: float, height: float, elements: Sequence[str], label: str
) -> str:
  """Returns an SVG element of this size, in pixels, with a spoken label."""
  return (
    f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
    f'height="{height:g}" role="img" aria-label="{html.escape(label)}">'
    + ''.join(elements)
    + '</svg>'
  )


def text(
  x: float, y: float, value: str, style: str, anchor: str = 'start'
) -> str:
  """Returns text at a point; `anchor` is 'start', 'middle' or 'end'."""
  side = '' if anchor == 'start' else f' text-anchor="{anchor}"'
  return (
    f'<text class="{style}" x="{x:.1f}" y="{y:.1f}"{side}>'
    f'{html.escape(str(value))}</text>'
  )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
  """Returns a line between two points."""
  return (
    f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
    f'y2="{y2:.1f}"/>'
  )


def circle(x: float, y: float, radius: float, style: str) -> str:
  """Returns a circle around a point."""
  return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def path(
  points: Sequence[Point],
  x: Callable[[float], float],
  y: Callable[[float], float],
  style: str,
) -> str:
  """Returns a line through `points`, scaled by `x` and `y`; '' for one."""
  if len(points) < 2:
    return ''
  places = ' '.join(f'{x(a):.1f},{y(b):.1f}' for a, b in points)
  return f'<polyline class="{style}" points="{places}"/>'


def scale(
  low: float, high: float, start: float, stop: float
) -> Callable[[float], float]:
  """Returns the linear map from [low, high] to [start, stop]."""
  span = (high - low) or 1.0
  return lambda value: start + (value - low) / span * (stop - start)


def ticks(low: float, high: float, num: int) -> list[float]:
  """Returns about `num` round numbers that enclose `low` and `high`."""
  span = max(high - low, 1e-9)
  power = 10 ** math.floor(math.log10(span / num))
  step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * num >= span)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [round(i * step, 12) for i in range(first, last + 1)]


def whole_ticks(last: int, most: float) -> list[int]:
  """Returns evenly spaced whole numbers from 0 to `last`, about `most`."""
  steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
  step = next((s for s in steps if last / s <= most), last)
  return [*range(0, int(last) + 1, step)]
