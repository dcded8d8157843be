"""A life that is broken off, anywhere, ends where an unbroken one does."""

import contextlib
import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from jax import monitoring

from sleep_jax import state as state_lib
from sleep_jax.evaluate import cost
from sleep_jax.runs import context
from sleep_jax.storage import checkpoints
from tests import testing, tiny_study

DEEP = [(1, 2), (2, 4)]  # Both sleep at steps 4 and 8, the first at 2 and 6.


@functools.cache
def _tiny_study():
  return tiny_study.TinyStudy(tiny_study.config(*DEEP))


def _live(name, folder, **how):
  """A life with the guard on, which finds no harm unless it is told to."""
  return _tiny_study().run(name, folder, **({'tolerance': 1.0} | how))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('lives')


@dataclasses.dataclass(frozen=True)
class _Life:
  """How a life ended, and how many chances there were to break it off."""

  state: state_lib.State
  record: dict
  rows: list
  chances: int = 0
  compiled: tuple[int, ...] = ()  # Evaluations begun before each compilation.


@pytest.fixture(scope='module')
def unbroken(folder):
  """The life to compare with."""
  here = _tiny_study().make_initial_model(folder / 'pretrain')
  looks, asked, compiled = itertools.count(), itertools.count(), []
  begun = [0]

  def listen(name, seconds, **_):
    if name == '/jax/core/compile/backend_compile_duration':
      compiled.append(begun[0])

  class Counts:
    def __getattr__(self, name):
      if name == 'evaluate':
        begun[0] = next(asked) + 1
      return getattr(here.evaluator, name)

  monitoring.register_event_duration_secs_listener(listen)
  try:
    state, record = _live(
      'sleep', folder / 'whole', evaluator=Counts(),
      stop=lambda: next(looks) < 0,
    )  # fmt: skip
  finally:
    monitoring.unregister_event_duration_listener(listen)
  rows = tiny_study.metric_rows(folder / 'whole')
  return _Life(state, record, rows, next(looks), tuple(compiled))


def _at_call(number):
  """A stop that is asked for when it is looked at the `number`-th time."""
  calls = itertools.count(1)
  return lambda: next(calls) == number


def _in_parts(name, folder, stops):
  """Lives with a stop after each number of looks, then to the end."""
  for number in stops:
    with pytest.raises(context.Interrupted):
      _live(name, folder, stop=_at_call(number))
  return _Life(*_live(name, folder), tiny_study.metric_rows(folder))


def _assert_same_life(one, other):
  assert testing.same(one.state, other.state)
  assert tiny_study.without_times(one.record) == tiny_study.without_times(other.record)
  assert one.rows == other.rows


def test_a_life_broken_off_at_every_chance_ends_as_an_unbroken_one(
  unbroken, tmp_path
):
  """After each wake step, each round of a night, each waking, each cycle."""
  # 8 steps, 6 nights of 2 rounds and a waking, 4 cycles.
  assert unbroken.chances == 8 + 6 * 3 + 4
  parts = _in_parts('sleep', tmp_path, [1] * unbroken.chances)
  _assert_same_life(unbroken, parts)


@pytest.mark.parametrize('stops', [[4], [7, 9]])  # Mid-night; mid-day.
def test_a_life_broken_off_now_and_then_ends_as_an_unbroken_one(
  unbroken, tmp_path, stops
):
  _assert_same_life(unbroken, _in_parts('sleep', tmp_path, stops))


class _Falls:
  """An examiner that falls over when asked the `number`-th time."""

  def __init__(self, judge, number):
    self._judge, self._calls, self._number = judge, itertools.count(1), number

  def evaluate(self, *args):
    if next(self._calls) == self._number:
      raise RuntimeError('power cut')
    return self._judge.evaluate(*args)

  def __getattr__(self, name):
    return getattr(self._judge, name)


@pytest.mark.parametrize('number', [2, 3])  # First evening, first morning.
def test_a_life_ended_without_warning_repeats_what_was_not_saved(
  unbroken, tmp_path, number
):
  with pytest.raises(RuntimeError, match='power cut'):
    judge = _Falls(_tiny_study().evaluator, number)
    _live('sleep', tmp_path, evaluator=judge, save_seconds=0)
  assert len(tiny_study.metric_rows(tmp_path)) < len(unbroken.rows)
  again = _Life(*_live('sleep', tmp_path), tiny_study.metric_rows(tmp_path))
  _assert_same_life(unbroken, again)


def test_what_is_saved_of_a_night_does_not_change_while_it_is_written(
  unbroken, tmp_path, monkeypatch
):
  """The record of a night grows; its checkpoint holds it as it was.

  So do its types, lest what is restored needs programs of its own.
  """
  saved, save = [], checkpoints.Checkpoints.save_moment

  def look(self, state, progress):
    assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(state))
    if state.night is not None:
      saved.append((progress, int(state.night.update)))
    save(self, state, progress)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save_moment', look)
  _live('sleep', tmp_path, save_seconds=0)
  assert len(saved) == 12
  for progress, update in saved:
    assert progress['nights'][-1]['divergence'][-1]['update'] == update


