"""Draws the plots of the report as SVG text.

The report must be one self-contained page that follows the colour scheme of
the browser, so the plots are written as SVG with classes of its style sheet.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from sleep_jax.report import day_names, svg, text_format


@dataclasses.dataclass
class Series:
  """One curve with its label.

  Attributes:
    label: name at the end of the curve.
    style: class that sets the colour.
    mornings: points after sleep, solid.
    evenings: points before sleep, dashed and hollow.
    seeds: thin curves behind the mean, one per seed.
    level: height of a horizontal reference line, or None.
  """

  label: str
  style: str
  mornings: list[svg.Point] = dataclasses.field(default_factory=list)
  evenings: list[svg.Point] = dataclasses.field(default_factory=list)
  seeds: list[list[svg.Point]] = dataclasses.field(default_factory=list)
  level: float | None = None

  def heights(self) -> list[float]:
    """Returns all y values, to find the range of the axis."""
    lines = [self.mornings, self.evenings, *self.seeds]
    level = [] if self.level is None else [self.level]
    return [y for line in lines for _, y in line] + level


def curves(
  series: Sequence[Series],
  *,
  title: str,
  size: tuple[int, int],
  include: Sequence[float] = (),
  over: str = 'cycle',
) -> str:
  """Returns a plot of curves over cycles, labelled at their ends.

  Args:
    series: the curves.
    title: quantity on the y axis, with its unit.
    size: width and height in pixels.
    include: y values that the axis must contain.
    over: quantity on the x axis, if it is another one.

  Returns:
    An SVG element, or '' if there is nothing to draw.
  """
  heights = [y for one in series for y in one.heights()]
  if not heights:
    return ''
  low, high = min([*heights, *include]), max([*heights, *include])
  y_ticks = svg.ticks(low, high, 4)
  low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
  last = max([1, *(x for one in series for seed in one.seeds for x, _ in seed)])
  width, height = size
  x = svg.scale(0, last, 44, width - 108)
  y = svg.scale(low, high, height - 36, 34)
  parts = [svg.text(0, 14, title, 'title')]
  for tick in y_ticks:
    style = 'zero' if tick == 0 else 'grid'
    label = text_format.short(tick)
    parts.append(svg.line(x(0), y(tick), x(last), y(tick), style))
    parts.append(svg.text(36, y(tick) + 4, label, 'tick', 'end'))
  for tick in svg.whole_ticks(last, (width - 152) / 34):
    parts.append(svg.text(x(tick), height - 20, str(tick), 'tick', 'middle'))
  parts.append(svg.text(x(last / 2), height - 4, over, 'tick', 'middle'))
  radius = 3.2 if last <= 16 else 2.0
  ends = []
  for one in series:
    mornings, evenings, after = one.mornings, one.evenings, dict(one.mornings)
    parts.append(f'<g class="{one.style}">')
    parts += [svg.path(seed, x, y, 'seed') for seed in one.seeds]
    parts += [
      svg.line(x(c), y(v), x(c), y(after[c]), 'night')
      for c, v in evenings
      if c in after
    ]
    parts.append(svg.path(evenings, x, y, 'evening'))
    parts.append(svg.path(mornings, x, y, 'morning'))
    parts += [svg.circle(x(c), y(v), radius, 'hollow') for c, v in evenings]
    parts += [svg.circle(x(c), y(v), radius, 'solid') for c, v in mornings]
    labelled = [(one.label, mornings, ''), ('evening', evenings, ' soft')]
    if one.level is not None:
      reference = [(0.0, one.level), (float(last), one.level)]
      parts.append(svg.path(reference, x, y, 'reference'))
      labelled.append((one.label, reference, ''))
    parts.append('</g>')
    ends += [
      (*line[-1], f'{name} {_brief(line[-1][1])}', one.style + style)
      for name, line, style in labelled
      if line
    ]
  places = _spread_apart([y(value) for _, value, *_ in ends], 14, height - 36)
  for (cycle, _, label, style), place in zip(ends, places, strict=True):
    parts.append(svg.text(x(cycle) + 8, place + 4, label, f'{style} name'))
  return svg.drawing(width, height, parts, title)


def heat(matrix: Any, rows: Sequence[str], columns: Sequence[str]) -> str:
  """Returns a matrix of scores in [0, 1] as coloured cells with percentages.

  Args:
    matrix: [rows, columns], NaN where a score is unknown. The first column is
      the prior accuracy and stands apart; cell [i, i] is framed.
    rows: row names; rows without any score are left out.
    columns: column names.
  """
  num_columns = len(columns)
  cell_width, cell_height, font = 34, 21, 11.0
  if num_columns > 13:
    cell_width, cell_height, font = 25, 18, 10.0
  if num_columns > 25:
    cell_width, cell_height, font = 21, 15, 8.5
  # Row names may be those of files.
  left, top = max(30, 12 + 6 * max(map(len, rows), default=0)), 16
  parts = []
  column_x = [
    left + j * cell_width + (6 if j else 0) for j in range(num_columns)
  ]
  for x, name in zip(column_x, columns, strict=True):
    parts.append(svg.text(x + cell_width / 2, 11, name, 'tick', 'middle'))
  shown = [i for i in range(len(rows)) if not all(map(math.isnan, matrix[i]))]
  for place, i in enumerate(shown):
    y = top + place * cell_height
    middle = y + cell_height / 2 + font * 0.36
    parts.append(svg.text(left - 6, middle, rows[i], 'tick', 'end'))
    for j, (x, value) in enumerate(zip(column_x, matrix[i], strict=True)):
      if math.isnan(value):
        continue
      value = min(max(float(value), 0.0), 1.0)
      parts.append(
        f'<rect class="heat" x="{x}" y="{y}" width="{cell_width - 1}" '
        f'height="{cell_height - 1}" fill-opacity="{value:.2f}"/>'
        f'<text class="cell{" high" if value > 0.62 else ""}" '
        f'x="{x + (cell_width - 1) / 2}" y="{middle:.1f}" '
        f'font-size="{font}" text-anchor="middle">{100 * value:.0f}</text>'
      )
      if i == j > 0:
        parts.append(
          f'<rect class="frame" x="{x - 0.5}" y="{y - 0.5}" '
          f'width="{cell_width}" height="{cell_height}"/>'
        )
  width = column_x[-1] + cell_width + 4
  height = top + len(shown) * cell_height + 2
  return svg.drawing(width, height, parts, 'Accuracy matrix R, in percent')


def nights(panels: Sequence[dict[str, Any]], styles: dict[str, str]) -> str:
  """Returns small plots of the divergence in each night, all on one scale.

  Args:
    panels: one dict per night: 'title', 'day' (its name, if known), 'levels',
      'note' (for a discarded night) and 'lines', pairs of a teacher and its
      points (update, divergence). A point at 0 was measured before the first
      update.
    styles: class of each teacher.
  """
  points = [p for panel in panels for _, line in panel['lines'] for p in line]
  positive = [v for _, v in points if v > 0]
  if not positive:
    return ''
  # The scale is logarithmic. At most six decades are shown; smaller values are
  # drawn at the bottom. At least one power of ten is in the picture.
  top = math.log10(max(positive)) + 0.1
  floor = max(math.log10(min(positive)) - 0.1, top - 6)
  floor = min(floor, top - 1)
  decades = range(math.ceil(floor), math.floor(top) + 1)
  step = -(-len(decades) // 3)  # At most three labels fit a panel.
  last = max(1, *(x for x, _ in points))
  num_columns = min(len(panels), 7)
  panel_width, panel_height, left, margin = 146, 126, 46, 28
  title = 'Divergence of the student from each teacher, nats per token'
  parts = [svg.text(0, 12, title, 'tick')]
  for number, panel in enumerate(panels):
    row, column = divmod(number, num_columns)
    start = left + column * panel_width
    stop = start + panel_width - 20
    down = margin + row * panel_height
    x = svg.scale(0, last, start, stop)
    log_y = svg.scale(floor, top, down + panel_height - 36, down + 28)

    def y(value: float, log_y: Callable[[float], float] = log_y) -> float:
      return log_y(math.log10(max(value, 10.0**floor)))

    parts.append(svg.text(start, down + 10, panel['title'], 'panel'))
    parts.append(svg.text(stop, down + 10, panel['levels'], 'tick', 'end'))
    if panel.get('day'):
      name = day_names.clip(panel['day'])
      parts.append(svg.text(start, down + 21, name, 'tick'))
    if panel['note']:
      parts.append(svg.text(stop, down + 40, panel['note'], 'bad', 'end'))
    for decade in decades[::-1][::step]:
      height = log_y(decade)
      parts.append(svg.line(x(0), height, x(last), height, 'grid'))
      if column == 0:
        label = text_format.short(10.0**decade)
        parts.append(svg.text(start - 8, height + 4, label, 'tick', 'end'))
    bottom = down + panel_height - 22
    parts.append(svg.text(x(0), bottom, '0', 'tick', 'middle'))
    label = f'update {text_format.short(last)}'
    parts.append(svg.text(x(last), bottom, label, 'tick', 'end'))
    for teacher, line in panel['lines']:
      parts.append(f'<g class="{styles[teacher]}">')
      parts.append(svg.path(_thin_out(line), x, y, 'teacher'))
      if line and line[0][0] == 0:
        parts.append(svg.circle(x(0), y(line[0][1]), 3, 'hollow'))
      parts.append('</g>')
  width = left + num_columns * panel_width
  height = margin + math.ceil(len(panels) / num_columns) * panel_height
  return svg.drawing(width, height, parts, title)


def expert_history(
  bars: Sequence[dict[str, Any]], marks: Sequence[dict[str, Any]], last: int
) -> str:
  """Returns a chart of which night trained which expert.

  Args:
    bars: {'row': (level, slot), 'start': night of activation, 'stop': night of
      the reset, or None if the expert is still active}.
    marks: {'row', 'night'} of nights that were discarded.
    last: number of the last night.
  """
  rows = sorted({entry['row'] for entry in (*bars, *marks)})
  left, row_height, width = 116, 19, 530
  x = svg.scale(0.5, last + 0.5, left, width - 8)
  row_y = {row: 22 + i * row_height for i, row in enumerate(rows)}
  parts = [svg.text(left - 10, 11, 'night', 'tick', 'end')]
  for night in svg.whole_ticks(last, 16)[1:]:
    parts.append(svg.text(x(night), 11, str(night), 'tick', 'middle'))
  for row, y in row_y.items():
    name = f'level {row[0]}, expert {row[1]}'
    parts.append(svg.text(left - 10, y + 12, name, 'tick', 'end'))
    middle = y + row_height / 2 - 1
    parts.append(svg.line(left, middle, width - 8, middle, 'grid'))
  for bar in bars:
    y, active = row_y[bar['row']], bar['stop'] is None
    start = x(bar['start'] - 0.5) + 1
    stop = x((last if active else bar['stop']) + 0.5)
    bar_width = max(stop - start - 1, 2)
    parts.append(
      f'<rect class="bar{"" if active else " reset"}" x="{start:.1f}" '
      f'y="{y + 1}" width="{bar_width:.1f}" height="{row_height - 5}" rx="2"/>'
    )
    if bar_width > 17:
      name = f'night {bar["start"]}' if bar_width > 56 else str(bar['start'])
      style = 'inside on bar' if active else 'inside on'
      parts.append(svg.text(start + 4, y + 12, name, style))
  for mark in marks:
    y = row_y[mark['row']] + 12
    parts.append(
      svg.text(x(mark['night']), y, '\N{MULTIPLICATION SIGN}', 'bad', 'middle')
    )
  height = 26 + len(rows) * row_height
  return svg.drawing(width, height, parts, 'Which night trained which expert')


def _brief(value: float) -> str:
  """Returns two decimals, or three for values below 0.1."""
  return text_format.signed(value, 3 if abs(value) < 0.1 else 2)


def _spread_apart(
  heights: list[float], gap: float, bottom: float
) -> list[float]:
  """Returns heights at least `gap` apart, in the same order, above `bottom`."""
  order = sorted(range(len(heights)), key=heights.__getitem__)
  placed = dict(enumerate(heights))
  for above, below in itertools.pairwise(order):
    placed[below] = max(placed[below], placed[above] + gap)
  limit = bottom
  for i in reversed(order):
    placed[i] = min(placed[i], limit)
    limit = placed[i] - gap
  return [placed[i] for i in range(len(heights))]


def _thin_out(line: list[svg.Point], most: int = 60) -> list[svg.Point]:
  """Returns at most about `most` points, the first and last among them."""
  step = math.ceil(len(line) / most) if line else 1
  kept = line[::step]
  return kept if not line or kept[-1] == line[-1] else [*kept, line[-1]]
