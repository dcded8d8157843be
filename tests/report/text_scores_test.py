"""The report and the printed table show the scores of generated texts."""

from sleep_jax.report import report, tables
from tests.report import report_test

draw = report_test.draw
NAMES = [metric.name for metric in tables.TEXT_SCORES]


def test_text_scores_are_shown_where_they_were_measured(draw):
  run = report_test.make_run()
  run['summary'] |= {'start_text': 3.5, 'la_text': 61.25, 'acc_text': 47.125}
  _, text = draw([run])
  shown = report.table([run])
  for found in (text, shown):
    assert '61.250' in found and '47.125' in found
  assert all(name in text and f'  {name}: ' in shown for name in NAMES)


def test_a_run_without_text_scores_has_no_such_columns(draw):
  run = report_test.make_run()
  _, text = draw([run])
  assert not any(name in text + report.table([run]) for name in NAMES)
