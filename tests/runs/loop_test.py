"""An interrupted run ends with the same bits as an uninterrupted one."""

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
from sleep_jax.sleep import imitation
from sleep_jax.storage import checkpoints
from tests import testing, tiny_study

# Level 1 sleeps after steps 2, 4, 6, 8 and level 2 after steps 4 and 8.
DEEP = [(1, 2), (2, 4)]


@functools.cache
def _tiny_study():
  return tiny_study.TinyStudy(tiny_study.config(*DEEP, prompts=('old', 'day')))


def _run(name, folder, **options):
  """Runs a strategy with a guard that by default vetoes no night."""
  return _tiny_study().run(name, folder, **({'tolerance': 1.0} | options))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('runs')


@dataclasses.dataclass(frozen=True)
class _FinishedRun:
  """The result of a run.

  Attributes:
    state: at the end.
    record: of the run.
    rows: of its metrics.
    num_stop_checks: how often it asked whether to stop.
    compilations: for each compilation, how many evaluations had begun.
  """

  state: state_lib.State
  record: dict
  rows: list
  num_stop_checks: int = 0
  compilations: tuple[int, ...] = ()


@pytest.fixture(scope='module')
def uninterrupted(folder):
  """Returns the run that interrupted runs are compared with."""
  study = _tiny_study().make_initial_model(folder / 'pretrain')
  stop_checks, num_evaluations, compilations = itertools.count(), [0], []

  def record_compilation(name, seconds, **_):
    if name == '/jax/core/compile/backend_compile_duration':
      compilations.append(num_evaluations[0])

  class CountingEvaluator:
    def __getattr__(self, name):
      if name == 'evaluate':
        num_evaluations[0] += 1
      return getattr(study.evaluator, name)

  monitoring.register_event_duration_secs_listener(record_compilation)
  try:
    state, record = _run(
      'sleep', folder / 'uninterrupted', evaluator=CountingEvaluator(),
      stop=lambda: next(stop_checks) < 0,
    )  # fmt: skip
  finally:
    monitoring.unregister_event_duration_listener(record_compilation)
  rows = tiny_study.metric_rows(folder / 'uninterrupted')
  return _FinishedRun(
    state, record, rows, next(stop_checks), tuple(compilations)
  )


def _stop_at_check(number):
  """Returns a `stop` function that returns True at its `number`-th call."""
  calls = itertools.count(1)
  return lambda: next(calls) == number


def _interrupted_run(name, folder, stops):
  """Interrupts a run after each number of stop checks, then finishes it."""
  for number in stops:
    with pytest.raises(context.Interrupted):
      _run(name, folder, stop=_stop_at_check(number))
  return _FinishedRun(*_run(name, folder), tiny_study.metric_rows(folder))


def _assert_same_run(one, other):
  assert testing.same(one.state, other.state)
  assert tiny_study.without_times(one.record) == tiny_study.without_times(
    other.record
  )
  assert one.rows == other.rows


def test_a_run_interrupted_at_every_check_ends_as_an_uninterrupted_one(
  uninterrupted, tmp_path
):
  """After each wake step, each round of a night, each night and each cycle."""
  # 8 steps; 6 nights, each of 2 rounds and its end; 4 cycles.
  assert uninterrupted.num_stop_checks == 8 + 6 * 3 + 4
  run = _interrupted_run('sleep', tmp_path, [1] * uninterrupted.num_stop_checks)
  _assert_same_run(uninterrupted, run)


# In the middle of a night; in the middle of two days.
@pytest.mark.parametrize('stops', [[4], [7, 9]])
def test_a_run_interrupted_once_or_twice_ends_as_an_uninterrupted_one(
  uninterrupted, tmp_path, stops
):
  _assert_same_run(uninterrupted, _interrupted_run('sleep', tmp_path, stops))


class _FailingEvaluator:
  """An evaluator whose `number`-th evaluation raises."""

  sizes = {}

  def __init__(self, evaluator, number):
    self._evaluator, self._number = evaluator, number
    self._calls = itertools.count(1)

  def evaluate(self, *args):
    if next(self._calls) == self._number:
      raise RuntimeError('power cut')
    return self._evaluator.evaluate(*args)

  def __getattr__(self, name):
    return getattr(self._evaluator, name)