def test_birth_broken_off_is_the_same_birth(unbroken, folder, tmp_path):
  initial_model, here = _tiny_study().initial_model, tiny_study.TinyStudy(tiny_study.config(*DEEP))
  with pytest.raises(context.Interrupted):
    here.run('pretrain', tmp_path, stop=_at_call(2))
  again, _ = here.run('pretrain', tmp_path)
  assert testing.same(initial_model.weights, again.weights)
  assert testing.same(initial_model.replay, again.replay)
  assert tiny_study.metric_rows(folder / 'pretrain') == tiny_study.metric_rows(tmp_path)


def test_a_memory_of_rows_is_part_of_what_is_saved(unbroken, tmp_path):
  whole = _in_parts('er', tmp_path / 'whole', [])
  parts = _in_parts('er', tmp_path / 'parts', [3, 3])
  _assert_same_life(whole, parts)


def test_nothing_compiles_after_every_level_has_slept_once(unbroken):
  """Counted by JAX itself, eager operations, guard and saving included.

  1 is the newborn; 2 and 3 are evening and morning of cycle 1, in which level
  1 sleeps; 4 and 5 those of cycle 2, in which both do; 9 is the last.
  """
  assert {1, 2, 4} <= set(unbroken.compiled)
  assert max(unbroken.compiled) == 4
  assert len(unbroken.record['evaluations']) == 9


class _Silent:
  """An examiner that asks nothing, and so compiles nothing."""

  def evaluate(self, weights, experience):
    return {'scores': {}, 'template_scores': {}}

  def second_scores(self, weights):
    return {}

  expert_gates = second_scores


def _placed(mesh, folder):
  """A newborn, and how it ends, on a mesh."""
  here = tiny_study.TinyStudy(tiny_study.config((1, 'experience')), mesh)
  initial_model = here.make_initial_model(
    folder / f'birth_{mesh}'
  ).initial_model
  return initial_model, *here.run(
    'sleep', folder / f'{mesh}', evaluator=_Silent()
  )


def test_a_sharded_life_is_that_of_one_device(tmp_path):
  alone, alone_state, alone_record = _placed((1, 1, 1), tmp_path)
  initial_model, state, record = _placed((2, 2, 2), tmp_path)
  _assert_close(initial_model.weights, alone.weights)
  _assert_close(state.weights, alone_state.weights)
  kept = jax.device_get((state.replay, alone_state.replay))
  assert testing.same(*kept)
  nights = zip(record['nights'], alone_record['nights'], strict=True)
  for one, other in nights:
    for a, b in zip(one['divergence'], other['divergence'], strict=True):
      assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
  embed = state.weights.params['embed']
  assert len(embed.addressable_shards) == 8
  assert 2 * embed.addressable_shards[0].data.shape[1] == embed.shape[1]


def _assert_close(one, other):
  """Where a gradient is nearly 0, Adam takes its rounding for a direction."""
  for path, leaf in other.params.items():
    np.testing.assert_allclose(
      one.params[path], leaf, rtol=1e-3, atol=1e-4, err_msg=path
    )
  np.testing.assert_array_equal(one.active_NE, other.active_NE)


def test_levels_due_together_sleep_fastest_first_with_their_own_teachers(
  unbroken,
):
  state, record, rows = unbroken.state, unbroken.record, unbroken.rows
  nights = record['nights']
  order = [(night['step'], night['sender']) for night in nights]
  assert order == [(2, 1), (4, 1), (4, 2), (6, 1), (8, 1), (8, 2)]
  # Level 2's bank holds what level 1 sent since level 2 slept last.
  assert [night['slot'] for night in nights] == [0, 1, 0, 0, 1, 1]
  emptied = [
    (e['night'], e['slot']) for e in record['ledger'] if e['event'] == 'reset'
  ]
  assert emptied == [(3, 0), (3, 1), (6, 0), (6, 1)]
  np.testing.assert_array_equal(
    np.asarray(state.weights.active_NE)[:, :3],
    [[0, 0, 0], [0, 0, 0], [1, 1, 0]],
  )
  assert np.asarray(state.woke_N).tolist() == [0, 8, 8]
  kinds = [row['kind'] for row in rows]
  assert kinds.count('night') == 6 and kinds.count('seed') == 12


class _Scripted:
  """An examiner whose guard has its answers written down."""

  def __init__(self, judge, *answers):
    self._judge, self._answers = judge, iter(answers)

  def guard_accuracy(self, weights, experience):
    return next(self._answers)

  def __getattr__(self, name):
    return getattr(self._judge, name)


