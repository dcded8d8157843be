"""The expert that holds each night, after every event of the history."""

import pytest

from sleep_jax.runs import expert_history


def _row(night, level, slot, event):
  return {'night': night, 'level': level, 'slot': slot, 'event': event}


NIGHTS = [
  _row(1, 2, 0, 'activated'),
  _row(2, 2, 1, 'activated'),
  _row(3, 2, 1, 'dreamt'),
  _row(4, 2, 2, 'discarded'),
]
MERGED = [*NIGHTS, _row(5, 2, 0, 'merged'), _row(5, 2, 1, 'reset')]
CONSOLIDATED = [
  *NIGHTS,
  _row(5, 3, 0, 'activated'),
  _row(5, 2, 0, 'reset'),
  _row(5, 2, 1, 'reset'),
  _row(6, 2, 0, 'activated'),
]


@pytest.mark.parametrize(
  'rows, held',
  [
    (NIGHTS, {(2, 0): [1], (2, 1): [2, 3]}),
    (MERGED, {(2, 0): [1, 2, 3]}),
    (CONSOLIDATED, {(3, 0): [1, 2, 3, 5], (2, 0): [6]}),
    ([*NIGHTS, _row(4, 2, 1, 'forgotten')], {(2, 0): [1]}),
    ([*CONSOLIDATED, _row(6, 2, 0, 'forgotten'),
      _row(7, 2, 0, 'activated')],
     {(3, 0): [1, 2, 3, 5], (2, 0): [7]}),
    ([_row(1, 2, None, 'rewritten'), _row(2, 2, None, 'rewritten')],
     {(2, None): [1, 2]}),
    ([_row(1, 2, 0, 'activated'), _row(2, 3, None, 'rewritten'),
      _row(2, 2, 0, 'reset')], {(3, None): [1, 2]}),
  ],
)  # fmt: skip
def test_each_night_has_one_holder(rows, held):
  assert expert_history.holders(rows) == held
  for place, nights in held.items():
    for night in nights:
      if place[1] is not None:
        assert expert_history.holder(rows, night) == place


def test_the_original_slot_is_the_one_before_consolidation():
  history = CONSOLIDATED
  assert expert_history.original_slot(history, 2) == (2, 1)
  assert expert_history.original_slot(history, 3) == (2, 1)
  assert expert_history.original_slot(history, 5) == (3, 0)


def test_errors_name_nights_that_can_be_forgotten_or_the_base():
  with pytest.raises(ValueError, match=r'night 4: .*hold: \[1, 2, 3\]'):
    expert_history.holder(NIGHTS, 4)
  with pytest.raises(ValueError, match='hold: none'):
    expert_history.holder([], 1)
  base = [_row(1, 2, None, 'rewritten')]
  with pytest.raises(ValueError, match='the base of level 2'):
    expert_history.holder(base, 1)
