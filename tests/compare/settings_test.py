"""Which values of a config the results of a unit depend on."""

import json

import pytest

from sleep_jax.compare import settings, units
from tests import tiny_study

UNIT = units.Unit('er', 0, 0)


def _key(**data):
  config = tiny_study.config()
  config.data.update(data)
  plain = json.loads(config.to_json_best_effort())
  return settings.key(settings.dependent(plain, UNIT, tuned=False))


@pytest.mark.parametrize(
  'data', [{'extra_days': 'days/*.jsonl'}, {'too_long': 'skip'}]
)
def test_results_depend_on_which_rows_are_read(data):
  assert _key(**data) != _key()


def test_results_do_not_depend_on_where_the_data_is():
  assert _key(path='elsewhere') == _key()