def test_a_harmful_night_is_discarded_and_the_next_takes_both_days(
  unbroken, tmp_path
):
  here = _tiny_study()
  live = functools.partial(_live, 'sleep', tmp_path, tolerance=0.1)
  said = tiny_study.RecordingProgress()
  judge = _Scripted(here.evaluator, 0.9, 0.5)  # The newborn, and night 1.
  with pytest.raises(context.Interrupted):
    live(
      evaluator=judge, progress=said, stop=_at_call(2 + 2 + 1)
    )  # Its morning.
  saved = checkpoints.Checkpoints(
    str(tmp_path / 'checkpoints'), config={'name': 'sleep'}
  )
  shapes = here.programs('sleep').abstract(here.initial_model)
  morning = saved.restore(*saved.latest_progress()[:2], shapes)
  saved.close()
  state, record = live(evaluator=_Scripted(here.evaluator, 0.88, *[1.0] * 5))

  first, second = record['nights'][:2]
  assert (first['accepted'], second['accepted']) == (False, True)
  assert first['guard'] == pytest.approx({'before': 0.9, 'after': 0.5})
  # What it is held against is the last waking: here, birth.
  assert second['guard'] == pytest.approx({'before': 0.9, 'after': 0.88})
  assert 'fell from 0.900 to 0.500' in first['reason']
  assert any('night 1 discarded: guard' in line for line in said.messages)
  ledger = [(e['event'], e['slot']) for e in record['ledger'][:2]]
  assert ledger == [('discarded', 0), ('activated', 0)]
  rows = [r for r in tiny_study.metric_rows(tmp_path) if r['kind'] == 'night']
  assert [row['accepted'] for row in rows] == [False] + [True] * 5

  born = here.initial_model.weights.params
  own = {p for p in born if p.startswith('blocks/levels/1/base')}
  moved = testing.changed(born, morning.weights.params)
  # The due update is applied, and nothing else of the night is kept; level 2
  # has moved awake.
  assert {path for path in moved if '/levels/2/' not in path} == own
  assert not np.asarray(morning.weights.active_NE).any()
  assert testing.same(morning.anchor['1'], {p: born[p] for p in own})
  assert float(morning.guard_N[1]) == pytest.approx(0.9)
  # Its day goes on: the prompts are there, and all are new.
  assert int(morning.woke_N[1]) == 0
  assert int(morning.replay['day/1'].count) == 2 * 8
  assert int(state.replay['day/1'].count) == 0
  assert int(state.woke_N[1]) == 8


def test_a_night_that_comes_apart_ends_there_and_is_discarded(
  tmp_path, monkeypatch
):
  """And is still over after a break."""
  c = tiny_study.config()
  c.consolidate.imitation.alpha = 0.5
  c.consolidate.teachers = c.consolidate.teachers[1:]  # Less to compile.
  here = tiny_study.TinyStudy(c).make_initial_model(tmp_path / 'pretrain')
  falls = iter(['collapse: said so'])
  program = here.programs('sleep')
  monkeypatch.setattr(program, 'collapse', lambda first, now: next(falls, ''))
  live = functools.partial(here.run, 'sleep', tmp_path / 'life')
  with pytest.raises(context.Interrupted):
    live(stop=_at_call(4 + 1))  # After the first round.
  state, record = live()
  first, second = record['nights']
  assert (first['accepted'], first['reason']) == (False, 'collapse: said so')
  assert (second['accepted'], second['reason']) == (True, '')
  ends = [[row['update'] for row in n['imitation']] for n in (first, second)]
  assert ends == [[2], [2, 4]]
  assert 0 <= first['imitation'][0]['reward'] <= 1
  assert first['imitation'][0]['likelihood'] < 0
  assert float(state.weights.active_NE[1].sum()) == 1
  assert [e['event'] for e in record['ledger']] == ['discarded', 'activated']


def test_the_clock_of_the_cost_stands_still_while_it_is_asked(
  unbroken, tmp_path, monkeypatch
):
  here = _tiny_study()
  running, seen = [False], []

  class Watched(cost.Cost):
    @contextlib.contextmanager
    def measure_time(self):
      with super().measure_time():
        running[0] = True
        yield self
        running[0] = False

  class Looks:
    def __getattr__(self, name):
      seen.append((name, running[0]))
      return getattr(here.evaluator, name)

  program = here.programs('sleep')
  wake = program.wake
  monkeypatch.setattr(cost, 'Cost', Watched)
  monkeypatch.setattr(
    program, 'wake', lambda *a: seen.append(('wake', running[0])) or wake(*a)
  )
  _live('sleep', tmp_path, evaluator=Looks())
  assert {on for name, on in seen if name == 'wake'} == {True}
  asked = [
    on
    for name, on in seen
    if name in ('evaluate', 'guard_accuracy', 'second_scores')
  ]
  assert len(asked) == 9 + 7 + 2 and not any(asked)


def test_only_tokens_that_were_there_count_as_read(unbroken, tmp_path):
  here = _tiny_study()
  _, record = _live('hope', tmp_path)
  batches = [
    here.stream.experiences[day].batch(step)
    for day in range(2)
    for step in range(4)
  ]
  read = sum(int((batch.segments_BT >= 0).sum()) for batch in batches)
  assert record['cost']['tokens_read'] == read < 8 * 8 * 14
  assert record['cost']['steps'] == 8


def test_a_night_spends_what_it_writes_and_learns(unbroken):
  spent = unbroken.record['cost']
  assert spent['steps'] == 8 + 6 * 4
  assert spent['tokens_generated'] > 0
  assert spent['added_parameters'] == 2 * (2 * 16 * testing.RANK + 16 + 1)
