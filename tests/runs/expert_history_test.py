"""Which expert holds which nights, after all that can become of one."""

import pytest

from sleep_jax.runs import expert_history


def _row(night, level, slot, event):
  return {'night': night, 'level': level, 'slot': slot, 'event': event}


SLEPT = [
  _row(1, 2, 0, 'activated'),
  _row(2, 2, 1, 'activated'),
  _row(3, 2, 1, 'dreamt'),
  _row(4, 2, 2, 'discarded'),
]
MERGED = [*SLEPT, _row(5, 2, 0, 'merged'), _row(5, 2, 1, 'reset')]
MOVED = [
  *SLEPT,
  _row(5, 3, 0, 'activated'),
  _row(5, 2, 0, 'reset'),
  _row(5, 2, 1, 'reset'),
  _row(6, 2, 0, 'activated'),
]


@pytest.mark.parametrize(
  'rows, held',
  [
    (SLEPT, {(2, 0): [1], (2, 1): [2, 3]}),
    (MERGED, {(2, 0): [1, 2, 3]}),
    (MOVED, {(3, 0): [1, 2, 3, 5], (2, 0): [6]}),
    ([*SLEPT, _row(4, 2, 1, 'forgotten')], {(2, 0): [1]}),
    ([*MOVED, _row(6, 2, 0, 'forgotten'), _row(7, 2, 0, 'activated')],
     {(3, 0): [1, 2, 3, 5], (2, 0): [7]}),
    ([_row(1, 2, None, 'rewritten'), _row(2, 2, None, 'rewritten')],
     {(2, None): [1, 2]}),
    ([_row(1, 2, 0, 'activated'), _row(2, 3, None, 'rewritten'),
      _row(2, 2, 0, 'reset')], {(3, None): [1, 2]}),
  ],
)  # fmt: skip
def test_every_night_is_held_once(rows, held):
  assert expert_history.holders(rows) == held
  for place, nights in held.items():
    for night in nights:
      if place[1] is not None:
        assert expert_history.holder(rows, night) == place


def test_a_night_knows_where_it_was_put():
  assert expert_history.original_slot(MOVED, 2) == (2, 1)
  assert expert_history.original_slot(MOVED, 3) == (2, 1)
  assert expert_history.original_slot(MOVED, 5) == (3, 0)


def test_what_cannot_be_switched_off_is_said():
  with pytest.raises(ValueError, match=r'night 4: .*hold: \[1, 2, 3\]'):
    expert_history.holder(SLEPT, 4)
  with pytest.raises(ValueError, match='hold: none'):
    expert_history.holder([], 1)
  base = [_row(1, 2, None, 'rewritten')]
  with pytest.raises(ValueError, match='the base of level 2'):
    expert_history.holder(base, 1)
