"""The totals of a run add up, also over restarts."""

import json

import pytest

from sleep_jax.evaluate import cost


def test_counts_add_up_and_sizes_are_replaced():
  total = cost.Cost()
  total.add(tokens_read=100, steps=1)
  total.add(tokens_read=50, tokens_generated=7)
  total.set_sizes(stored_bytes=10)
  total.set_sizes(stored_bytes=4)
  totals = total.totals()
  assert (totals['tokens_read'], totals['tokens_generated']) == (150, 7)
  assert (totals['steps'], totals['stored_bytes']) == (1, 4)


def test_a_restart_continues_the_totals_through_json():
  total = cost.Cost()
  total.add(steps=3)
  with total.measure_time():
    sum(range(100_000))
  saved = json.loads(json.dumps(total.totals()))
  resumed = cost.Cost(saved)
  resumed.add(steps=2)
  assert resumed.totals()['steps'] == 5
  assert resumed.totals()['seconds'] == saved['seconds'] > 0


def test_time_counts_only_inside_the_context_and_can_be_read_there():
  total = cost.Cost()
  with total.measure_time():
    sum(range(100_000))
    inside = total.totals()
    assert inside['seconds'] > 0
    assert inside['cpu_seconds'] > 0
  after = total.totals()
  assert after['seconds'] >= inside['seconds']
  assert total.totals() == after


def test_measuring_time_twice_at_once_is_refused():
  total = cost.Cost()
  with (
    total.measure_time(),
    pytest.raises(RuntimeError, match='already active'),
    total.measure_time(),
  ):
    pass


def test_an_unknown_cost_is_refused_by_name():
  with pytest.raises(ValueError, match='tokens_red'):
    cost.Cost().add(tokens_red=1)
  with pytest.raises(ValueError, match='minutes'):
    cost.Cost({'minutes': 1})