@pytest.mark.parametrize('number', [2, 3])  # First evening, first morning.
def test_a_run_that_crashes_repeats_what_was_not_saved(
  uninterrupted, tmp_path, number
):
  with pytest.raises(RuntimeError, match='power cut'):
    evaluator = _FailingEvaluator(_tiny_study().evaluator, number)
    _run('sleep', tmp_path, evaluator=evaluator, save_seconds=0)
  assert len(tiny_study.metric_rows(tmp_path)) < len(uninterrupted.rows)
  again = _FinishedRun(
    *_run('sleep', tmp_path), tiny_study.metric_rows(tmp_path)
  )
  _assert_same_run(uninterrupted, again)


def test_a_checkpoint_inside_a_night_does_not_change_while_it_is_written(
  uninterrupted, tmp_path, monkeypatch
):
  """The record of the night grows meanwhile.

  The types in the state are not weak: a weak type would be restored as a strong
  one, and the run that continues would compile its programs again.
  """
  saved, save = [], checkpoints.Checkpoints.save_moment

  def record_save(self, state, progress):
    assert not any(jax.typeof(x).weak_type for x in jax.tree.leaves(state))
    if state.night is not None:
      saved.append((progress, int(state.night.update)))
    save(self, state, progress)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save_moment', record_save)
  _run('sleep', tmp_path, save_seconds=0)
  assert len(saved) == 12
  for progress, update in saved:
    assert progress['nights'][-1]['divergence'][-1]['update'] == update


def test_an_interrupted_pretraining_ends_as_an_uninterrupted_one(
  uninterrupted, folder, tmp_path
):
  initial_model = _tiny_study().initial_model
  study = tiny_study.TinyStudy(tiny_study.config(*DEEP))
  with pytest.raises(context.Interrupted):
    study.run('pretrain', tmp_path, stop=_stop_at_check(2))
  again, _ = study.run('pretrain', tmp_path)
  assert testing.same(initial_model.weights, again.weights)
  assert testing.same(initial_model.replay, again.replay)
  rows = tiny_study.metric_rows(folder / 'pretrain')
  assert rows == tiny_study.metric_rows(tmp_path)


def test_the_buffer_of_stored_rows_is_saved_and_restored(
  uninterrupted, tmp_path
):
  whole = _interrupted_run('er', tmp_path / 'whole', [])
  parts = _interrupted_run('er', tmp_path / 'parts', [3, 3])
  _assert_same_run(whole, parts)


def test_nothing_is_compiled_after_every_level_has_slept_once(uninterrupted):
  """JAX counts, including eager operations, the guard and saving.

  Evaluation 1 is of the initial model; 2 and 3 are the evening and morning of
  cycle 1, after which level 1 sleeps; 4 and 5 those of cycle 2, after which
  both levels sleep; 9 is the last.
  """
  assert {1, 2, 4} <= set(uninterrupted.compilations)
  assert max(uninterrupted.compilations) == 4
  assert len(uninterrupted.record['evaluations']) == 9


class _NoScores:
  """An evaluator that scores nothing and so compiles nothing."""

  sizes = {}

  def evaluate(self, weights, experience):
    return {'scores': {}, 'template_scores': {}}

  def second_scores(self, weights):
    return {}

  expert_gates = second_scores


def _run_on_mesh(mesh, folder):
  """Returns the initial model, final state and record of a run on a mesh."""
  config = tiny_study.config((1, 'experience'))
  study = tiny_study.TinyStudy(config, mesh)
  study.make_initial_model(folder / f'pretrain_{mesh}')
  return study.initial_model, *study.run(
    'sleep', folder / f'{mesh}', evaluator=_NoScores()
  )


