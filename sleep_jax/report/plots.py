"""Plots: numbers in, SVG text out, drawn by hand: a report needs no library.

Colour lives in the page's style sheet: a mark names a class (`s0`, `t1`) that
sets `--c`, so one drawing serves light and dark. All text is escaped here.
"""

import html
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from sleep_jax.report import svg


def curves(
  series: Sequence[dict[str, Any]],
  *,
  title: str,
  size: tuple[int, int],
  include: Sequence[float] = (),
) -> str:
  """Curves over cycles, labelled at their ends.

  Args:
    series: per curve {'label', 'style', 'mornings': points, 'evenings':
      points, 'seeds': lists of points, 'level': a number drawn across, or
      None}; mornings are solid, evenings dashed and hollow.
    title: what the height means.
    size: width and height in pixels.
    include: heights that are in the picture whatever the points are.

  Returns:
    An SVG element, or '' where there is nothing to draw.
  """
  heights = [y for s in series for y in _heights(s)]
  if not heights:
    return ''
  low, high = min([*heights, *include]), max([*heights, *include])
  y_ticks = svg.ticks(low, high, 4)
  low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
  nights = [x for s in series for line in s['seeds'] for x, _ in line]
  last = max([1, *nights])
  width, height = size
  x = _scale(0, last, 44, width - 108)
  y = _scale(low, high, height - 36, 34)
  parts = [_text(0, 14, title, 'title')]
  for tick in y_ticks:
    kind = 'zero' if tick == 0 else 'grid'
    parts.append(_line(x(0), y(tick), x(last), y(tick), kind))
    parts.append(_text(36, y(tick) + 4, svg.short(tick), 'tick', 'end'))
  for tick in _whole_ticks(last, (width - 152) / 34):
    parts.append(_text(x(tick), height - 20, str(tick), 'tick', 'middle'))
  parts.append(_text(x(last / 2), height - 4, 'cycle', 'tick', 'middle'))
  radius = 3.2 if last <= 16 else 2.0
  ends = []
  for one in series:
    parts.append(f'<g class="{one["style"]}">')
    parts += [_path(line, x, y, 'seed') for line in one['seeds']]
    mornings, evenings = one['mornings'], one['evenings']
    woken = dict(mornings)
    parts += [
      _line(x(c), y(v), x(c), y(woken[c]), 'stem')
      for c, v in evenings
      if c in woken
    ]
    parts += [
      _path(evenings, x, y, 'evening'),
      _path(mornings, x, y, 'morning'),
    ]
    parts += [_dot(x(c), y(v), radius, 'hollow') for c, v in evenings]
    parts += [_dot(x(c), y(v), radius, 'solid') for c, v in mornings]
    named = [(one['label'], mornings, ''), ('evening', evenings, ' soft')]
    if one['level'] is not None:
      bound = [(0, one['level']), (last, one['level'])]
      parts.append(_path(bound, x, y, 'bound'))
      named.append((one['label'], bound, ''))
    parts.append('</g>')
    ends += [
      (*line[-1], f'{name} {_brief(line[-1][1])}', one['style'] + kind)
      for name, line, kind in named
      if line
    ]
  places = _apart([y(value) for _, value, *_ in ends], 14, height - 36)
  for (cycle, _, label, style), place in zip(ends, places, strict=True):
    parts.append(_text(x(cycle) + 8, place + 4, label, f'{style} name'))
  return _svg(width, height, parts, title)


