"""A level changes the settings of its own nights, and of no other."""

import pytest

from configs import base
from sleep_jax import errors
from sleep_jax.config import checks
from sleep_jax.sleep import sender_settings


def _config(**night):
  config = base.get_config().to_dict()
  fast, slow = config['levels']
  middle = fast | dict(sleep_period=240, update_period=240, slots=2, rank=8)
  config['levels'] = (fast, middle | ({'night': night} if night else {}), slow)
  config['wake']['optimizers'] *= 2
  checks.check(config)
  return config


def test_a_level_without_a_night_has_the_settings_of_all():
  config = _config()
  assert sender_settings.make(config, 1) == sender_settings.make(config, 0)
  assert sender_settings.make(config, 1) == sender_settings.make(config, 2)


def test_a_level_changes_its_own_nights_alone():
  config = _config(num_updates=640, draws=200, learning_rate=1e-3)
  shared, own = (sender_settings.make(config, sender) for sender in (1, 2))
  assert (shared.num_updates, own.num_updates) == (320, 640)
  assert [t.draws for t in shared.teachers] == [384, 96]
  assert [t.draws for t in own.teachers] == [200, 200]
  assert [t.sequences for t in own.teachers] == [64, 32]
  assert own.beta == shared.beta
  # The cosine ends with the night.
  assert sender_settings.optimizer(config, 2) == dict(
    decay_steps=640, learning_rate=1e-3, warmup=20, b2=0.98
  )
  assert sender_settings.optimizer(config, 1)['decay_steps'] == 320


def test_each_receiver_has_the_overflow_of_its_sender():
  config = _config(into='base')
  assert sender_settings.overflow(config, (1, 2)) == {2: 'error', 3: 'none'}


@pytest.mark.parametrize(
  ('night', 'message'),
  [
    (dict(num_update=3), r'levels\[1\].night.num_updates'),
    (dict(draws=0), r'config.levels\[1\].night.draws is 0: expected'),
    (dict(num_updates=325), r'levels\[1\].night, with config.consolidate'),
    (dict(into='bank'), r"levels\[1\].night, .*'bank': expected one of"),
    (dict(warmup=320), r'levels\[1\].night .*warmup is 320 steps'),
    (dict(teachers=[dict(teacher='next')]), r'teachers\[0\].prompts is miss'),
    (dict(teachers=[dict(teacer='next')]), r'nearest .*teachers\[0\].teacher'),
  ],
)
def test_a_wrong_field_of_a_level_is_named(night, message):
  with pytest.raises(errors.ConfigError, match=message):
    sender_settings.make(_config(**night), 2)
