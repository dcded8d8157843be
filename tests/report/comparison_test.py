"""The page of a comparison: losses first, then tables, failures and sources."""

import re

import pytest

from sleep_jax.report import (
  compared_runs,
  comparison,
  comparison_tables,
  html,
  markdown,
  statements,
)

CONFIG = {
  'name': 'town', 'data': {'dataset': 'facts', 'settings': {'num_days': 2}}
}  # fmt: skip


def _evaluation(experience, prior, scores, tokens):
  return {
    'cycle': experience, 'experience': experience, 'step': 0,
    'moment': 'evening' if experience else 'initial',
    'scores': {'pretrain': prior, '1': scores[0], '2': scores[1]},
    'cost': {
      'tokens_read': tokens, 'tokens_generated': 0, 'seconds': tokens / 10
    },
  }  # fmt: skip


def _run(name, seed, acc, prior, tokens):
  evaluations = [
    _evaluation(0, 1.0, (0.0, 0.0), 0),
    _evaluation(1, (1 + prior) / 2, (acc, 0.0), tokens // 2),
    _evaluation(2, prior, (acc, acc), tokens),
  ]
  summary = {
    'acc': acc, 'prior': prior, 'la': acc, 'bwt': 0.0, 'prior_initial': 1.0,
    'tokens_read': tokens, 'tokens_generated': 0, 'seconds': tokens / 10,
  }  # fmt: skip
  return {
    'strategy': name, 'seed': seed, 'status': 'finished', 'summary': summary,
    'days': ['day 1', 'day 2'], 'cost': evaluations[-1]['cost'],
    'evaluations': evaluations,
  }  # fmt: skip


def _unit(strategy, seed, order, *runs, **changes):
  return {
    'unit': {'strategy': strategy, 'seed': seed, 'order': order},
    'status': 'finished', 'runs': list(runs), 'sources': f'src_{strategy}',
    'revision': 'v1-dirty', 'data': 'd19e57', 'peak_bytes': 2**30,
    'config': {'tune': {'learning_rates': [1e-3, 3e-3, 1e-2]}}, **changes,
  }  # fmt: skip


def _results(acc=(0.5, 0.55, 0.6), other=(0.7, 0.72, 0.9)):
  found = []
  for seed in range(3):
    found += [
      _unit('sleep', seed, 0, _run('sleep', seed, acc[seed], 0.9, 400)),
      _unit('er', seed, 0, _run('er', seed, other[seed], 0.8, 200)),
    ]
  return [
    *found,
    _unit('joint', 0, 0, _run('joint_wake', 0, 0.99, 1.0, 200)),
    _unit('sft', 1, 0, status='failed', error='DivergedError',
          reason='the loss is nan <b>'),
    _unit('seal', 0, 0, status='skipped', reason='there are no tasks'),
    _unit('seal', 1, 0, status='skipped', reason='there are no tasks'),
  ]  # fmt: skip


def _write(folder, results):
  comparison.write(folder, results, CONFIG, num_planned=20)
  return (folder / 'page.html').read_text(), (folder / 'table.md').read_text()


def test_the_page_says_first_where_sleep_does_not_win(tmp_path):
  page, table = _write(tmp_path, _results())
  for text in (page, table.replace('`', '')):  # HTML has no code marks.
    places = [
      text.index(words)
      for words in (
        'Where sleep does not win', 'final accuracy: sleep 0.550; better: er',
        'Where no other strategy is better', 'prior accuracy after: sleep',
        'At equal tokens', 'At equal seconds', 'Failed and skipped',
        'there are no tasks', 'src_sleep',
      )
    ]  # fmt: skip
    assert places == sorted(places)
  heads = re.findall('<h2>(.*?)</h2>', page)
  assert heads[0] == 'Where sleep does not win'


def test_failures_and_skipped_strategies_are_listed_and_escaped(tmp_path):
  page, table = _write(tmp_path, _results())
  assert 'sft, seed 1, order 0' in page and 'DivergedError' in page
  assert 'nan &lt;b&gt;' in page and 'nan <b>' not in page
  assert 'does not apply (2 units skipped)' in table
  assert '20 units are planned: 7 finished, 1 failed, 2 skipped, 10 not' in page
  assert 'v1-dirty' in table and 'd19e57' in table


def test_without_a_plan_the_page_does_not_say_what_is_left(tmp_path):
  comparison.write(tmp_path, _results(), CONFIG, num_planned=None)
  table = (tmp_path / 'table.md').read_text()
  assert 'Units: 7 finished, 1 failed, 2 skipped. Seeds 0, 1, 2' in table
  assert 'planned' not in table


def test_a_page_can_be_drawn_without_results(tmp_path):
  page, table = _write(tmp_path, [])
  assert 'sleep has no finished seed' in page
  assert '0 finished' in table


def test_the_number_of_a_seed_is_its_mean_over_orders():
  results = [
    _unit('er', 0, order, _run('er', 0, acc, 0.8, 100))
    for order, acc in enumerate((0.2, 0.4))
  ]
  results.append(_unit('er', 1, 0, _run('er', 1, 0.9, 0.8, 100)))
  rows = compared_runs.by_seed(results)['er']
  assert [row['summary']['acc'] for row in rows] == pytest.approx([0.3, 0.9])


def test_a_seed_that_failed_in_one_order_does_not_count():
  results = [
    _unit('er', 0, 0, _run('er', 0, 0.2, 0.8, 100)),
    _unit('er', 0, 1, status='failed', error='DivergedError', reason='nan'),
    _unit('sft', 0, 0, status='failed', error='DivergedError', reason='nan'),
  ]
  rows = compared_runs.by_seed(results)
  assert [row['status'] for row in rows['er']] == ['failed']
  assert [row['status'] for row in rows['sft']] == ['failed']


def test_a_difference_is_clear_if_its_paired_interval_leaves_out_0():
  said = _said(_results())
  # Differences of 0.2, 0.17 and 0.3 over three seeds.
  assert 'er 0.773 (by 0.223 ± 0.169, clear)' in said.losses[0]
  said = _said(_results(other=(0.9, 0.55, 0.6)))
  assert 'may be chance' in said.losses[0]


def test_strategies_are_compared_on_the_seeds_that_both_have():
  results = _results(acc=(0.5, 0.9, 0.9))[:-4]
  results = [r for r in results if r['unit']['seed'] == 0 or r['runs'][0][
    'strategy'] == 'sleep']  # fmt: skip
  said = _said(results)
  assert said.losses[0] == (
    'final accuracy: `sleep` 0.767; better: er 0.700 (by 0.200, one seed; on '
    'what both have of seed 0, where `sleep` has 0.500).'
  )


def test_strategies_are_compared_on_the_orders_that_both_have():
  results = [
    _unit('sleep', 0, 0, _run('sleep', 0, 0.9, 0.8, 100)),
    _unit('sleep', 0, 1, _run('sleep', 0, 0.5, 0.8, 100)),
    _unit('er', 0, 0, _run('er', 0, 0.8, 0.8, 100)),
  ]
  groups = compared_runs.by_seed(results)
  found = compared_runs.paired(groups, 'er', 'acc', 1)
  assert found.mean == pytest.approx(-0.1) and found.own == 0.9
  assert not found.whole
  assert not any('final accuracy' in text for text in _said(results).losses)


def test_a_seed_that_failed_does_not_count_at_a_share():
  results = [
    _unit('sleep', 0, 0, _run('sleep', 0, 0.9, 0.8, 400)),
    _unit('er', 0, 0, _run('er', 0, 0.5, 0.8, 100)),
    _unit('er', 1, 0, _run('er', 1, 0.99, 0.8, 100)),
    _unit('er', 1, 1, status='failed', error='DivergedError', reason='nan'),
  ]
  rows = compared_runs.at_share(results, 'tokens', 1.0)['er']
  assert [row['status'] for row in rows] == ['finished', 'failed']
  table = comparison_tables.at_budget({1.0: {'er': rows}}, {'er': 's0'})
  assert table.rows[0][1:3] == ['1 of 2', html.Cell('0.500')]


def test_times_on_a_cpu_do_not_depend_on_other_processes():
  run = _run('er', 0, 0.7, 0.8, 100)
  for cost in (run['summary'], *(e['cost'] for e in run['evaluations'])):
    cost['cpu_seconds'] = cost['seconds'] / 2
  on_cpu, on_gpu = (
    compared_runs.with_comparable_times([_unit('er', 0, 0, run, backend=name)])
    for name in ('cpu', 'gpu')
  )
  read = lambda found: [
    (r['summary']['seconds'], r['evaluations'][-1]['cost']['seconds'])
    for r in found[0]['runs']
  ]
  assert read(on_cpu) == [(5.0, 5.0)] and read(on_gpu) == [(10.0, 10.0)]


def test_upper_bounds_are_not_counted_as_losses():
  said = _said(_results(other=(0.1, 0.1, 0.1)))
  assert not any('joint' in text for text in said.losses)
  assert any('joint_wake: learned from everything' in x for x in said.limits)


def test_a_cheaper_strategy_that_is_worse_loses_only_in_cost():
  said = _said(_results(other=(0.1, 0.1, 0.1)))
  assert [text.split(':')[0] for text in said.losses[:2]] == [
    'tokens', 'minutes'
  ]  # fmt: skip


def test_one_seed_has_no_interval_and_is_no_claim():
  said = _said(_results()[:2])
  assert 'one seed' in said.losses[0]
  assert 'a claim needs 3' in said.limits[0]


def test_equal_tokens_are_a_share_of_what_sleep_spends():
  at = compared_runs.at_share(_results(), 'tokens', 0.5)
  read = {name: [r['summary'] for r in rows] for name, rows in at.items()}
  # At 200 tokens `sleep` has learned one of two days, `er` both.
  assert read['sleep'][0]['experiences'] == 1
  assert read['sleep'][0]['acc'] == pytest.approx(0.25)
  assert read['er'][0]['acc'] == pytest.approx(0.7)


def test_the_limit_of_a_seed_is_a_share_of_what_sleep_spends_with_it():
  results = [
    _unit('sleep', 0, 0, _run('sleep', 0, 0.9, 0.8, 400)),
    _unit('sleep', 1, 0, _run('sleep', 1, 0.9, 0.8, 100)),
    *(_unit('er', n, 0, _run('er', n, 0.7, 0.8, 200)) for n in range(3)),
  ]
  rows = compared_runs.at_share(results, 'tokens', 0.5)['er']
  # Limits of 200 and 50 tokens; 125, half of the mean, where `sleep` has none.
  assert [r['summary']['experiences'] for r in rows] == [2, 0, 1]


def test_rates_at_an_end_of_those_tried_are_named(tmp_path):
  results = _results()
  for rate, result in zip((1e-3, 3e-3, 1e-2), results, strict=False):
    result['runs'][0]['summary']['learning_rate'] = rate
  ends = compared_runs.rates_at_an_end(results)
  assert ends == {'sleep': 1e-2}
  _, table = _write(tmp_path, results)
  assert 'lowest or highest that was tried: sleep 0.01.' in table
  for result in results:
    result['config'] = {'tune': {'learning_rates': [1e-3]}}
  assert not compared_runs.rates_at_an_end(results)


def test_repeated_headings_get_the_name_of_their_group(tmp_path):
  _, table = _write(tmp_path, _results())
  assert '25 %: accuracy ↑ |' in table
  assert markdown.bullets(['a', 'b']) == '- a\n- b'


def test_units_of_one_seed_that_read_different_texts_are_named(tmp_path):
  results = _results()
  results[1] |= {'data': 'other'}
  _, table = _write(tmp_path, results)
  assert 'Units of seed 0 read different texts' in table


def _said(results):
  groups = compared_runs.by_seed(results)
  at = {('tokens', 0.5): compared_runs.at_share(results, 'tokens', 0.5)}
  return statements.make(groups, at)
