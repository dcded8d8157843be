"""Levels that read: what each day brought reaches the slowest of them."""

import json

import pytest

from configs.small import niah
from sleep_jax import errors
from sleep_jax.config import checks
from sleep_jax.model import config as config_lib
from sleep_jax.schedule import capacity, chain, events


@pytest.mark.parametrize('num_levels', [1, 2, 3, 4])
def test_every_bank_is_emptied_by_the_last_day_and_the_slowest_is_full(
  num_levels,
):
  c = niah.get_config(f'160:{num_levels}')
  checks.check(json.loads(c.to_json_best_effort()))
  levels = [*map(config_lib.make_level, c.to_dict()['levels'])]
  assert not config_lib.num_awake(levels)
  num_days = c.data.settings.num_days
  plan = events.make_events(levels, num_experiences=num_days, steps=1)
  rows = capacity.audit(levels, plan)
  nights = [num_days // 2**sender for sender in range(num_levels)]
  assert [len(row.sleeps) for row in rows] == [*nights, 0]
  assert [row.most_experts for row in rows[1:]] == [x.slots for x in levels]
  assert all(row.sleeps[-1] == num_days for row in rows[:-1])


@pytest.mark.parametrize('num_levels, num_days', [(3, 6), (2, 0), (0, 4)])
def test_days_that_do_not_reach_the_slowest_level_are_refused(
  num_levels, num_days
):
  with pytest.raises(errors.ConfigError, match=f'{num_levels} levels read'):
    chain.make_reader(
      num_levels=num_levels, num_days=num_days, hidden=8, rank=4
    )
