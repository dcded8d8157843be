"""Units: their plan and how the user names them."""

import pytest

from sleep_jax import errors
from sleep_jax.compare import units


def test_every_strategy_seed_and_order_is_one_unit():
  made = units.plan(('sleep', 'er'), (0, 1), (0, 2, 5))
  assert len(made) == len(set(made)) == 12
  assert {unit.file_name for unit in made} >= {'er_1_5.json', 'sleep_0_2.json'}


def test_a_comparison_that_stops_early_has_all_strategies():
  made = units.plan(('sleep', 'er', 'sft'), (3, 4), (0, 1))
  assert [unit.name for unit in made[:3]] == ['sleep:3:0', 'er:3:0', 'sft:3:0']
  assert made[-1].name == 'sft:4:1'


def test_units_are_chosen_by_name_in_the_order_of_the_plan():
  made = units.plan(('sleep', 'er'), (0, 1), (0,))
  assert units.select(made, '') == made
  chosen = units.select(made, ' er:1:0, sleep:0:0,')
  assert [unit.name for unit in chosen] == ['sleep:0:0', 'er:1:0']


def test_a_unit_that_is_not_planned_is_refused_with_the_nearest():
  made = units.plan(('sleep', 'er'), (0, 1), (0,))
  with pytest.raises(errors.ConfigError, match="'slep:0:0' is not a unit.*"
                     'such as sleep:0:0'):  # fmt: skip
    units.select(made, 'slep:0:0')
