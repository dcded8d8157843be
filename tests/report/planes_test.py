"""Points and lines on two axes."""

import re

from sleep_jax.report import planes


def test_nothing_to_draw_is_an_empty_text():
  empty = [planes.Marks('er', 's0', [])]
  assert planes.plane(empty, title='y', x_title='x') == ''


def test_every_point_lies_inside_and_higher_values_are_higher():
  marks = [
    planes.Marks('sleep', 's0', [(0.2, 0.9)], [[(0.1, 0.8)], [(0.3, 1.0)]]),
    planes.Marks('<er>', 's1', [(0.8, 0.4)]),
  ]
  drawn = planes.plane(marks, title='kept', x_title='learned', size=(500, 300))
  points = [
    (float(x), float(y), style)
    for style, x, y in re.findall(
      r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)"', drawn
    )
  ]
  assert [style for *_, style in points].count('hollow') == 2
  assert all(0 < x < 500 and 0 < y < 300 for x, y, _ in points)
  (sleep_x, sleep_y), (er_x, er_y) = [
    (x, y) for x, y, style in points if style == 'solid'
  ]
  assert sleep_x < er_x and sleep_y < er_y
  assert '&lt;er&gt;' in drawn and '<er>' not in drawn


def test_one_single_value_can_be_drawn():
  marks = [planes.Marks('er', 's0', [(5.0, 0.0)], joined=True)]
  assert 'circle' in planes.plane(marks, title='y', x_title='x')