def heat(matrix: Any, rows: Sequence[str], columns: Sequence[str]) -> str:
  """A matrix of scores in [0, 1] as cells with their percentages.

  Args:
    matrix: [rows, columns], NaN where nothing is known; the first column is
      birth and stands apart, and cell [i, i] is framed.
    rows, columns: names of both; rows without any score are left out.
  """
  many = len(columns)
  wide, high, font = (28, 21, 11.0) if many <= 13 else (25, 18, 10.0)
  if many > 25:
    wide, high, font = 21, 15, 8.5
  left, top = 30, 32
  parts = [
    _text(0, 14, 'after', 'tick'),
    _text(left + wide + 8, 12, 'score on experience, %', 'tick'),
  ]
  at = [left + j * wide + (6 if j else 0) for j in range(many)]
  for j, name in enumerate(columns):
    parts.append(_text(at[j] + wide / 2, 27, name, 'tick', 'middle'))
  shown = [i for i in range(len(rows)) if not all(map(math.isnan, matrix[i]))]
  for place, i in enumerate(shown):
    down = top + place * high
    middle = down + high / 2 + font * 0.36
    parts.append(_text(left - 6, middle, rows[i], 'tick', 'end'))
    for j, value in enumerate(matrix[i]):
      if math.isnan(value):
        continue
      value = min(max(float(value), 0.0), 1.0)
      parts.append(
        f'<rect class="heat" x="{at[j]}" y="{down}" width="{wide - 1}" '
        f'height="{high - 1}" fill-opacity="{value:.2f}"/>'
      )
      ink = 'cell high' if value > 0.62 else 'cell'
      percent = f'{100 * value:.0f}'
      middle_x = at[j] + (wide - 1) / 2
      parts.append(
        f'<text class="{ink}" x="{middle_x}" y="{middle:.1f}" '
        f'font-size="{font}" text-anchor="middle">{percent}</text>'
      )
      if i == j > 0:
        parts.append(
          f'<rect class="frame" x="{at[j] - 0.5}" y="{down - 0.5}" '
          f'width="{wide}" height="{high}"/>'
        )
  width, height = at[-1] + wide + 4, top + len(shown) * high + 2
  return _svg(width, height, parts, 'R matrix')


