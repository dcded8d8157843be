"""Predicted damage and its correlation, on values worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.interference import correlation, pairs, summary

SHAPES = {'mlp/gate': (1, 2, 3), 'mlp/up': (1, 2, 3), 'mlp/down': (1, 3, 2)}


def _draw(rng, scale):
  return {
    path: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    for path, shape in SHAPES.items()
  }


def _squared_distance(params, rows):
  """Returns the loss of a day whose rows are a curvature and a minimum."""
  curvature, minimum = rows
  return 0.5 * sum(
    jnp.sum(curvature * (params[path] - minimum[path]) ** 2) for path in params
  )


def _toy(days=4):
  """Returns steps that end at the minimum of each day, and the days."""
  rng = np.random.default_rng(0)
  ends = [_draw(rng, 1.0) for _ in range(days + 1)]
  rows = [(jnp.float32(1 + day), end) for day, end in enumerate(ends[1:])]
  return list(zip(ends, ends[1:], strict=False)), rows


def test_of_a_quadratic_both_orders_are_the_measured_damage():
  found = pairs.compare(*_toy(), _squared_distance)
  assert [(row['a'], row['b']) for row in found] == [
    (1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)
  ]  # fmt: skip
  for row in found:
    assert row['both_orders'] == pytest.approx(row['measured'], abs=1e-3)


def test_at_the_minimum_of_a_day_the_second_order_is_all_of_the_damage():
  for row in pairs.compare(*_toy(), _squared_distance):
    if row['b'] == row['a'] + 1:
      assert abs(row['first_order']) < 1e-3
      assert row['second_order'] == pytest.approx(row['measured'], rel=1e-3)
      assert row['loss_before'] == pytest.approx(0, abs=1e-6)


def test_the_loss_after_an_update_is_the_loss_before_the_next_one():
  found = {
    (row['a'], row['b']): row
    for row in pairs.compare(*_toy(), _squared_distance)
  }
  for a, b in ((1, 2), (1, 3), (2, 3)):
    assert found[a, b]['loss_after'] == found[a, b + 1]['loss_before']


def test_an_update_that_takes_another_back_has_cosine_minus_one():
  steps, rows = _toy(1)
  (before, after) = steps[0]
  found = pairs.compare(
    [(before, after), (after, before)], rows * 2, _squared_distance
  )
  assert found[0]['cosine'] == pytest.approx(-1)
  assert found[0]['sign_conflict_shared'] == 1


def _one(function, x, y):
  (found,) = function(np.array(x), np.array(y), np.ones((1, len(x)), int))
  return found


def test_correlations_of_values_worked_out_by_hand():
  assert _one(correlation.pearson, [1, 2, 3], [2, 4, 6]) == pytest.approx(1)
  assert _one(correlation.pearson, [0, 0, 1], [0, 1, 1]) == pytest.approx(0.5)
  # 1 - 6 sum d^2 / (n (n^2 - 1)), with d = 0, 1, 1, 0.
  x, y = [1, 2, 3, 4], [1, 100, 10, 1000]
  assert _one(correlation.spearman, x, y) == pytest.approx(0.8)
  # The equal values have rank 1.5: r of (1.5, 1.5, 3) and (1, 2, 3).
  found = _one(correlation.spearman, [5, 5, 7], [1, 2, 3])
  assert found == pytest.approx(np.sqrt(3) / 2)
  assert np.isnan(_one(correlation.spearman, [0.1, 0.1, 0.1], [1, 2, 3]))


@pytest.mark.parametrize('name', ['pearson', 'spearman'])
def test_a_pair_that_is_drawn_twice_counts_as_two_pairs(name):
  function, rng = getattr(correlation, name), np.random.default_rng(1)
  x, y = np.round(rng.normal(size=(2, 8)), 1)
  counts = rng.integers(0, 3, (4, 8))
  expected = [
    _one(function, *(np.repeat(z, n) for z in (x, y))) for n in counts
  ]
  np.testing.assert_allclose(function(x, y, counts), expected)


def test_three_seeds_are_drawn_as_wholes_and_two_are_not():
  three = correlation.draw_counts(np.repeat([4, 5, 9], 2), draws=50)
  assert (three[:, ::2] == three[:, 1::2]).all()
  assert (three.sum(1) == 6).all()
  two = correlation.draw_counts(np.repeat([4, 5], 3), draws=50)
  assert (two[:, 0] != two[:, 1]).any()
  assert (two.sum(1) == 6).all()


def _pair(strategy, seed, damage, **predictors):
  empty = dict.fromkeys(summary.PREDICTORS, 0.0)
  return {
    'strategy': strategy, 'seed': seed, 'measured': damage,
    'same_domain': None, **empty, **predictors,
  }  # fmt: skip


def test_a_predictor_is_compared_with_the_cosine_where_both_are_defined():
  found = summary.summarize(
    [
      _pair('sft', seed, damage, both_orders=2 * damage, cosine=cosine)
      for seed in range(3)
      for damage, cosine in ((1, 0.2), (2, 0.3), (3, 0.1), (4, None))
    ],
    draws=100,
  )
  group = found['sft']
  assert group == found['together']
  assert (group['pairs'], group['seeds']) == (12, 3)
  assert group['predictors']['both_orders']['pearson']['value'] == (
    pytest.approx(1)
  )
  # Of -0.2, -0.3 and -0.1 the ranks are 2, 1 and 3.
  cosine = group['predictors']['cosine']
  assert cosine['spearman']['value'] == pytest.approx(0.5)
  difference = group['minus_cosine']['both_orders']
  assert (difference['pairs'], difference['resampled']) == (9, 'seeds')
  assert difference['spearman']['value'] == pytest.approx(0.5)
  # All seeds are alike here, so all draws are.
  assert difference['spearman']['low'] == pytest.approx(0.5)
  assert group['predictors']['jaccard']['spearman'] is None
  assert group['damage'] == {
    'measured': 2.5, 'both_orders': 5.0, 'second_order': 0.0,
  }  # fmt: skip


def test_damage_is_split_by_domain_if_days_have_one():
  pair = lambda a, b, damage: _pair('sft', 0, damage) | {'a': a, 'b': b}
  made = [pair(1, 2, 1.0), pair(1, 3, 5.0), pair(2, 3, 2.0)]
  for one in made:
    del one['same_domain'], one['strategy'], one['seed']
  unit_found = {'strategy': 'sft', 'seed': 0, 'pairs': made}
  names = ['day 1, facts', 'day 2, sums', 'day 3, facts']
  found = summary.summarize(
    summary.rows([unit_found | {'days': names}]), draws=20
  )
  group = found['sft']
  assert group['damage_same_domain']['measured'] == 5.0
  assert group['damage_other_domain']['measured'] == 1.5
  assert 'Pairs of same domain: 5.0000 measured' in summary.table(found, 'T')
  plain = summary.rows([unit_found | {'days': ['day 1', 'day 2', 'day 3']}])
  group = summary.summarize(plain, draws=20)['sft']
  assert group['damage_same_domain'] is group['damage_other_domain'] is None


def test_the_table_has_a_row_for_each_predictor_and_difference():
  pairs_found = [_pair('er', 0, x, second_order=x) for x in (0.0, 1.0, 2.0)]
  text = summary.table(summary.summarize(pairs_found, draws=20), 'Title')
  rows = [line for line in text.splitlines() if line.startswith('| ')]
  assert len(rows) == 2 * (1 + len(summary.PREDICTORS) + len(summary.COMPARED))
  assert '| second order, 1/2 delta^T H delta | 3 | 1.00 [1.00, 1.00] |' in text
  assert '3 pairs, seeds: 1.' in text
  assert '1.0000 measured, 0.0000 predicted by first and second' in text
