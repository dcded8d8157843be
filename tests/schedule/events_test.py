"""The schedule of updates and nights equals a direct reference in Python."""

import itertools

import pytest

from sleep_jax.model import config
from sleep_jax.schedule import capacity, checks, events
from tests import testing

DEEP = {
  3: ((2, 4), (4, 8)),
  4: ((1, 2), (2, 4), (4, 12)),
  5: ((2, 2), (4, 4), (8, 8), (16, 16)),
}


def _levels(*periods, slots=99):
  levels = [config.Level(**level) for level in testing.levels(*periods)]
  return [
    config.Level(8, x.update_period, x.sleep_period, slots=slots, rank=1)
    for x in levels
  ]


def _reference(periods, num_steps):
  """Applies the two conditions `i = 0 mod C` of the paper to every step."""
  updates, sleeps = [[] for _ in periods], [[] for _ in periods]
  order = []
  for i in range(1, num_steps + 1):
    for level, (update, sleep) in enumerate(periods):
      if i % update == 0:
        updates[level].append(i)
      if i % sleep == 0:
        sleeps[level].append(i)
        order.append((i, level + 1))
  return updates, sleeps, order


@pytest.mark.parametrize('depth', DEEP)
def test_levels_update_and_sleep_like_the_reference(depth):
  periods, steps, num = DEEP[depth], 12, 4
  levels = _levels(*periods)
  checks.check_periods(levels)
  plan = events.make_events(levels, num_experiences=num, steps=steps)
  rows = capacity.audit(levels, plan)
  updates, sleeps, order = _reference(periods, steps * num)
  assert [list(row.updates) for row in rows] == [*updates, []]
  assert [list(row.sleeps) for row in rows] == [*sleeps, []]
  assert order == [(e.step, e.sender) for e in plan if e.kind == events.SLEEP]
  for row, (_, sleep) in zip(rows, periods, strict=False):
    assert len(row.sleeps) == steps * num // sleep  # floor(N / S).


def test_level_does_not_sleep_before_its_period_is_complete():
  plan = events.make_events(_levels((2, 6)), num_experiences=1, steps=17)
  assert [e.step for e in plan if e.kind == events.SLEEP] == [6, 12]


def test_levels_due_together_sleep_fastest_first_and_hold_their_updates():
  levels = _levels(*DEEP[5])
  plan = events.make_events(levels, num_experiences=1, steps=16)
  last = [e for e in plan if e.step == 16]
  assert [e.kind for e in last] == [
    'wake', 'evaluate', 'sleep', 'sleep', 'sleep', 'sleep', 'evaluate', 'save'
  ]  # fmt: skip
  assert [e.sender for e in last if e.kind == 'sleep'] == [1, 2, 3, 4]
  assert last[0].held == (1, 2, 3, 4)
  assert [e.held for e in plan if e.kind == 'wake'][:4] == [
    (),
    (1,),
    (),
    (1, 2),
  ]


def test_night_is_between_the_evening_and_the_morning_evaluation():
  plan = events.make_events(
    _levels((1, 'experience')), num_experiences=2, steps=3
  )
  assert [(e.kind, e.moment) for e in plan if e.kind != 'wake'] == 2 * [
    ('evaluate', 'evening'), ('sleep', ''), ('evaluate', 'morning'),
    ('save', ''),
  ]  # fmt: skip
  assert [e.step for e in plan if e.kind == 'sleep'] == [3, 6]
  assert [e.cycle for e in plan if e.kind == 'save'] == [1, 2]
  wakes = [e for e in plan if e.kind == 'wake']
  assert [(e.experience, e.local_step, e.step) for e in wakes] == [
    (1, 0, 1), (1, 1, 2), (1, 2, 3), (2, 0, 4), (2, 1, 5), (2, 2, 6),
  ]  # fmt: skip
  assert [e.ends for e in wakes] == [False, False, True] * 2


def test_strategy_without_sleep_is_evaluated_once_per_experience():
  plan = events.make_events(
    _levels((1, 2)), num_experiences=2, steps=4, sleeps=False
  )
  rest = [e for e in plan if e.kind != events.WAKE]
  assert [(e.kind, e.step) for e in rest] == [
    ('evaluate', 4), ('save', 4), ('evaluate', 8), ('save', 8),
  ]  # fmt: skip
  assert not any(e.held for e in plan)


def test_steps_per_experience_are_whole_update_periods():
  levels = _levels((2, 'experience'), (6, 'experience'))
  assert events.steps_per_experience(levels, 7) == 12
  assert events.steps_per_experience(levels, 12) == 12
  assert events.steps_per_experience(_levels((5, 10)), 7) == 7


def test_passes_become_whole_steps_that_read_every_row():
  assert events.steps_of_passes(10, 1, 4) == 3
  assert events.steps_of_passes(10, 2, 4) == 5
  assert events.steps_of_passes(10, 1.1, 11) == 1  # 11.000000000000002 rows.
  assert events.steps_of_passes(10, 0.01, 4) == 1
  for num, passes, size in itertools.product((1, 7, 64), (1, 3), (1, 5, 100)):
    steps = events.steps_of_passes(num, passes, size)
    assert (steps - 1) * size < num * passes <= steps * size


def test_days_may_have_different_numbers_of_steps():
  levels = _levels((1, 'experience'), (6, 6))
  plan = events.make_events(levels, num_experiences=3, steps=(2, 5, 1))
  waking = [e for e in plan if e.kind == events.WAKE]
  assert [e.experience for e in waking] == [1, 1, 2, 2, 2, 2, 2, 3]
  assert [e.local_step for e in waking] == [0, 1, 0, 1, 2, 3, 4, 0]
  assert [e.step for e in waking if e.ends] == [2, 7, 8]
  assert [(e.step, e.sender) for e in plan if e.kind == events.SLEEP] == [
    (2, 1), (6, 2), (7, 1), (8, 1)
  ]  # fmt: skip
  equal = events.make_events(levels, num_experiences=3, steps=(4, 4, 4))
  assert equal == events.make_events(levels, num_experiences=3, steps=4)


