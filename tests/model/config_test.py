"""Tests of the validation of model configs."""

import pytest

from sleep_jax.model import config
from tests import testing

SIZES = dict(width=16, num_layers=2, num_heads=4, num_kv_heads=2, head_size=4)


def _make_config(**changes):
  return config.make(
    SIZES | changes, testing.levels((1, 'experience')), vocab_size=32
  )


def test_a_consistent_config_is_accepted():
  made = _make_config()
  assert (made.num_levels, made.max_slots) == (2, testing.SLOTS)
  assert made.levels[0].sleep_period == config.EXPERIENCE


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(num_kv_heads=3), 'num_heads 4 .*num_kv_heads 3'),
    (dict(head_size=5), 'head_size 5 is odd'),
    (dict(router='other'), "router is 'other': expected one of .*'softmax'"),
    (dict(arrangement='other'), "arrangement is 'other'.*'independent'"),
  ],
)
def test_an_invalid_field_is_named_in_the_error(changes, message):
  with pytest.raises(ValueError, match=message):
    _make_config(**changes)


def test_expert_slots_of_rank_0_are_refused():
  levels = [dict(level) for level in testing.levels((1, 1))]
  levels[1]['rank'] = 0
  with pytest.raises(
    ValueError, match=r'config.levels\[1\] has 4 .* of rank 0'
  ):
    config.make(SIZES, levels, vocab_size=32)


def test_a_level_without_hidden_units_is_refused():
  levels = [dict(level) for level in testing.levels((1, 1))]
  levels[0]['hidden'] = 0
  with pytest.raises(ValueError, match=r'config.levels\[0\].hidden is 0'):
    config.make(SIZES, levels, vocab_size=32)
