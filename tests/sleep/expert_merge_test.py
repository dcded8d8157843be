"""Two experts of a full bank are merged, and the run continues."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.runs import context
from sleep_jax.sleep import expert_merge, settings_checks
from tests import testing, tiny_study


@functools.cache
def _tiny_study():
  c = tiny_study.config(prompts=('old', 'day'))
  c.data.settings = dict(c.data.settings, num_days=3)
  waking, own = c.levels
  c.levels = (waking, own | dict(slots=2))
  c.consolidate.full = 'merge'
  return tiny_study.TinyStudy(c)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('merges')


@pytest.fixture(scope='module')
def whole(folder):
  runs, calls = (
    _tiny_study().make_initial_model(folder / 'pretrain'),
    itertools.count(),
  )
  state, record = runs.run(
    'sleep', folder / 'whole', stop=lambda: next(calls) < 0
  )
  return state, record, tiny_study.metric_rows(folder / 'whole'), next(calls)


def test_the_most_similar_pair_consists_of_two_active_slots():
  cosine = -jnp.ones((4, 4)) + 2 * jnp.eye(4)
  cosine = cosine.at[1, 3].set(0.5).at[3, 1].set(0.5).at[0, 1].set(0.4)
  assert expert_merge.most_similar_pair(cosine).tolist() == [1, 3]


def test_similarity_is_the_cosine_of_expert_outputs():
  night, state = _awake()
  bank = {
    name: f'blocks/levels/2/experts/{name}'
    for name in ('A', 'B', 'router', 'bias')
  }
  params = state.weights.params
  # The third expert is the negated first; the second is unrelated.
  twin = {
    path: params[path].at[:, 2].set((-1 if name == 'B' else 1)
                                    * params[path][:, 0])
    for name, path in bank.items()
  }  # fmt: skip
  state = state.replace(weights=state.weights.with_params(twin))
  cosine = np.asarray(jax.jit(night.similarity)(state, _text()))
  np.testing.assert_allclose(cosine[0, 2], -1, atol=1e-5)
  np.testing.assert_allclose(np.diag(cosine)[:3], 1, atol=1e-5)
  assert abs(cosine[0, 1]) < 0.9
  assert (cosine[3] == -1).all() and (cosine[:, 3] == -1).all()


def test_the_teacher_has_both_experts_and_the_student_neither():
  night, state = _awake()
  asleep = _asleep()
  pair = asleep.night.pair_2.tolist()
  teacher, student = night.teacher(asleep, ''), night.student(asleep)
  assert teacher.active_NE[1].tolist() == [1, 1, 1, 0]
  others = [slot for slot in range(3) if slot not in pair]
  assert np.flatnonzero(student.active_NE[1]).tolist() == others
  # The sender is at its anchor, without the updates of the day.
  anchor = state.anchor['1']
  for weights in (teacher, student):
    assert testing.same({p: weights.params[p] for p in anchor}, anchor)
  assert testing.same(asleep.replace(night=None), state)


def test_a_merge_changes_only_two_slots():
  night, state = _awake()
  seeded, first = _seeded(night, _asleep())
  woken = jax.jit(night.wake_up)(seeded)
  slot, free = seeded.night.pair_2.tolist()
  assert woken.night is None
  assert float(woken.weights.active_NE[1, slot]) == 1
  assert float(woken.weights.active_NE[1, free]) == 0
  assert woken.weights.active_NE.sum() == 2
  for path, leaf in state.weights.params.items():
    found = np.asarray(woken.weights.params[path])
    if 'levels/2/experts' not in path:
      np.testing.assert_array_equal(found, leaf)
      continue
    rest = [e for e in range(4) if e not in (slot, free)]
    np.testing.assert_array_equal(found[:, rest], np.asarray(leaf)[:, rest])
    name = path.rsplit('/', 1)[-1]
    fresh = seeded.night.fresh['2'][name]
    np.testing.assert_array_equal(found[:, slot], fresh)
    if name == 'B':
      assert not found[:, free].any()
  rest = dataclasses.replace(state, weights=woken.weights, night=None)
  assert testing.same(woken, rest)
  assert float(first) > 0


def test_seeding_reduces_the_divergence_of_a_merge():
  night, _ = _awake()
  seeded, first = _seeded(night, _asleep())
  for _ in range(40):
    seeded = seeded.replace(night=seeded.night.replace(update=jnp.int32(0)))
    seeded, last = _seeded(night, seeded)
  assert float(last) < 0.5 * float(first)


def test_a_merge_without_a_teacher_on_old_prompts_is_refused():
  settings = testing.config().consolidate.to_dict()
  settings['teachers'] = settings['teachers'][1:]
  with pytest.raises(ValueError, match="which it rehearses.*'error'"):
    expert_merge.merge_settings(settings_checks.make_settings(**settings))


def test_a_full_bank_is_merged_before_the_night_that_needs_a_slot(whole):
  state, record, rows, _ = whole
  phases = ['consolidate', 'consolidate', 'merge', 'consolidate']
  assert [n['phase'] for n in record['nights']] == phases
  assert [n['night'] for n in record['nights']] == [1, 2, 3, 4]
  merged = record['nights'][2]
  assert sorted(merged['merged']) == [0, 1]
  assert merged['sender'] == merged['receiver'] == 2
  assert set(merged['known']) == {'before', 'after'}
  events = [(e['night'], e['level'], e['event']) for e in record['ledger']]
  assert events == [
    (1, 2, 'activated'), (2, 2, 'activated'), (3, 2, 'merged'),
    (3, 2, 'reset'), (4, 2, 'activated'),
  ]  # fmt: skip
  assert np.asarray(state.weights.active_NE)[1].tolist() == [1, 1]
  assert [r['phase'] for r in rows if r['kind'] == 'night'] == phases


def test_a_run_interrupted_inside_a_merge_ends_as_an_unbroken_one(
  whole, tmp_path
):
  state, record, rows, num_calls = whole
  # One call per wake step (3 days of 4), 4 (2 rounds, waking, cycle) for each
  # of nights 1 and 2, and 6 for the merge and the night after it. The first
  # stop is inside the merge, when half of its rounds are done.
  assert num_calls == 3 * 4 + 4 * 2 + 3 + 3
  for stop in (12 + 2 * 4 + 1, 1):
    calls = itertools.count(1)
    with pytest.raises(context.Interrupted):
      _tiny_study().run(
        'sleep', tmp_path, stop=lambda i=calls, s=stop: next(i) == s
      )
  other, found = _tiny_study().run('sleep', tmp_path)
  assert testing.same(state, other)
  assert tiny_study.without_times(record) == tiny_study.without_times(found)
  assert rows == tiny_study.metric_rows(tmp_path)


@functools.cache
def _awake():
  """Returns a merge and a state with three active experts of level 2."""
  c = testing.config(full='merge')
  c.expert_optimizer = dict(learning_rate=1e-2, decay_steps=10_000)
  programs, state = testing.make_run(
    c, testing.placement(data=1, fsdp=1, tensor=1)
  )
  night = programs._merges[1]
  weights = testing.activate(state.weights, 2, 0, 1, 2)
  moved = {p: x + 0.3 for p, x in state.anchor['1'].items()}
  return night, state.replace(weights=weights.with_params(moved))


@functools.cache
def _asleep():
  night, state = _awake()
  return jax.jit(night.fall_asleep)(state)


def _text():
  tokens = testing.batch().tokens_BT
  rows = tokens.shape[0]
  return types.Rollout(
    tokens, jnp.ones((rows,), jnp.int32), jnp.full((rows,), tokens.shape[1])
  )


@functools.cache
def _program():
  return jax.jit(_awake()[0].seed)


def _seeded(night, state):
  """Runs all rounds; returns the divergence at the start of the last."""
  for _ in range(night.settings.rounds):
    state, metrics = _program()(state)
  return state, metrics['loss'][0]
