"""The page of a comparison is drawn from results of one config only."""

import pytest

from benchmarks import compare_page
from sleep_jax import errors


def _result(**changes):
  config = {
    'data': {'context': 12, 'order': 0}, 'wake': {'steps': 60},
    'ewc': {'weight': 0.1},
  }  # fmt: skip
  return {'config': config | changes}


def test_units_may_differ_in_order_and_in_settings_of_strategies():
  other = _result(
    data={'context': 12, 'order': 2}, ewc={'weight': 1.0}, tuned_with_seed=0
  )
  compare_page.check([_result(), other], ['a.json', 'b.json'])


@pytest.mark.parametrize(
  ('changes', 'names'),
  [
    ({'wake': {'steps': 40}}, 'wake'),
    ({'data': {'context': 16, 'order': 0}}, 'data.context'),
    ({'guard': {'on': True}}, 'guard'),
  ],
)
def test_results_of_different_configs_are_refused(changes, names):
  with pytest.raises(
    errors.UsageError, match=rf'a.json and b.json are .*configs: .*{names}'
  ):
    compare_page.check([_result(), _result(**changes)], ['a.json', 'b.json'])