def test_a_sharded_run_equals_a_run_on_one_device(tmp_path):
  single, single_state, single_record = _run_on_mesh((1, 1, 1), tmp_path)
  initial_model, state, record = _run_on_mesh((2, 2, 2), tmp_path)
  _assert_close(initial_model.weights, single.weights)
  _assert_close(state.weights, single_state.weights)
  replay = jax.device_get((state.replay, single_state.replay))
  assert testing.same(*replay)
  nights = zip(record['nights'], single_record['nights'], strict=True)
  for one, other in nights:
    for a, b in zip(one['divergence'], other['divergence'], strict=True):
      assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
  embed = state.weights.params['embed']
  assert len(embed.addressable_shards) == 8
  assert 2 * embed.addressable_shards[0].data.shape[1] == embed.shape[1]


def _assert_close(one, other):
  """Asserts that weights are close.

  The tolerance allows for gradients near 0, whose rounding errors Adam scales
  to full steps.
  """
  for path, leaf in other.params.items():
    np.testing.assert_allclose(
      one.params[path], leaf, rtol=1e-3, atol=1e-4, err_msg=path
    )
  np.testing.assert_array_equal(one.active_NE, other.active_NE)


def test_levels_due_together_sleep_in_order_with_their_own_teachers(
  uninterrupted,
):
  state, record = uninterrupted.state, uninterrupted.record
  nights = record['nights']
  order = [(night['step'], night['sender']) for night in nights]
  assert order == [(2, 1), (4, 1), (4, 2), (6, 1), (8, 1), (8, 2)]
  # The bank of level 2 holds what level 1 sent since level 2 slept last.
  assert [night['slot'] for night in nights] == [0, 1, 0, 0, 1, 1]
  reset = [
    (e['night'], e['slot']) for e in record['ledger'] if e['event'] == 'reset'
  ]
  assert reset == [(3, 0), (3, 1), (6, 0), (6, 1)]
  np.testing.assert_array_equal(
    np.asarray(state.weights.active_NE)[:, :3],
    [[0, 0, 0], [0, 0, 0], [1, 1, 0]],
  )
  assert np.asarray(state.woke_N).tolist() == [0, 8, 8]
  kinds = [row['kind'] for row in uninterrupted.rows]
  assert kinds.count('night') == 6 and kinds.count('night_round') == 12


class _ScriptedGuard:
  """An evaluator that returns given guard accuracies."""

  def __init__(self, evaluator, *accuracies):
    self._evaluator, self._accuracies = evaluator, iter(accuracies)

  def guard_accuracy(self, weights):
    return next(self._accuracies)

  def __getattr__(self, name):
    return getattr(self._evaluator, name)


def test_a_harmful_night_is_discarded_and_the_next_consolidates_both_days(
  uninterrupted, tmp_path
):
  study = _tiny_study()
  run = functools.partial(_run, 'sleep', tmp_path, tolerance=0.1)
  progress = tiny_study.RecordingProgress()
  # Of the initial model, and after night 1.
  evaluator = _ScriptedGuard(study.evaluator, 0.9, 0.5)
  with pytest.raises(context.Interrupted):
    # The checks of two steps, of two rounds, and at the end of night 1.
    run(evaluator=evaluator, progress=progress, stop=_stop_at_check(2 + 2 + 1))
  saved = checkpoints.Checkpoints(
    str(tmp_path / 'checkpoints'), config={'name': 'sleep'}
  )
  shapes = study.programs('sleep').abstract(study.initial_model)
  discarded = saved.restore(*saved.latest_progress()[:2], shapes)
  saved.close()
  evaluator = _ScriptedGuard(study.evaluator, 0.88, *[1.0] * 5)
  state, record = run(evaluator=evaluator)

  first, second = record['nights'][:2]
  assert (first['accepted'], second['accepted']) == (False, True)
  assert first['guard'] == pytest.approx({'before': 0.9, 'after': 0.5})
  # Compared with the last accepted night; here, with the initial model.
  assert second['guard'] == pytest.approx({'before': 0.9, 'after': 0.88})
  assert 'fell from 0.900 to 0.500' in first['reason']
  assert any('night 1 discarded: guard' in text for text in progress.messages)
  history = [(e['event'], e['slot']) for e in record['ledger'][:2]]
  assert history == [('discarded', 0), ('activated', 0)]
  rows = [r for r in tiny_study.metric_rows(tmp_path) if r['kind'] == 'night']
  assert [row['accepted'] for row in rows] == [False] + [True] * 5

  initial = study.initial_model.weights.params
  own = {p for p in initial if p.startswith('blocks/levels/1/base')}
  changed = testing.changed(initial, discarded.weights.params)
  # Level 1 keeps its updates of the day, and nothing of the night is kept.
  # Level 2 was updated awake.
  assert {path for path in changed if '/levels/2/' not in path} == own
  assert not np.asarray(discarded.weights.active_NE).any()
  assert testing.same(discarded.anchor['1'], {p: initial[p] for p in own})
  assert float(discarded.guard_N[1]) == pytest.approx(0.9)
  # The prompts of the day stay for the next night.
  assert int(discarded.woke_N[1]) == 0
  assert int(discarded.replay['day/1'].count) == 2 * 8
  assert int(state.replay['day/1'].count) == 0
  assert int(state.woke_N[1]) == 8


