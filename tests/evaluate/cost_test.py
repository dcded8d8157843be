"""Costs add up, also over restarts."""

import json

import pytest

from sleep_jax.evaluate import cost


def test_counts_add_up_and_sizes_are_as_they_stand():
  spent = cost.Cost()
  spent.add(tokens_read=100, steps=1)
  spent.add(tokens_read=50, tokens_generated=7)
  spent.set_sizes(stored_bytes=10)
  spent.set_sizes(stored_bytes=4)
  totals = spent.totals()
  assert (totals['tokens_read'], totals['tokens_generated']) == (150, 7)
  assert (totals['steps'], totals['stored_bytes']) == (1, 4)


def test_a_restart_carries_the_totals_on_through_json():
  spent = cost.Cost()
  spent.add(steps=3)
  with spent.measure_time():
    sum(range(100_000))
  saved = json.loads(json.dumps(spent.totals()))
  resumed = cost.Cost(saved)
  resumed.add(steps=2)
  assert resumed.totals()['steps'] == 5
  assert resumed.totals()['seconds'] == saved['seconds'] > 0


def test_time_passes_only_while_running_and_can_be_read_meanwhile():
  spent = cost.Cost()
  with spent.measure_time():
    sum(range(100_000))
    meanwhile = spent.totals()
    assert meanwhile['seconds'] > 0
    assert meanwhile['cpu_seconds'] > 0
  after = spent.totals()
  assert after['seconds'] >= meanwhile['seconds']
  assert spent.totals() == after


def test_a_clock_does_not_run_twice():
  spent = cost.Cost()
  with spent.measure_time(), pytest.raises(RuntimeError), spent.measure_time():
    pass


def test_an_unknown_cost_is_named():
  with pytest.raises(ValueError, match='tokens_red'):
    cost.Cost().add(tokens_red=1)
  with pytest.raises(ValueError, match='minutes'):
    cost.Cost({'minutes': 1})
