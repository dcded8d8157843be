"""A model that cannot be is refused in words, before anything is built."""

import pytest

from sleep_jax.model import config
from tests import testing

SIZES = dict(width=16, num_layers=2, num_heads=4, num_kv_heads=2, head_size=4)


def _make(**changes):
  return config.make(
    SIZES | changes, testing.levels((1, 'experience')), vocab_size=32
  )


def test_sizes_that_agree_are_taken_as_they_are():
  made = _make()
  assert (made.num_levels, made.max_slots) == (2, testing.SLOTS)
  assert made.levels[0].sleep_period == config.EXPERIENCE


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    (dict(num_kv_heads=3), 'num_heads 4 .*num_kv_heads 3'),
    (dict(head_size=5), 'head_size 5 is odd'),
    (dict(router='loud'), "router is 'loud': expected one of .*'softmax'"),
    (dict(arrangement='heap'), "arrangement is 'heap'.*'independent'"),
  ],
)
def test_settings_that_disagree_are_named(changes, said):
  with pytest.raises(ValueError, match=said):
    _make(**changes)


def test_experts_of_no_rank_are_refused():
  levels = [dict(level) for level in testing.levels((1, 1))]
  levels[1]['rank'] = 0
  with pytest.raises(ValueError, match=r'levels\[2\] has 4 .* of rank 0'):
    config.make(SIZES, levels, vocab_size=32)


def test_a_level_without_hidden_units_is_refused():
  levels = [dict(level) for level in testing.levels((1, 1))]
  levels[0]['hidden'] = 0
  with pytest.raises(ValueError, match=r'levels\[1\].hidden is 0'):
    config.make(SIZES, levels, vocab_size=32)
