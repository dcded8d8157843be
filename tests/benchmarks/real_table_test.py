"""The page of tables of the study of a pretrained model."""

import json

import pytest

from benchmarks.real_model import results, table


def _answers(rights, day=1):
  return [
    {
      'day': day, 'exact': int(right), 'contained': int(right),
      'person': f'person {number}', 'attribute': 'town',
    }
    for number, right in enumerate(rights)
  ]  # fmt: skip


def _asked(answers):
  share = sum(row['exact'] for row in answers) / len(answers)
  scores = {'exact': share, 'contained': share, 'questions': len(answers)}
  return {
    'result': {
      'recall': scores | {'by_day': {'1': scores}}, 'answers': answers,
      'corrections': {'facts': 3, 'questions': 6, 'new': 5, 'old': 1},
    },
    'cost': _cost(1.0),
  }  # fmt: skip


def _cost(seconds, interrupted=False):
  return {
    'cpu_seconds': seconds, 'seconds': 1.0, 'compile_seconds': 2.0,
    'peak_bytes': 3_000_000_000, 'interrupted': interrupted,
  }  # fmt: skip


def _unit(strategy, seed, evening, morning=None, split='test', right=(1, 0)):
  """Returns the results of a unit of one day."""
  told = _asked(_answers(evening))
  day = {'wake': {'result': None, 'cost': _cost(10.0)}, 'evening': told}
  if morning is not None:
    day['night'] = {'result': [], 'cost': _cost(20.0 + seed)}
    day['morning'] = _asked(_answers(morning))
  unknown = {'questions': 24, 'learned': 4, 'strangers': 2}
  measured = lambda right: {
    'result': {
      'text': {'change': 0.005}, 'everyday': {'kl': 0.02},
      'reading': {'contained': sum(right) / 2, 'right': right},
    }
  }  # fmt: skip
  return {
    'unit': {
      'form': 'a', 'strategy': strategy, 'seed': seed, 'split': split,
      'model': 'tiny', 'num_days': 1, 'facts_per_day': 4,
    },
    'key': 'k', 'revision': 'r', 'days': {'1': day}, 'config': {'rate': 1},
    'initial': {
      'closed': {'result': told['result'] | {'never_told': unknown}},
      'context': told,
    },
    'final': {'never_told': {'result': unknown}},
    'ability': {'initial': measured([1, 1]), 'final': measured(right)},
  }  # fmt: skip


def _page(tmp_path, *units):
  for number, found in enumerate(units):
    (tmp_path / f'{number}.json').write_text(json.dumps(found))
  return table.page(results.load(tmp_path, 'test'))


def _row(page, start):
  """Returns the cells of the first row that begins with a text."""
  (line, *_) = [x for x in page.splitlines() if x.startswith(f'| {start}')]
  return [cell.strip() for cell in line.strip('|').split('|')]


def test_a_cell_is_the_mean_with_the_smallest_and_the_largest(tmp_path):
  page = _page(
    tmp_path, _unit('sleep', 0, [1, 1, 1, 1], [1, 1, 1, 0]),
    _unit('sleep', 1, [1, 1, 0, 0], [1, 0, 0, 0]),
  )  # fmt: skip
  _, seeds, evening, morning, end, _ = _row(page, '`sleep`')
  assert seeds == '2'
  assert evening == '0.75 (0.50 to 1.00)'
  assert morning == end == '0.50 (0.25 to 0.75)'


def test_sleep_stands_first_and_a_baseline_is_compared_with_it(tmp_path):
  page = _page(
    tmp_path, _unit('er', 0, [0, 0, 0, 0]), _unit('er', 7, [1, 1, 1, 1]),
    _unit('sleep', 0, [1, 1, 1, 1], [1, 1, 1, 1]),
  )  # fmt: skip
  assert page.index('`sleep`') < page.index('`er`')
  compared = page[page.index('| baseline') :]
  # Seed 7 of `er` has no partner. All questions differ: no interval.
  assert _row(compared, '`er`') == ['`er`', '1', '+1.00', '+1.00 to +1.00']


