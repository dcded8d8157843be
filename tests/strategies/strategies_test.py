"""Tests of the strategies and of the registry that finds them."""

import sys
import textwrap

import jax
import numpy as np
import pytest

from sleep_jax import strategies
from sleep_jax.replay import buffer, row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import er, pretrain, registry
from tests import testing, tiny_study


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A tiny study with an initial model of a few steps."""
  made = tiny_study.TinyStudy(tiny_study.config((1, 2), (2, 'experience')))
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


def _plan(study, name, updates=4):
  strategy = study.programs(name).strategy
  return strategy.plan(study.levels, 2, 4, {1: updates, 2: updates})


def test_sequential_strategies_take_the_same_steps_on_the_same_batches(study):
  seen = {}
  for name in ('sleep', 'hope', 'sft', 'er'):
    strategy = study.programs(name).strategy
    wakes = [e for e in _plan(study, name) if e.kind == events.WAKE]
    reading = strategy.sources(study.stream)
    seen[name] = [
      (reading(e.experience).name, e.local_step, e.step) for e in wakes
    ]
  assert seen['sleep'] == seen['hope'] == seen['sft'] == seen['er']
  assert [row[1] for row in seen['sleep']] == [0, 1, 2, 3] * 2


def test_only_sleep_has_nights(study):
  for name in registry.names():
    for strategy in registry.make(name, num_levels=3):
      plan = strategy.plan(study.levels, 2, 4, {1: 4, 2: 4})
      slept = [e.sender for e in plan if e.kind == events.SLEEP]
      held = {e.held for e in plan if e.kind == events.WAKE}
      if strategy.name in ('sleep', 'sleep_rows'):
        assert slept == [1, 1, 2, 1, 1, 2]
      else:
        assert not slept and held <= {()} and not strategy.sleeps


def test_joint_has_the_budget_of_waking_or_of_waking_and_nights(study):
  def steps(name):
    return sum(e.kind == events.WAKE for e in _plan(study, name, updates=7))

  assert steps('joint_wake') == 8
  assert steps('joint_night') == 8 + 6 * 7


def test_joint_reads_pretraining_and_every_day(study):
  strategy = study.programs('joint_wake').strategy
  whole = strategy.sources(study.stream)(2)
  parts = [study.stream.pretrain, *study.stream.experiences]
  assert whole.num_rows == sum(part.num_rows for part in parts)
  evaluated = [e for e in _plan(study, 'joint_wake') if e.kind == 'evaluate']
  assert [(e.experience, e.ends) for e in evaluated] == [(2, True)]


def test_each_strategy_updates_the_parameters_of_its_owners(study):
  shapes = {
    name: study.programs(name).abstract(study.initial_model)
    for name in ('sleep', 'hope', 'sft', 'er', 'joint_wake')
  }
  levels = {f'blocks/levels/{n}' for n in (1, 2)}
  updated = lambda name: {
    path for own in shapes[name].sums.values() for path in own
  }
  part = lambda path: '/'.join(path.split('/')[:3])
  assert updated('sleep') == updated('hope')
  assert {part(path) for path in updated('hope')} == levels
  assert set(shapes['hope'].opt) == {'1', '2'}
  everything = {
    p
    for p in study.initial_model.weights.params
    if 'experts' not in p.split('/')
  }
  assert updated('sft') == updated('er') == updated('joint_wake') == everything
  assert set(shapes['sft'].opt) == {'all'}
  assert not updated('sft') & {'blocks/levels/3/experts/A'}


def test_the_row_buffer_of_er_has_as_many_tokens_as_the_prompts_of_sleep(study):
  replay = study.programs('sleep').abstract(study.initial_model).replay
  rows = study.programs('er').abstract(study.initial_model).row_buffer
  width = study.config.data.context
  capacity = buffer.token_capacity(replay)
  assert capacity == (16 + 16 + 2 * 16) * study.config.data.max_prompt
  assert capacity - width < rows.rows['tokens_BT'].size <= capacity
  assert study.programs('sft').abstract(study.initial_model).row_buffer is None


def test_er_reads_padding_while_its_row_buffer_is_empty():
  empty = row_buffer.allocate(40, width=testing.CONTEXT)
  batch = testing.batch()
  step = lambda state, batch, held: (state, batch)
  wrapped = er.make(2).wrap(step)

  class State:
    key, step = jax.random.key(0), 0

    def __init__(self, row_buffer):
      self.row_buffer = row_buffer

    def replace(self, row_buffer):
      return State(row_buffer)

  state, joined = wrapped(State(empty), batch, {})
  rows = batch.tokens_BT.shape[0]
  assert joined.tokens_BT.shape[0] == 2 * rows
  assert (np.asarray(joined.segments_BT[rows:]) == -1).all()
  assert not np.asarray(joined.loss_BT[rows:]).any()
  assert testing.same(joined.prompts, batch.prompts)
  assert int(state.row_buffer.num_rows) == 40 // testing.CONTEXT < rows
  # After that, each stored row is one that was offered.
  _, joined = wrapped(state, testing.batch(1), {})
  kept = np.asarray(state.row_buffer.rows['tokens_BT'])
  for row in np.asarray(joined.tokens_BT[rows:]):
    assert (row == kept).all(1).any()


def test_pretraining_is_all_in_cycle_0_and_ends_with_a_save():
  plan = pretrain.make(3).plan()
  assert [(e.kind, e.step, e.cycle) for e in plan] == [
    ('wake', 1, 0),
    ('evaluate', 1, 0),
    ('wake', 2, 0),
    ('evaluate', 2, 0),
    ('wake', 3, 0),
    ('evaluate', 3, 0),
    ('save', 3, 0),
  ]
  assert [e.kind for e in pretrain.make(0).plan()] == ['save']


def test_a_long_pretraining_is_evaluated_ten_times_and_at_its_end():
  plan = pretrain.make(25).plan()
  evaluated = [e.step for e in plan if e.kind == 'evaluate']
  assert evaluated == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
  assert [e.step for e in plan if e.kind == 'wake'] == list(range(1, 26))


def test_an_unknown_strategy_is_refused_with_the_known_names():
  with pytest.raises(ValueError, match="'slep': expected one of .*'sleep'"):
    registry.make('slep', num_levels=2)


@pytest.fixture
def idle_module(tmp_path, monkeypatch):
  """Adds a strategy that does nothing to the package, as a file of its own."""
  source = """
    from sleep_jax.schedule import events
    from sleep_jax.strategies import strategy

    NAME = 'idle'


    def make(num_levels):
      del num_levels
      return strategy.Strategy(
        name=NAME, owners={}, sleeps=False, plan=_plan,
        sources=strategy.sequential_sources,
      )


    def _plan(levels, num_experiences, steps, night_updates, dreams=''):
      end = dict(
        step=0, experience=num_experiences, cycle=num_experiences, ends=True
      )
      return [
        events.Event(events.EVALUATE, moment=events.EVENING, **end),
        events.Event(events.SAVE, **end),
      ]
  """
  (tmp_path / 'idle.py').write_text(textwrap.dedent(source))
  paths = [*strategies.__path__, str(tmp_path)]
  monkeypatch.setattr(strategies, '__path__', paths)
  yield
  sys.modules.pop('sleep_jax.strategies.idle', None)
  vars(strategies).pop('idle', None)


def test_names_are_in_the_order_of_reports():
  known = ('sleep', 'hope', 'sft', 'er', 'lora', 'joint', 'seal')
  assert registry.names()[:7] == known
  assert list(registry.names()[7:]) == sorted(registry.names()[7:])


def test_a_strategy_in_a_file_of_its_own_is_found_and_runs(
  idle_module, study, tmp_path
):
  """It changes nothing, so its run ends with the weights of the start."""
  assert 'idle' in registry.names()[7:]
  state, record = study.run('idle', tmp_path / 'run')
  assert testing.same(
    jax.device_get(state.weights), jax.device_get(study.initial_model.weights)
  )
  assert [e['experience'] for e in record['evaluations']] == [0, 2]


def test_two_strategies_of_one_name_are_refused(idle_module, tmp_path):
  module = (tmp_path / 'idle.py').read_text()
  (tmp_path / 'twin.py').write_text(module)
  with pytest.raises(ValueError, match="both have NAME 'idle'"):
    registry.names()
  sys.modules.pop('sleep_jax.strategies.twin', None)
  vars(strategies).pop('twin', None)