def nights(panels: Sequence[dict[str, Any]], styles: dict[str, str]) -> str:
  """Divergence during each night: one small panel a night, one scale for all.

  Args:
    panels: per night {'title', 'levels', 'note', 'lines': pairs of a teacher
      and its points};
      a point at 0 is what stood before the first update. A note marks a night
      that was not kept.
    styles: teacher -> class.
  """
  points = [p for panel in panels for _, line in panel['lines'] for p in line]
  positive = [v for _, v in points if v > 0]
  if not positive:
    return ''
  # Six decades are enough to see; what is below stands on the floor.
  top = math.log10(max(positive)) + 0.1
  floor = max(math.log10(min(positive)) - 0.1, top - 6)
  floor = min(floor, top - 1)  # So that one power of ten is in the picture.
  decades = range(math.ceil(floor), math.floor(top) + 1)
  step = -(-len(decades) // 3)  # A panel has room for three labels.
  last = max(1, *(x for x, _ in points))
  across = min(len(panels), 7)
  wide, high, left, gap = 146, 118, 46, 28
  parts = [_text(0, 12, 'D(teacher || student), nats per token', 'tick')]
  for number, panel in enumerate(panels):
    column, row = number % across, number // across
    start = left + column * wide
    down = gap + row * high
    x = _scale(0, last, start, start + wide - 20)
    log_y = _scale(floor, top, down + high - 36, down + 20)

    def y(value: float, log_y: Callable[[float], float] = log_y) -> float:
      return log_y(math.log10(max(value, 10.0**floor)))

    parts.append(_text(start, down + 10, panel['title'], 'night'))
    parts.append(
      _text(start + wide - 20, down + 10, panel['levels'], 'tick', 'end')
    )
    if panel['note']:
      parts.append(
        _text(start + wide - 20, down + 32, panel['note'], 'bad', 'end')
      )
    for decade in decades[::-1][::step]:
      parts.append(_line(x(0), log_y(decade), x(last), log_y(decade), 'grid'))
      if column == 0:
        name = svg.short(10.0**decade)
        parts.append(_text(start - 8, log_y(decade) + 4, name, 'tick', 'end'))
    bottom = down + high - 22
    parts.append(_text(x(0), bottom, '0', 'tick', 'middle'))
    parts.append(_text(x(last), bottom, svg.short(last), 'tick', 'end'))
    for teacher, line in panel['lines']:
      parts.append(f'<g class="{styles[teacher]}">')
      parts.append(_path(_thin(line), x, y, 'teacher'))
      if line and line[0][0] == 0:
        parts.append(_dot(x(0), y(line[0][1]), 3, 'hollow'))
      parts.append('</g>')
  width = left + across * wide
  height = gap + math.ceil(len(panels) / across) * high
  return _svg(width, height, parts, 'Divergence during each night')


def ledger(
  bars: Sequence[dict[str, Any]], marks: Sequence[dict[str, Any]], last: int
) -> str:
  """Which night lives in which expert: a bar from activation to reset.

  Args:
    bars: {'row': (level, slot), 'start', 'stop': nights or None (still on)}.
    marks: {'row', 'night'}: nights that were discarded.
    last: the last night so far.
  """
  rows = sorted({entry['row'] for entry in (*bars, *marks)})
  left, high, width = 116, 19, 530
  x = _scale(0.5, last + 0.5, left, width - 8)
  down = {row: 22 + i * high for i, row in enumerate(rows)}
  parts = [_text(left - 10, 11, 'night', 'tick', 'end')]
  for night in _whole_ticks(last, 16)[1:]:
    parts.append(_text(x(night), 11, str(night), 'tick', 'middle'))
  for row in rows:
    name = f'level {row[0]}, expert {row[1]}'
    parts.append(_text(left - 10, down[row] + 12, name, 'tick', 'end'))
    middle = down[row] + high / 2 - 1
    parts.append(_line(left, middle, width - 8, middle, 'grid'))
  for bar in bars:
    start = x(bar['start'] - 0.5) + 1
    open_end = bar['stop'] is None
    stop = x(last + 0.5) if open_end else x(bar['stop'] + 0.5)
    kind = 'bar' if open_end else 'bar gone'
    wide = max(stop - start - 1, 2)
    parts.append(
      f'<rect class="{kind}" x="{start:.1f}" y="{down[bar["row"]] + 1}" '
      f'width="{wide:.1f}" height="{high - 5}" rx="2"/>'
    )
    if wide > 17:
      name = f'night {bar["start"]}' if wide > 56 else str(bar['start'])
      ink = 'on bar' if open_end else 'on'
      parts.append(
        _text(start + 4, down[bar['row']] + 12, name, f'inside {ink}')
      )
  for mark in marks:
    place = x(mark['night'])
    parts.append(
      _text(
        place,
        down[mark['row']] + 12,
        '\N{MULTIPLICATION SIGN}',
        'bad',
        'middle',
      )
    )
  return _svg(width, 26 + len(rows) * high, parts, 'Ledger of experts')


def _brief(value: float) -> str:
  """Two decimals, or three where two would hide the number."""
  return svg.signed(value, 3 if abs(value) < 0.1 else 2)


def _heights(series: dict[str, Any]) -> list[float]:
  lines = [series['mornings'], series['evenings'], *series['seeds']]
  level = [] if series['level'] is None else [series['level']]
  return [y for line in lines for _, y in line] + level


def _whole_ticks(last: int, room: float) -> list[int]:
  steps = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
  step = next((s for s in steps if last / s <= room), last)
  return [*range(0, int(last) + 1, step)]


def _apart(heights: list[float], gap: float, bottom: float) -> list[float]:
  """Heights pushed apart so that labels do not overlap, order kept."""
  order = sorted(range(len(heights)), key=heights.__getitem__)
  placed = dict(enumerate(heights))
  for above, below in itertools.pairwise(order):
    placed[below] = max(placed[below], placed[above] + gap)
  limit = bottom
  for i in reversed(order):
    placed[i] = min(placed[i], limit)
    limit = placed[i] - gap
  return [placed[i] for i in range(len(heights))]


def _thin(line: list[svg.Point], most: int = 60) -> list[svg.Point]:
  """At most so many points, first and last among them."""
  step = math.ceil(len(line) / most) if line else 1
  kept = line[::step]
  return kept if not line or kept[-1] == line[-1] else [*kept, line[-1]]


def _scale(
  low: float, high: float, start: float, stop: float
) -> Callable[[float], float]:
  span = (high - low) or 1.0
  return lambda value: start + (value - low) / span * (stop - start)


def _svg(width: float, height: float, parts: list[str], label: str) -> str:
  return (
    f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
    f'height="{height:g}" role="img" aria-label="{html.escape(label)}">'
    + ''.join(parts)
    + '</svg>'
  )


def _text(
  x: float, y: float, text: str, kind: str, anchor: str = 'start'
) -> str:
  side = '' if anchor == 'start' else f' text-anchor="{anchor}"'
  return (
    f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{side}>'
    f'{html.escape(str(text))}</text>'
  )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
  return (
    f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
    f'y2="{y2:.1f}"/>'
  )


def _dot(x: float, y: float, radius: float, kind: str) -> str:
  return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _path(
  line: list[svg.Point],
  x: Callable[[float], float],
  y: Callable[[float], float],
  kind: str,
) -> str:
  if len(line) < 2:
    return ''
  points = ' '.join(f'{x(a):.1f},{y(b):.1f}' for a, b in line)
  return f'<polyline class="{kind}" points="{points}"/>'