def test_units_of_other_numbers_of_days_are_not_compared(tmp_path):
  longer = _unit('er', 0, [0, 0, 0, 0])
  longer['unit']['num_days'] = 2
  page = _page(
    tmp_path, longer, _unit('sleep', 0, [1, 1, 1, 1], [1, 1, 1, 1])
  )  # fmt: skip
  assert '| baseline' not in page


@pytest.mark.parametrize('place', ['unit', 'config'])
def test_units_of_one_strategy_may_differ_in_their_seeds_only(tmp_path, place):
  other = _unit('er', 1, [1])
  other[place] |= {'num_days': 2} if place == 'unit' else {'rate': 3}
  with pytest.raises(ValueError, match='er, seed 1 differs from seed 0'):
    _page(tmp_path, _unit('er', 0, [1]), other)


def test_wordings_of_one_fact_are_drawn_together(tmp_path):
  def low(together):
    unit = _unit('sleep', 0, [0] * 40, [1, 1] * 10 + [0, 0] * 10)
    for moment in ('evening', 'morning'):
      for n, row in enumerate(unit['days']['1'][moment]['result']['answers']):
        row['person'] = n // 2 if together else n
    page = _page(tmp_path, unit)
    return float(_row(page, '`sleep`')[-1].split(' to ')[0])

  assert low(together=True) < low(together=False) - 0.03


def test_a_paired_interval_covers_what_a_night_changed(tmp_path):
  evening, morning = [1] * 50 + [0] * 50, [1] * 50 + [0] * 40 + [1] * 10
  page = _page(tmp_path, _unit('sleep', 0, evening, morning))
  low, high = map(float, _row(page, '`sleep`')[-1].split(' to '))
  assert 0.03 <= low < 0.1 < high <= 0.17


def test_without_a_night_the_evening_is_the_morning(tmp_path):
  page = _page(tmp_path, _unit('sft', 0, [1, 0]))
  _, _, evening, morning, _, interval = _row(page, '`sft`')
  assert evening == morning == '0.50' and interval == '-'


def test_counts_are_summed_over_seeds(tmp_path):
  units = [_unit('sleep', seed, [1], [1]) for seed in (0, 1)]
  page = _page(tmp_path, *units)
  counts = page[page.index('| strategy | corrected') :]
  assert _row(counts, '`sleep`')[1:] == [
    '6', '10 of 12', '2 of 12', '8 of 48', '8 of 48'
  ]  # fmt: skip


def test_costs_leave_out_what_was_interrupted(tmp_path):
  first, second = (_unit('sleep', seed, [1], [1]) for seed in (0, 1))
  second['days']['1']['night']['cost']['interrupted'] = True
  page = _page(tmp_path, first, second)
  costs = page[page.index('## Cost') :]
  assert _row(costs, '`sleep (a)`')[3:5] == ['10', '20']
  assert _row(costs, '`sleep (a)`')[-1] == '3.0'


def test_ability_is_compared_with_the_start(tmp_path):
  page = _page(tmp_path, _unit('sleep', 0, [1], [1], right=(1, 0)))
  found = _row(page[page.index('## What') :], '`sleep (a)`')
  assert found[2:6] == ['+0.50%', '0.020', '1.00', '0.50']
  low, high = map(float, found[6].split(' to '))
  assert (low, high) == (-1.0, 0.0)


def test_what_was_not_measured_has_no_section(tmp_path):
  unit = _unit('sleep', 0, [1], [1])
  unit['ability'] = {when: {'result': None} for when in ('initial', 'final')}
  page = _page(tmp_path, unit)
  assert '## Cost' in page and '## What it could do' not in page


def test_units_of_another_split_are_left_out(tmp_path):
  page = _page(
    tmp_path, _unit('sleep', 0, [1], [1]),
    _unit('sft', 0, [1], split='validation'),
  )  # fmt: skip
  assert 'sft' not in page
  with pytest.raises(ValueError, match='no results'):
    results.load(tmp_path / 'none', 'test')
