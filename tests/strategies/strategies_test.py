"""Each strategy is its definition, and nothing else differs."""

import jax
import numpy as np
import pytest

from sleep_jax.replay import buffer, row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import er, pretrain, registry
from tests import testing, town


@pytest.fixture(scope='module')
def here(tmp_path_factory):
  """A town whose newborn was never asked: shapes and plans are enough."""
  made = town.Town(town.config((1, 2), (2, 'experience')))
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


def _plan(here, name, updates=4):
  kind = here.programs(name).kind
  return kind.plan(here.levels, 2, 4, updates)


def test_all_live_through_the_same_steps_and_batches(here):
  seen = {}
  for name in ('sleep', 'hope', 'sft', 'er'):
    kind = here.programs(name).kind
    wakes = [e for e in _plan(here, name) if e.kind == events.WAKE]
    reading = kind.reading(here.stream)
    seen[name] = [
      (reading(e.experience).name, e.local_step, e.step) for e in wakes
    ]
  assert seen['sleep'] == seen['hope'] == seen['sft'] == seen['er']
  assert [row[1] for row in seen['sleep']] == [0, 1, 2, 3] * 2


def test_nobody_but_sleep_ever_sleeps(here):
  for kinds in registry.NAMES:
    for kind in registry.make(kinds, num_levels=3):
      plan = kind.plan(here.levels, 2, 4, 4)
      slept = [e.sender for e in plan if e.kind == events.SLEEP]
      held = {e.held for e in plan if e.kind == events.WAKE}
      if kind.name == 'sleep':
        assert slept == [1, 1, 2, 1, 1, 2]
      else:
        assert not slept and held <= {()} and not kind.sleeps


def test_joint_has_the_budget_of_the_day_or_of_day_and_night(here):
  def steps(name):
    return sum(e.kind == events.WAKE for e in _plan(here, name, updates=7))

  assert steps('joint_wake') == 8
  assert steps('joint_night') == 8 + 6 * 7


def test_joint_reads_birth_and_every_day(here):
  kind = here.programs('joint_wake').kind
  whole = kind.reading(here.stream)(2)
  parts = [here.stream.pretrain, *here.stream.experiences]
  assert whole.num_rows == sum(part.num_rows for part in parts)
  asked = [e for e in _plan(here, 'joint_wake') if e.kind == 'evaluate']
  assert [(e.experience, e.ends) for e in asked] == [(2, True)]


def test_who_moves_what(here):
  shapes = {
    name: here.programs(name).abstract(here.initial_model)
    for name in ('sleep', 'hope', 'sft', 'er', 'joint_wake')
  }
  levels = {f'blocks/levels/{n}' for n in (1, 2)}
  moves = lambda name: {
    path for own in shapes[name].sums.values() for path in own
  }
  part = lambda path: '/'.join(path.split('/')[:3])
  assert moves('sleep') == moves('hope')
  assert {part(path) for path in moves('hope')} == levels
  assert set(shapes['hope'].opt) == {'1', '2'}
  everything = {
    p
    for p in here.initial_model.weights.params
    if 'experts' not in p.split('/')
  }
  assert moves('sft') == moves('er') == moves('joint_wake') == everything
  assert set(shapes['sft'].opt) == {'all'}
  assert not moves('sft') & {'blocks/levels/3/experts/A'}


def test_the_memory_has_room_for_as_many_tokens_as_the_ring(here):
  ring = here.programs('sleep').abstract(here.initial_model).replay
  memory = here.programs('er').abstract(here.initial_model).memory
  width = here.config.data.context
  room = buffer.stored_tokens(ring)
  assert room == (16 + 16 + 2 * 16) * here.config.data.max_prompt
  assert room - width < memory.rows['tokens_BT'].size <= room
  assert here.programs('sft').abstract(here.initial_model).memory is None


def test_a_memory_that_is_empty_is_not_read():
  memory = row_buffer.empty(40, width=testing.CONTEXT)
  batch = testing.batch()
  step = lambda state, batch, held: (state, batch)
  wrapped = er.make(2).wrap(step)

  class State:
    key, step = jax.random.key(0), 0

    def __init__(self, memory):
      self.memory = memory

    def replace(self, memory):
      return State(memory)

  state, both = wrapped(State(memory), batch, {})
  rows = batch.tokens_BT.shape[0]
  assert both.tokens_BT.shape[0] == 2 * rows
  assert (np.asarray(both.segments_BT[rows:]) == -1).all()
  assert not np.asarray(both.loss_BT[rows:]).any()
  assert testing.same(both.prompts, batch.prompts)
  assert int(state.memory.count) == rows
  # From now on it is: each old row is one that was offered.
  _, both = wrapped(state, testing.batch(1), {})
  kept = np.asarray(state.memory.rows['tokens_BT'])
  for row in np.asarray(both.tokens_BT[rows:]):
    assert (row == kept).all(1).any()


def test_a_memory_keeps_every_row_with_equal_chance():
  """4 of 16 rows: each stays one time in four."""
  times = np.zeros(16)
  offer = jax.jit(row_buffer.offer)
  for seed in range(200):
    memory = row_buffer.empty(4 * testing.CONTEXT, width=testing.CONTEXT)
    for number in range(2):
      batch = testing.batch(0)
      marks = np.arange(8 * number, 8 * number + 8)[:, None]
      batch = batch.replace(
        tokens_BT=np.broadcast_to(marks, batch.tokens_BT.shape).astype('i4')
      )
      key = jax.random.fold_in(jax.random.key(seed), number)
      memory = offer(memory, batch, key)
    kept = np.asarray(memory.rows['tokens_BT'])[:, 0]
    assert len(set(kept)) == 4
    times[kept] += 1
  # Mean 50, deviation 6: four of them.
  assert times.min() > 26 and times.max() < 75


def test_birth_is_one_stretch_that_ends_in_cycle_0():
  plan = pretrain.make(3).plan()
  assert [(e.kind, e.step, e.cycle) for e in plan] == [
    ('wake', 1, 0), ('evaluate', 1, 0), ('wake', 2, 0), ('evaluate', 2, 0),
    ('wake', 3, 0), ('evaluate', 3, 0), ('save', 3, 0),
  ]  # fmt: skip
  assert [e.kind for e in pretrain.make(0).plan()] == ['save']


def test_a_long_birth_is_read_to_ten_times_and_at_its_end():
  plan = pretrain.make(25).plan()
  asked = [e.step for e in plan if e.kind == 'evaluate']
  assert asked == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
  assert [e.step for e in plan if e.kind == 'wake'] == list(range(1, 26))


def test_an_unknown_strategy_is_told_which_there_are():
  with pytest.raises(ValueError, match="'slep': expected one of .*'sleep'"):
    registry.make('slep', num_levels=2)
