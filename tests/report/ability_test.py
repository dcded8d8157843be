"""The report and the printed table show what a model could do before."""

import pytest

from sleep_jax.evaluate import ability_summary
from sleep_jax.report import ability, report
from tests.report import report_test

draw = report_test.draw


def _record(change, *, full=False):
  """Returns what one measurement records."""
  part = {
    'text': {
      'tokens': 4000, 'loss': 3.0, 'perplexity': 20.0855, 'change': change
    },
    'reading': {
      'questions': 40, 'contained': 0.45, 'exact': 0.2, 'change': -0.05,
      'low': -0.125, 'high': 0.025, 'exact_change': 0.0, 'right': [0, 1] * 20,
    },
    'everyday': {'tokens': 1600, 'kl': change / 2},
  }  # fmt: skip
  whole = None
  if full:
    whole = part | {'text': part['text'] | {'tokens': 20_000, 'change': 0.031}}
  return part | {'full': whole, 'seconds': 40.0, 'cpu_seconds': 31.0}


def _run(*, finished=True, **options):
  run = report_test.make_run(**options)
  initial, *rest = run['evaluations']
  initial['ability'] = _record(0.0, full=True)
  mornings = [e for e in rest if e['moment'] == 'morning']
  for evaluation in mornings:
    evaluation['ability'] = _record(0.02)
  if finished:
    mornings[-1]['ability'] = _record(0.03, full=True)
  run['summary'] |= ability_summary.summarize(run['evaluations'])
  return run


def test_the_page_has_the_end_on_the_full_sets_and_every_morning(draw):
  markup, text = draw([_run()])
  assert 'What the model could do before' in text
  for shown in ('20,000', '3.10', '0.0150', '\N{MINUS SIGN}0.125 to 0.025'):
    assert shown in text
  assert 'Every morning' in text and 'the initial model' in text
  assert '31 s (with the full sets)' in text
  assert 'Perplexity of ordinary text, change in %' in markup


def test_a_run_under_way_is_shown_on_the_sets_of_a_morning(draw):
  _, text = draw([_run(finished=False)])
  assert '4,000' in text and '20,000' not in text


def test_a_morning_within_a_day_has_no_day(draw):
  run = _run()
  run['evaluations'][2]['experience'] = None
  rows = ability.mornings({'sleep': [run]}).rows
  assert [row[2] for row in rows] == ['the initial model', '\N{EN DASH}', '2']


def test_a_run_that_measures_nothing_has_no_such_section(draw):
  _, text = draw([report_test.make_run()])
  assert 'What the model could do before' not in text
  assert 'perplexity' not in report.table([report_test.make_run()])


def test_the_printed_table_has_the_changes():
  shown = report.table([_run(), report_test.make_run('sft')])
  assert 'What the model could do before' in shown
  assert '0.031' in shown and '-0.050' in shown and '-0.125' in shown
  for metric in ability.COLUMNS:
    assert f'  {metric.name}: ' in shown


@pytest.mark.parametrize('seeds', [1, 3])
def test_several_seeds_are_means(seeds):
  runs = [_run(seed=seed) for seed in range(seeds)]
  (row,) = ability.table({'sleep': runs}, {'sleep': 's0'}).rows
  change = row[4]
  assert change.text == '3.10'
  assert change.note == ('' if seeds == 1 else '± 0.00')