def test_a_night_that_collapses_ends_at_once_and_is_discarded(
  tmp_path, monkeypatch
):
  """Also if the run is interrupted in between."""
  c = tiny_study.config()
  c.consolidate.imitation.alpha = 0.5
  study = tiny_study.TinyStudy(c).make_initial_model(tmp_path / 'pretrain')
  reasons = iter(['collapse: by the test'])
  monkeypatch.setattr(
    imitation, 'detect_collapse', lambda first, now, settings: next(reasons, '')
  )
  run = functools.partial(study.run, 'sleep', tmp_path / 'run')
  with pytest.raises(context.Interrupted):
    run(stop=_stop_at_check(4 + 1))  # After the first round.
  state, record = run()
  first, second = record['nights']
  assert first['accepted'] is False
  assert first['reason'] == 'collapse: by the test'
  assert (second['accepted'], second['reason']) == (True, '')
  ends = [[row['update'] for row in n['imitation']] for n in (first, second)]
  assert ends == [[2], [2, 4]]
  assert 0 <= first['imitation'][0]['reward'] <= 1
  assert first['imitation'][0]['likelihood'] < 0
  assert float(state.weights.active_NE[1].sum()) == 1
  assert [e['event'] for e in record['ledger']] == ['discarded', 'activated']


def test_the_time_of_evaluations_is_not_part_of_the_cost(
  uninterrupted, tmp_path, monkeypatch
):
  study = _tiny_study()
  measuring, calls = [False], []

  class WatchedCost(cost.Cost):
    @contextlib.contextmanager
    def measure_time(self):
      with super().measure_time():
        measuring[0] = True
        yield self
        measuring[0] = False

  class WatchedEvaluator:
    def __getattr__(self, name):
      calls.append((name, measuring[0]))
      return getattr(study.evaluator, name)

  program = study.programs('sleep')
  wake = program.wake
  monkeypatch.setattr(cost, 'Cost', WatchedCost)
  monkeypatch.setattr(
    program, 'wake', lambda *a: calls.append(('wake', measuring[0])) or wake(*a)
  )
  _run('sleep', tmp_path, evaluator=WatchedEvaluator())
  assert {measured for name, measured in calls if name == 'wake'} == {True}
  evaluations = [
    measured
    for name, measured in calls
    if name in ('evaluate', 'guard_accuracy', 'second_scores')
  ]
  assert len(evaluations) == 9 + 7 + 2 and not any(evaluations)


def test_padding_does_not_count_as_tokens_read(uninterrupted, tmp_path):
  study = _tiny_study()
  _, record = _run('hope', tmp_path)
  batches = [
    study.stream.experiences[day].batch(step)
    for day in range(2)
    for step in range(4)
  ]
  read = sum(int((batch.segments_BT >= 0).sum()) for batch in batches)
  assert record['cost']['tokens_read'] == read < 8 * 8 * 14
  assert record['cost']['steps'] == 8


def test_the_cost_of_a_night_counts_its_tokens_updates_and_experts(
  uninterrupted,
):
  total = uninterrupted.record['cost']
  assert total['steps'] == 8 + 6 * 4
  assert total['tokens_generated'] > 0
  assert total['added_parameters'] == 2 * (2 * 16 * testing.RANK + 16 + 1)
