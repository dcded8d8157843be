"""The report of many nights shows retention by age, room and cost."""

import re

from sleep_jax.report import many_nights
from tests.report import report_test

STYLES = {'sleep': 's0', 'sft': 's1'}


def _groups(nights):
  run = report_test.make_run(nights=nights, num=nights)
  # The third night resets the first two experts, as a full bank does.
  run['ledger'] += [report_test.make_entry(3, 'reset', slot) for slot in (0, 1)]
  run['ledger'].sort(key=lambda entry: entry['night'])
  control = report_test.make_run('sft', nights=nights, num=nights)
  return {'sleep': [run], 'sft': [control]}


def _label(figure):
  """Returns the last value of the only curve."""
  (found,) = re.findall(r'>sleep ([\d.]+)</text>', figure.drawing)
  return float(found)


def test_the_last_points_are_those_of_the_run():
  age, experts, cost = many_nights.curves(_groups(6), STYLES)
  assert 'age in cycles' in age.drawing and _label(age) == 0.5
  assert _label(experts) == 4  # Six were made, two of them reset.
  assert _label(cost) == 60  # Of the sixth night, see `make_night`.


def test_a_forgotten_expert_is_not_in_use():
  groups = _groups(6)
  ledger = groups['sleep'][0]['ledger']
  ledger.append(report_test.make_entry(6, 'forgotten', 4))
  _, experts, _ = many_nights.curves(groups, STYLES)
  assert _label(experts) == 3


def test_a_short_run_and_one_without_nights_have_no_figures():
  assert many_nights.curves(_groups(4), STYLES) == []
  only = {'sft': [report_test.make_run('sft', nights=9)]}
  assert many_nights.curves(only, STYLES) == []


def test_the_page_has_the_section_of_a_long_run(draw):
  _, text = draw(_groups(6)['sleep'])
  assert 'Many nights' in text and 'Experts in use' in text
  _, text = draw(_groups(2)['sleep'])
  assert 'Experts in use' not in text


draw = report_test.draw
