"""Whether configs give a day enough wake steps to read all of its rows."""

import types

import pytest

from sleep_jax.config import files
from sleep_jax.model import config as model_config
from sleep_jax.runs import inputs, run_plan
from sleep_jax.storage import workdir


@pytest.mark.parametrize(
  'name',
  ('small/niah', 'small/babilong:640', 'paper/babilong:qwen3-8b:16384'),
)
def test_a_day_that_is_only_read_is_read_whole(name, tmp_path):
  config = files.load(name)
  config.data.settings.update(readings=0, num_pretrain=0, num_days=2)
  dataset = inputs.read_dataset(config, workdir.path(str(tmp_path)), 0)
  plain = config.to_dict()
  levels = [model_config.make_level(level) for level in plain['levels']]
  days = [
    types.SimpleNamespace(num_rows=len(rows)) for _, rows in dataset.experiences
  ]
  steps = run_plan.wake_steps(plain, levels, days)
  for day, num_steps in zip(days, steps, strict=True):
    assert num_steps * config.data.batch_size >= day.num_rows
    # A night finds what it has to read among the stored rows.
    assert config.replay.day >= day.num_rows