def test_a_period_in_days_does_not_depend_on_their_steps():
  levels = _levels(
    (1, 'experience'), ('infinite', '2 days'), ('infinite', '4 days')
  )
  checks.check_periods(levels)
  for steps in (1, 3, (2, 5, 1, 7)):
    plan = events.make_events(levels, num_experiences=4, steps=steps)
    slept = [(e.experience, e.sender) for e in plan if e.kind == events.SLEEP]
    assert slept == [
      (1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (4, 3)
    ]  # fmt: skip


def test_a_day_that_is_appended_moves_no_earlier_event():
  levels = _levels((1, 'experience'), (6, 6))
  two = events.make_events(levels, num_experiences=2, steps=(2, 5))
  three = events.make_events(levels, num_experiences=3, steps=(2, 5, 9))
  assert three[: len(two)] == two


def test_bank_grows_by_nights_of_the_faster_level_and_is_reset_by_its_own():
  levels = _levels((1, 2), (2, 6), slots=9)
  plan = events.make_events(levels, num_experiences=1, steps=18)
  assert [row.most_experts for row in capacity.audit(levels, plan)] == [0, 3, 3]


def test_bank_that_would_overflow_raises_at_the_start():
  levels = _levels((1, 2), (2, 6), slots=2)
  plan = events.make_events(levels, num_experiences=1, steps=18)
  with pytest.raises(ValueError, match=r'bank of level 2 has 2 slots, but 3'):
    capacity.audit(levels, plan)
  sufficient = _levels((1, 2), (2, 6), slots=3)
  capacity.audit(sufficient, plan)


@pytest.mark.parametrize(
  ('periods', 'message'),
  [
    ([(2, 3)], 'sleep_period 3 is not a multiple of its update_period 2'),
    ([(2, 2), (5, 5)], r'config.levels\[1\].update_period 5 is not a multiple'),
    ([(0, 1)], r'config.levels\[0\].update_period is 0: expected at least 1'),
    ([('never', 1)], "update_period is 'never': expected a number of wake"),
    ([(1, 'often')], "sleep_period is 'often': expected steps"),
    ([(1, '0 days')], "sleep_period is '0 days': expected steps"),
    ([(1, 1), ('infinite', 2), (2, 2)], 'must be the fastest ones'),
    ([(1, '2 days'), ('infinite', '3 days')], "set it to '4 days'"),
    ([(1, 'experience'), (1, '2 days'), (1, '7 days')], "set it to '8 days'"),
  ],
)
def test_invalid_periods_raise(periods, message):
  with pytest.raises(ValueError, match=message):
    checks.check_periods(_levels(*periods))


def test_a_level_that_neither_learns_nor_collects_is_refused():
  levels = _levels(('infinite', 1), slots=0)
  with pytest.raises(ValueError, match=r'levels\[0\].* its slots are 0'):
    checks.check_periods(levels)


def test_slowest_level_must_be_infinite():
  levels = _levels((1, 1))
  invalid = [levels[0], config.Level(8, 4, 'infinite', 4, 1)]
  with pytest.raises(ValueError, match=r'config.levels\[1\], the slowest'):
    checks.check_periods(invalid)


def test_audit_is_formatted_as_a_table():
  levels = _levels((1, 2), (2, 6))
  plan = events.make_events(levels, num_experiences=1, steps=18)
  lines = capacity.describe(capacity.audit(levels, plan)).splitlines()
  assert len(lines) == 4
  assert lines[1].split()[:3] == ['1', '18', '9']
  assert '2, 4, 6, 8, 10, 12, ... 18' in lines[1]
  assert lines[3].endswith('never; never')


def test_every_wake_step_occurs_exactly_once():
  plan = events.make_events(_levels(*DEEP[4]), num_experiences=3, steps=7)
  steps = [e.step for e in plan if e.kind == events.WAKE]
  assert steps == list(range(1, 22))
  assert all(a.step <= b.step for a, b in itertools.pairwise(plan))


def test_nights_that_were_forgotten_leave_room_for_others():
  """Two slots: three nights fit if one of them was forgotten."""
  levels = _levels((1, 'experience'), slots=2)
  plan = events.make_events(levels, num_experiences=3, steps=2)
  with pytest.raises(ValueError, match='3 nights add an expert'):
    capacity.audit(levels, plan)
  done = max(n for n, e in enumerate(plan) if e.kind == events.SLEEP)
  for in_use, most in (((0, 0), 1), ((0, 1), 2)):
    rows = capacity.audit(levels, plan, done=done, in_use=in_use)
    assert rows[1].most_experts == most
    assert len(rows[0].sleeps) == 3
  with pytest.raises(ValueError, match='3 nights add an expert'):
    capacity.audit(levels, plan, done=done, in_use=(0, 2))


def test_a_bank_that_was_not_emptied_does_not_refuse_the_schedule():
  """The night that empties it may have been discarded."""
  levels = _levels((1, 'experience'), (None, '2 days'), slots=2)
  plan = events.make_events(levels, num_experiences=6, steps=1)
  nights = [n for n, event in enumerate(plan) if event.kind == events.SLEEP]
  assert [plan[n].sender for n in nights[:3]] == [1, 1, 2]
  rows = capacity.audit(levels, plan, done=nights[2] + 1, in_use=(0, 2, 0))
  assert [row.most_experts for row in rows] == [0, 2, 2]
