"""A night: one expert learns, all else stands still, all of it or nothing.

Most of it is shown on the middle one of three levels: it has experts of its own
to give away, a day behind it, and a receiver that already holds one.
"""

import dataclasses
import functools
import math
import re
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax import state as state_lib
from sleep_jax.model import transformer
from sleep_jax.objectives import losses
from sleep_jax.optim import optimizer
from sleep_jax.runs import loop
from sleep_jax.schedule import events
from sleep_jax.sleep import (
  consolidation,
  imitation,
  priorities,
  settings_checks,
)
from sleep_jax.sleep import settings as settings_lib
from tests import testing

PERIODS = ((1, 2), (2, 4))
IMITATION = dict(
  alpha=0.5, gamma=0.5, threshold=0.5, cuts=1, completions=4, judge='match',
  stop_likelihood=1.0, stop_repetition=0.5,
)  # fmt: skip
BASE = 'blocks/levels/{}/base'
BANK = 'blocks/levels/{}/experts/'
WAKE = optax.sgd(0.5, momentum=0.9)
PRETRAIN = [[1, 3], [1, 4], [1, 5]]
YESTERDAY, TODAY = [[1, 10], [1, 11]], [[1, 20, 21], [1, 22], [1, 23]]
TEACHERS = (
  dict(teacher='anchor', prompts='old', sequences=12, draws=16, bos_share=0.3),
  dict(teacher='next', prompts='day', sequences=12, draws=16),
)


# As in a large model: less to compile.
_tiny = functools.partial(testing.tiny, *PERIODS, looped=True)


def _settings(**changes):
  settings = testing.config(*PERIODS).consolidate.to_dict() | dict(
    teachers=TEACHERS, num_updates=60, updates_per_round=20, on_policy=0.5,
    on_policy_after=0.34, max_length=8, prompt_width=4, priority=1.0,
  )  # fmt: skip
  return settings_checks.make_settings(**(settings | changes))


def _consolidation(
  sender=2, tx=None, model=None, judge=testing.judge, **changes
):
  return consolidation.Consolidation(
    model or _tiny(),
    tx or optimizer.make(learning_rate=1e-2, clip=1.0, weight_decay=0.1),
    testing.templates(), testing.BOS, testing.EOS, judge, _settings(**changes),
    sender, WAKE if sender else None,
  )  # fmt: skip


def _age_group(rows, steps, capacity=8):
  prompts = testing.prompts(rows + [[]] * (capacity - len(rows)), width=4)
  return state_lib.AgeGroup(
    tokens_CP=prompts.tokens_BP, length_C=prompts.length_B,
    subject_C2=prompts.subject_B2,
    step_C=jnp.asarray(steps + [0] * (capacity - len(rows)), jnp.int32),
    count=jnp.int32(len(rows)),
  )  # fmt: skip


def _evening(seed=0, model=None):
  """Step 8: level 2 last woke at 4, and has learned and received since."""
  model = model or _tiny()
  random = np.random.default_rng(seed)
  weights = testing.activate(testing.weights(model, seed), 2, 0, 1)
  weights = testing.activate(weights, 3, 0)
  noise = lambda tree, size: jax.tree.map(
    lambda x: jnp.asarray(
      np.asarray(x) + (size * random.normal(size=x.shape)).astype(x.dtype)
    ),
    tree,
  )
  own = {
    n: optimizer.owned(weights.params, (n,), num_levels=3) for n in ('1', '2')
  }
  return state_lib.State(
    step=jnp.int32(8), key=jax.random.key(seed), weights=weights,
    sums={n: noise(jax.tree.map(np.zeros_like, own[n]), 0.2) for n in own},
    opt={n: noise(WAKE.init(own[n]), 0.1) for n in own},
    anchor={n: noise(own[n], 0.3) for n in own},
    average={n: noise(own[n], 0.2) for n in own},
    woke_N=jnp.array([0, 6, 4]), guard_N=jnp.array([0.9, 0.7, 0.8]),
    replay={
      'corpus': _age_group(PRETRAIN, [0] * 3),
      'past': _age_group(YESTERDAY + TODAY, [2, 4, 5, 6, 8]),
      'day/1': _age_group(TODAY[2:], [8]),
      'day/2': _age_group(TODAY, [5, 6, 8]),
    },
  )  # fmt: skip


@functools.cache
def _forward():
  return jax.jit(_tiny().forward)


def _ask(weights, tokens=None):
  tokens = testing.batch().tokens_BT if tokens is None else tokens
  length_B = jnp.full((tokens.shape[0],), tokens.shape[1])
  return np.asarray(_forward()(weights, *transformer.rows(tokens, length_B)))


@functools.cache
def _programs(sender=2, **changes):
  night = _consolidation(sender, **changes)
  return night, *(
    jax.jit(x) for x in (night.fall_asleep, night.seed, night.wake_up)
  )


@functools.cache
def _night(seed=0):
  """State in the evening, asleep, and after each of three rounds."""
  _, fall_asleep, seed_, _ = _programs()
  states, metrics = [_evening(seed), fall_asleep(_evening(seed))], []
  for _ in range(3):
    state, row = seed_(states[-1])
    states.append(state)
    metrics.append(row)
  return states, metrics


def _morning(accept):
  states, _ = _night()
  return _programs()[3](states[-1], jnp.asarray(accept), jnp.float32(0.6))


def _off(weights, level):
  return weights.replace(active_NE=weights.active_NE.at[level - 1].set(0))


def test_the_due_update_is_computed_and_not_applied():
  evening, asleep = _night()[0][:2]
  base = optimizer.owned(evening.weights.params, ('2',), num_levels=3)
  expected, opt = optimizer.update(
    WAKE, base, evening.opt['2'], evening.sums['2']
  )
  assert len(base) == 4
  for path, leaf in expected.items():
    np.testing.assert_allclose(
      asleep.night.sender_next[path], leaf, rtol=1e-5, atol=1e-6
    )
    assert np.abs(leaf - base[path]).max() > 0.01
  for here, there in zip(
    jax.tree.leaves(asleep.night.opt_next), jax.tree.leaves(opt), strict=True
  ):
    np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
  assert testing.same(asleep.replace(night=None), evening)


@pytest.mark.parametrize('after', ['cleared', 'updated'])
def test_at_first_the_student_is_the_model_without_the_senders_experts(after):
  asleep = _night()[0][1]
  student = _consolidation(sender_after_sleep=after).student(asleep)
  base = asleep.anchor['2'] if after == 'cleared' else asleep.night.sender_next
  plain = _off(asleep.weights.with_params(base), 2)
  np.testing.assert_allclose(_ask(student), _ask(plain), rtol=1e-5, atol=1e-5)
  assert np.abs(_ask(student) - _ask(asleep.weights)).max() > 0.1


def test_nothing_but_the_fresh_expert_changes_while_it_is_seeded():
  states, _ = _night()
  rest = lambda s: s.replace(
    night=s.night.replace(
      update=0 * s.night.update,
      fresh={},
      opt=(),
      pools={},
      rollouts={},
      priorities={},
    )
  )
  for before, after in zip(states[1:-1], states[2:], strict=True):
    assert testing.same(rest(before), rest(after))
    fresh = (before.night.fresh['3'], after.night.fresh['3'])
    assert testing.changed(*fresh) == {'A', 'B', 'router', 'bias'}
  assert [int(s.night.update) for s in states[1:]] == [0, 20, 40, 60]


def test_teachers_say_the_same_before_and_after():
  night, states = _consolidation(), _night()[0]
  morning = _morning(True)
  for name in settings_lib.TEACHERS:
    before, after = (
      _ask(night.teacher(state, name)) for state in (states[1], states[-1])
    )
    np.testing.assert_array_equal(before, after)
  # The anchor's knowledge of itself outlives the night that used it.
  np.testing.assert_array_equal(
    _ask(night.teacher(states[1], 'anchor')),
    _ask(_off(states[0].weights.with_params(morning.anchor['2']), 2)),
  )


def test_teachers_differ_in_the_sender_alone():
  night, asleep = _consolidation(), _night()[0][1]
  made = {name: night.teacher(asleep, name) for name in settings_lib.TEACHERS}
  own = set(asleep.anchor['2'])
  for name, bank_on in (('anchor', False), ('next', True), ('now', True)):
    weights = made[name]
    assert testing.changed(asleep.weights.params, weights.params) == (
      own if name != 'now' else set()
    )
    on = np.array(asleep.weights.active_NE)
    on[1] *= bank_on
    np.testing.assert_array_equal(weights.active_NE, on)
    assert weights.fresh is None
  assert testing.same(
    {p: made['anchor'].params[p] for p in own}, asleep.anchor['2']
  )
  assert testing.same(
    {p: made['next'].params[p] for p in own}, asleep.night.sender_next
  )


def test_each_teacher_writes_on_its_own_prompts_round_by_round():
  states, metrics = _night()
  old = {(1,), *map(tuple, PRETRAIN + YESTERDAY)}
  for name, known in (('anchor_old', old), ('next_day', {*map(tuple, TODAY)})):
    pools = [state.night.pools[name] for state in states[1:]]
    for number, pool in enumerate(pools):
      length = np.asarray(pool.prompt_length_B)
      assert ((length > 0) == (np.arange(48) < 16 * number)).all()
      assert (np.asarray(pool.length_B) >= length).all()
      if number:  # What earlier rounds wrote stays.
        rows = slice(0, 16 * (number - 1))
        before, after = (
          jax.tree.map(lambda x, r=rows: x[r], p)
          for p in (pools[number - 1], pool)
        )
        assert testing.same(before, after)
    asked = {
      tuple(row[:n].tolist())
      for row, n in zip(np.asarray(pool.tokens_BT), length, strict=True)
    }
    assert asked == known
  written = sum(
    int(np.sum(pool.length_B - pool.prompt_length_B))
    for pool in states[2].night.pools.values()
  )
  assert int(metrics[0]['written']) == written


def test_what_is_kept_of_a_teachers_reading_is_what_it_reads():
  """Also of what the student wrote; before and after an update alike."""
  night, last = _consolidation(), _night()[0][-1]
  read = jax.jit(night.states)
  for teacher in night.settings.teachers:
    weights = night.teacher(last, teacher.teacher)
    for written in (last.night.pools, last.night.rollouts):
      kept = written[teacher.name]
      mask_BG = np.asarray(losses.generated_mask(kept, night.settings.max_new))
      assert mask_BG.any(1).all()
      found = read(weights, kept.replace(states_BGD=None))
      np.testing.assert_allclose(
        np.asarray(kept.states_BGD)[mask_BG], np.asarray(found)[mask_BG],
        rtol=1e-4, atol=1e-4,
      )  # fmt: skip


def test_the_student_writes_only_later_in_the_night():
  states, metrics = _night()
  rollouts = [state.night.rollouts['next_day'] for state in states[2:]]
  assert not np.asarray(rollouts[0].length_B).any()
  assert not np.asarray(rollouts[1].length_B).any()
  assert np.asarray(rollouts[2].length_B).all()  # 40 of 60 is past 0.34.
  assert int(metrics[2]['written']) > 1.5 * int(metrics[1]['written'])


def test_whose_words_they_are_shows_in_who_expected_them():
  """Sequences are likeliest to the one who wrote them."""
  night, (*_, before, last) = _consolidation(), _night()[0]
  student, teacher = night.student(before), night.teacher(last, 'next')

  def surprise(weights, rollout):
    logits = jnp.asarray(_ask(weights, rollout.tokens_BT))
    score_BT = losses.log_likelihood(logits, rollout.tokens_BT)
    return -float(np.mean(np.asarray(score_BT)[_written(rollout)]))

  by_student = last.night.rollouts['next_day']
  by_teacher = jax.tree.map(lambda x: x[32:], last.night.pools['next_day'])
  for own, other, tokenizer in (
    (student, teacher, by_student),
    (teacher, student, by_teacher),
  ):
    assert surprise(own, tokenizer) < surprise(other, tokenizer) - 0.05


def _written(rollout):
  """Where [B, T - 1] the next token was generated."""
  target = np.arange(1, rollout.tokens_BT.shape[1])[None]
  start, stop = rollout.prompt_length_B[:, None], rollout.length_B[:, None]
  return np.asarray((target >= start) & (target < stop))


def _divergence(teacher, student, rollout):
  p, q = (_ask(w, rollout.tokens_BT)[:, :-1] for w in (teacher, student))
  value_BT = losses.divergence(jnp.asarray(p), jnp.asarray(q), beta=0.0)
  return float(np.mean(np.asarray(value_BT)[_written(rollout)]))


def test_the_larger_self_comes_closer_than_the_old_one_could():
  """Mean over seeds, on sequences of the last round; the day is learned."""
  night, gains = _consolidation(), []
  for seed in range(3):
    asleep, last = _night(seed)[0][1], _night(seed)[0][-1]
    before = after = 0.0
    for name in ('anchor', 'next'):
      pool = last.night.pools[{'anchor': 'anchor_old'}.get(name, 'next_day')]
      rows = jax.tree.map(lambda x: x[32:], pool)
      teacher = night.teacher(last, name)
      before += _divergence(teacher, night.student(asleep), rows)
      after += _divergence(teacher, night.student(last), rows)
    gains.append(1 - after / before)
  assert np.mean(gains) > 0.2
  loss = [float(x) for row in _night()[1] for x in row['loss']]
  assert np.mean(loss[15:20]) < 0.8 * loss[0]


def test_a_divergence_is_reported_for_each_teacher():
  """At the first update the anchor is the student: nothing to be learned."""
  first = {name: float(x[0]) for name, x in _night()[1][0].items()
           if name != 'written'}  # fmt: skip
  assert set(first) == {'loss', 'anchor_old', 'next_day'}
  assert abs(first['anchor_old']) < 1e-5
  assert first['next_day'] > 0.01
  assert 0 < first['loss'] < first['next_day']


def test_a_committed_night_adds_one_expert_and_empties_the_sender():
  states, _ = _night()
  evening, seeded, morning = states[0], states[-1], _morning(True)
  before, after = evening.weights, morning.weights
  np.testing.assert_array_equal(
    after.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )
  # One slot more; the others of that bank as they were, bit for bit.
  for name, leaf in seeded.night.fresh['3'].items():
    path = BANK.format(3) + name
    np.testing.assert_array_equal(after.params[path][:, 1], leaf)
    np.testing.assert_array_equal(
      np.delete(after.params[path], 1, 1), np.delete(before.params[path], 1, 1)
    )
  assert testing.changed(before.params, after.params) == {
    p for p in before.params
    if BASE.format(2) in p or 'levels/2/experts' in p or 'levels/3/experts' in p
  }  # fmt: skip
  own = {p: after.params[p] for p in evening.anchor['2']}
  assert testing.same(own, evening.anchor['2'])
  assert testing.same(morning.anchor, evening.anchor)
  assert testing.same(morning.opt, evening.opt | {'2': WAKE.init(own)})
  assert not any(np.asarray(x).any() for x in morning.sums['2'].values())
  assert testing.same(morning.sums['1'], evening.sums['1'])
  np.testing.assert_array_equal(morning.woke_N, [0, 6, 8])
  np.testing.assert_allclose(morning.guard_N, [0.9, 0.7, 0.6])
  assert int(morning.replay['day/2'].count) == 0
  for name in ('corpus', 'past', 'day/1'):
    assert testing.same(morning.replay[name], evening.replay[name])
  assert morning.night is None
  assert int(morning.step) == 8


def test_what_wakes_up_is_the_student():
  states, _ = _night()
  student = _consolidation().student(states[-1])
  np.testing.assert_allclose(
    _ask(_morning(True).weights), _ask(student), rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('router', ['sigmoid', 'softmax'])
def test_what_the_guard_judges_is_what_would_wake_up(router):
  """Under softmax the commit changes gates: the student is not enough."""
  model = _tiny(router=router)
  night = _consolidation(model=model)
  state = jax.jit(night.fall_asleep)(_evening(model=model))
  fresh = jax.tree.map(lambda x: x + 0.3, state.night.fresh)
  state = state.replace(night=state.night.replace(fresh=fresh))
  judged = jax.jit(night.committed)(state)
  morning = jax.jit(night.wake_up)(state, jnp.asarray(True), jnp.float32(0.6))
  assert testing.same(judged, morning.weights)
  tokens = testing.batch().tokens_BT
  rows = transformer.rows(tokens, jnp.full((len(tokens),), tokens.shape[1]))
  forward = testing.forward(model)
  off = np.abs(
    forward(judged, *rows) - forward(night.student(state), *rows)
  ).max()
  assert (off > 0.1) == (router == 'softmax')


def test_a_reset_bank_is_as_new():
  bank = {
    path.rsplit('/', 1)[1]: np.asarray(leaf)
    for path, leaf in _morning(True).weights.params.items()
    if BANK.format(2) in path
  }
  assert not bank['B'].any()
  assert not bank['bias'].any()
  used = _evening().weights.params
  for name in ('A', 'router'):
    rows = bank[name].reshape(testing.LAYERS * testing.SLOTS, -1)
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert (bank[name] != np.asarray(used[BANK.format(2) + name])).all()
  assert np.std(bank['A']) == pytest.approx(testing.WIDTH**-0.5, rel=0.2)


def test_a_discarded_night_applies_the_due_update_and_nothing_else():
  states, _ = _night()
  evening, asleep = states[:2]
  morning = _morning(False)
  expected = evening.replace(
    weights=evening.weights.with_params(asleep.night.sender_next),
    opt=evening.opt | {'2': asleep.night.opt_next},
    sums=evening.sums | {'2': jax.tree.map(jnp.zeros_like, evening.sums['2'])},
  )
  assert testing.same(morning, expected)


def test_every_night_begins_anew():
  """A new expert, new draws, and moments that know of no other night."""
  _, fall_asleep, _, _ = _programs()
  first = fall_asleep(_evening()).night
  again = fall_asleep(_evening()).night
  later = fall_asleep(_morning(True).replace(step=jnp.int32(12))).night
  assert testing.same(first, again)
  assert testing.same(first.opt, later.opt)
  assert not any(np.asarray(x).any() for x in jax.tree.leaves(later.opt))
  assert not np.asarray(later.fresh['3']['B']).any()
  A = (first.fresh['3']['A'], later.fresh['3']['A'])
  assert (np.asarray(A[0]) != np.asarray(A[1])).all()
  assert int(later.update) == 0


def test_a_literal_night_leaves_the_sender_updated():
  """v2 to the letter: base at next, its optimizer goes on, anchor moves."""
  night = _consolidation(sender_after_sleep='updated')
  asleep = _night()[0][1]
  morning = jax.jit(night.wake_up)(asleep, jnp.asarray(True), jnp.float32(0.6))
  own = {p: morning.weights.params[p] for p in asleep.anchor['2']}
  assert testing.same(own, asleep.night.sender_next)
  assert testing.same(morning.anchor['2'], asleep.night.sender_next)
  assert testing.same(morning.opt['2'], asleep.night.opt_next)
  np.testing.assert_array_equal(
    morning.weights.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )


def test_levels_that_sleep_together_go_fastest_first_with_fresh_teachers():
  """What level 1 hands to level 2, level 2 can hand on the same night."""
  evening = _evening()
  _, fall_asleep, _, wake_up = _programs(1)
  _, fall_asleep_2, _, wake_up_2 = _programs()
  yes, model = jnp.asarray(True), _tiny()
  learned = testing.expert(model, 2)
  asleep = fall_asleep(evening)
  asleep = asleep.replace(night=asleep.night.replace(fresh=learned))
  between = wake_up(asleep, yes, jnp.float32(0.5))
  np.testing.assert_array_equal(
    between.weights.active_NE, [[0] * 4, [1, 1, 1, 0], [1, 0, 0, 0]]
  )
  # The second sender's due update waited, untouched by the first night.
  assert testing.same(between.sums['2'], evening.sums['2'])
  second = fall_asleep_2(between)
  assert testing.same(
    second.night.sender_next, fall_asleep_2(evening).night.sender_next
  )
  teacher = _programs()[0].teacher(second, 'next')
  for name, leaf in learned['2'].items():
    np.testing.assert_array_equal(
      teacher.params[BANK.format(2) + name][:, 2], leaf
    )
  assert float(teacher.active_NE[1, 2]) == 1
  # Each night draws its own expert.
  first = np.asarray(fall_asleep(evening).night.fresh['2']['A'])
  assert (first != np.asarray(second.night.fresh['3']['A'])).all()
  morning = wake_up_2(second, yes, jnp.float32(0.4))
  np.testing.assert_array_equal(
    morning.weights.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )
  np.testing.assert_array_equal(morning.woke_N, [0, 8, 8])
  np.testing.assert_allclose(morning.guard_N, [0.9, 0.5, 0.4])
  base = {p: morning.weights.params[p] for p in evening.anchor['1']}
  assert testing.same(base, evening.anchor['1'])


class _Judge:
  """An examiner whose guard scores are known beforehand."""

  def __init__(self, *scores):
    self._scores, self.asked = iter(scores), []

  def evaluate(self, weights, experience):
    del weights, experience
    return {'scores': {}}

  def second_scores(self, weights):
    del weights
    return {}

  expert_gates = second_scores

  def guard_accuracy(self, weights, experience):
    del experience
    self.asked.append(jax.device_get(weights))
    return next(self._scores)


@functools.cache
def _short_life():
  return testing.life(
    testing.short_config(), testing.placement(data=1, fsdp=1, tensor=1)
  )


@pytest.mark.parametrize(
  ('after', 'tolerance', 'accepted'),
  [
    (0.88, 0.05, True),  # Harm 0.02.
    (0.80, 0.05, False),  # Harm 0.10.
    (0.95, 0.0, True),  # The old got better.
    (0.10, None, True),  # Nobody on guard.
  ],
)
def test_a_night_that_harms_the_old_is_discarded_and_said(
  after, tolerance, accepted
):
  """Compared with the last waking, here the newborn's score of 0.9."""
  programs, _ = _short_life()
  judge, quiet = _Judge(0.9, after), mock.MagicMock()
  quiet.checkpoints.latest_progress.return_value = None
  quiet.stop.return_value = False
  days = types.SimpleNamespace(
    experiences=[types.SimpleNamespace(batch=testing.batch)],
    tokenizer=types.SimpleNamespace(decode=lambda ids: ''),
  )
  initial_model, key = testing.initial_model(programs.model), jax.random.key(0)
  plan = events.make_events(programs.model.config.levels, num_experiences=1, steps=2)
  with jax.set_mesh(programs.placement.mesh):
    life = loop.Run(
      programs,
      days,
      initial_model,
      judge,
      quiet,
      plan=plan,
      key=key,
      guard_tolerance=tolerance,
      save_seconds=1e9,
      num_samples=1,
    )
    state, record = life.run()
    awake = programs.begin(initial_model, key)
    for step in range(2):
      awake, _ = programs.wake(awake, testing.batch(step), ())
  (night,), (entry,) = record['nights'], record['ledger']
  assert night['accepted'] == accepted
  assert entry['event'] == ('activated' if accepted else 'discarded')
  assert ('fell from 0.900 to 0.800' in night['reason']) != accepted
  assert float(state.weights.active_NE[1].sum()) == accepted
  if not accepted:  # As if it had never slept.
    for path, leaf in awake.weights.params.items():
      np.testing.assert_allclose(
        state.weights.params[path], leaf, atol=1e-6, err_msg=path
      )
    assert not np.asarray(state.woke_N).any()
  if tolerance is not None:
    # Asked of the larger self, and remembered only if that wakes up.
    assert judge.asked[-1].active_NE[1].sum() == 1  # What would wake up.
    kept = float(state.guard_N[1])
    assert kept == pytest.approx(after if accepted else 0.9)


@functools.cache
def _short():
  """One update by plain, clipped steps on one sequence of a literal teacher."""
  model = _tiny()
  night = _consolidation(
    model=model, on_policy=0.0, num_updates=2,
    tx=optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0)),
    updates_per_round=1, sender_after_sleep='updated', max_new=8,
    teachers=[dict(teacher='now', prompts='old', sequences=3, draws=1)],
  )  # fmt: skip
  asleep = jax.jit(night.fall_asleep)(_evening())
  return night, asleep, *jax.jit(night.seed)(asleep)


def test_clipping_measures_the_fresh_expert_alone():
  _, asleep, after, _ = _short()
  step = jax.tree.map(np.subtract, asleep.night.fresh, after.night.fresh)
  norm = math.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(step)))
  assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_loss_is_the_mean_divergence_of_what_was_written():
  """All rows are the one sequence there is: its value is the batch's."""
  night, asleep, after, metrics = _short()
  pool = jax.tree.map(lambda x: x[:1], after.night.pools['now_old'])
  assert 1 <= int(pool.length_B[0] - pool.prompt_length_B[0]) < 8  # Room left.
  expected = _divergence(
    night.teacher(asleep, 'now'), night.student(asleep), pool
  )
  assert expected > 1e-2
  assert float(metrics['loss'][0]) == pytest.approx(expected, rel=1e-4)
  assert float(metrics['now_old'][0]) == pytest.approx(expected, rel=1e-4)


def test_a_night_without_any_memory_rehearses_from_the_beginning():
  night = _consolidation()
  asleep = _evening().replace(replay={})
  asleep = jax.eval_shape(night.fall_asleep, asleep)
  after, _ = jax.eval_shape(night.seed, asleep)
  assert after.replay == {}


@pytest.mark.parametrize('sender', [1, 2])
def test_a_program_gives_back_what_it_takes(sender):
  """Else the next call compiles a second program of the same meaning."""
  night = _consolidation(sender)
  evening = jax.eval_shape(lambda state: state, _evening())
  flag, score = jnp.asarray(True), jnp.float32(0)
  asleep = jax.eval_shape(night.fall_asleep, evening)
  seeded, _ = jax.eval_shape(night.seed, asleep)
  morning = jax.eval_shape(night.wake_up, seeded, flag, score)
  for before, after in ((asleep, seeded), (evening, morning)):
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, x), y in zip(
      jax.tree_util.tree_leaves_with_path(before),
      jax.tree.leaves(after),
      strict=True,
    ):
      here, there = ((z.shape, z.dtype, z.weak_type) for z in (x, y))
      assert here == there, jax.tree_util.keystr(path)


LIKED = 9


def _likes(wanted, said):
  """A judge with a taste: is the first thing said the liked word?"""
  liked_B = (said.tokens_BS[:, 0] == LIKED) & (said.length_B > 0)
  return liked_B.astype(jnp.float32), {}


@functools.cache
def _imitating():
  """The student after each round, rewarded by taste alone; what it earned."""
  night = _consolidation(
    judge=_likes,
    imitation=IMITATION | dict(alpha=0.0, gamma=1.0, cuts=2, completions=8),
    updates_per_round=8, num_updates=64,
    teachers=[t | dict(draws=24) for t in TEACHERS],
    tx=optimizer.make(learning_rate=0.05),
  )  # fmt: skip
  state, seed, rows = (
    jax.jit(night.fall_asleep)(_evening()),
    jax.jit(night.seed),
    [],
  )
  states = [state]
  for _ in range(night.settings.rounds):
    state, metrics = seed(state)
    states.append(state)
    rows.append(metrics)
  return night, states, rows


def test_what_is_rewarded_is_said_more_often():
  _, _, rows = _imitating()
  earned = [float(row['imitation']['reward']) for row in rows]
  assert earned[0] < 0.2
  assert earned[-1] > earned[0] + 0.3
  assert [float(row['imitation']['meaning']) for row in rows] == earned


def test_rewards_move_the_fresh_expert_alone():
  _, states, _ = _imitating()
  rest = lambda s: s.replace(night=None)
  assert testing.same(rest(states[0]), rest(states[-1]))
  fresh = (states[0].night.fresh['3'], states[-1].night.fresh['3'])
  assert testing.changed(*fresh) == {'A', 'B', 'router', 'bias'}


def test_the_gradient_of_what_is_earned_is_that_of_the_expected_reward():
  """Against odds that are counted out, for endings of one token."""
  night, states, _ = _imitating()
  state = states[1]
  rows = jax.tree.map(lambda x: x[:1], state.night.pools['anchor_old'])
  start = rows.prompt_length_B
  vocab = night.model.config.vocab_size
  liked_V = jnp.asarray(np.random.default_rng(0).normal(size=vocab), 'f4')

  def read(fresh, rows):
    student = night.student(
      state.replace(night=state.night.replace(fresh=fresh))
    )
    return night.model.logits(student, night.states(student, rows))

  def odds(fresh):
    return jax.nn.softmax(read(fresh, rows)[0, 0])

  def counted(fresh):
    return jnp.sum(odds(fresh) * liked_V)

  # Every ending once, weighted by its odds: the sample that misses nothing.
  everyone = jax.tree.map(lambda x: jnp.repeat(x, vocab, 0), rows)
  everyone = everyone.replace(
    tokens_BT=everyone.tokens_BT.at[:, start[0]].set(jnp.arange(vocab)),
    length_B=everyone.prompt_length_B + 1,
  )
  weight_V = vocab * jax.jit(odds)(state.night.fresh) * liked_V

  def earned(fresh):
    return imitation.reinforce_objective(
      read(fresh, everyone), everyone, weight_V, temperature=1.0
    )

  expected = jax.jit(jax.grad(counted))(state.night.fresh)
  found = jax.jit(jax.grad(earned))(state.night.fresh)
  for here, there in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
  assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-4


@functools.cache
def _endings():
  """Of a first round: the state, and what is made of its pools."""
  night, states, _ = _imitating()
  state = states[1].replace(night=states[1].night.replace(update=jnp.int32(0)))
  return state, jax.jit(night._imitate)(
    state, state.night.pools, jax.random.key(0)
  )


def test_an_ending_begins_inside_what_the_teacher_wrote():
  night, _, _ = _imitating()
  _, ((own, advantage), earned) = _endings()
  assert own.tokens_BT.shape[:2] == advantage.shape == (8, 2 * 2 * 8)
  assert (own.prompt_length_B >= 1).all()
  assert (own.length_B > own.prompt_length_B).all()
  assert 0 < float(earned['length_wanted']) <= night.settings.max_new


def test_what_is_said_of_endings_is_what_a_reader_finds():
  """Entropy of the student, and the teachers' likelihood of its words."""
  night, _, _ = _imitating()
  state, ((own, _), earned) = _endings()
  half = own.tokens_BT.shape[1] // 2  # Of each update, by teacher.
  sums = {'entropy': 0.0, 'likelihood': 0.0}
  for number, teacher in enumerate(('anchor', 'next')):
    rows = jax.tree.map(
      lambda x, n=number: x[:, n * half : (n + 1) * half].reshape(
        -1, *x.shape[2:]
      ),
      own,
    )
    log = {
      who: np.asarray(jax.nn.log_softmax(_logits(weights, rows)))[:, :-1]
      for who, weights in (
        ('student', night.student(state)),
        ('teacher', night.teacher(state, teacher)),
      )
    }
    place = np.arange(1, rows.tokens_BT.shape[1])[None]
    inside = (place >= rows.prompt_length_B[:, None]) & (
      place < rows.length_B[:, None]
    )
    entropy = -(np.exp(log['student']) * log['student']).sum(-1)
    said = np.asarray(rows.tokens_BT)[:, 1:, None]
    score = np.take_along_axis(log['teacher'], said, -1)[..., 0]
    sums['entropy'] += entropy[inside].mean() / 2
    sums['likelihood'] += score[inside].mean() / 2
  for name, expected in sums.items():
    assert float(earned[name]) == pytest.approx(expected, rel=1e-4)


def _logits(weights, rows):
  model = _tiny()
  return model.forward(
    weights, *transformer.rows(rows.tokens_BT, rows.length_B)
  )


@pytest.mark.parametrize(
  ('now', 'said'),
  [
    (dict(likelihood=-2.4), ''),
    (dict(likelihood=-2.6), '-2.6 nats per token, -1.5 .*stop_likelihood 1.0'),
    (dict(likelihood=math.nan), 'nan nats'),
    (dict(repetition=0.7), ''),
    (dict(repetition=0.8), 'repeat 0.80 .* 0.25: more .*stop_repetition 0.5'),
  ],
)
def test_a_night_whose_endings_come_apart_is_to_end(now, said):
  first = dict(likelihood=-1.5, repetition=0.2, repetition_wanted=0.25)
  found = imitation.detect_collapse(first, first | now, _settings().imitation)
  assert bool(found) == bool(said)
  assert re.search(said, found)


def test_without_imitation_nothing_is_earned():
  assert 'imitation' not in _night()[1][0]


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    (dict(teachers=[]), 'teachers is empty'),
    (dict(teachers=[TEACHERS[0] | {'teacher': 'me'}]), "'me'.*'anchor'"),
    (dict(teachers=[TEACHERS[0] | {'prompts': 'new'}]), "'new'.*'day'"),
    (dict(teachers=[TEACHERS[0]] * 2), 'lists .* once'),
    (dict(teachers=[TEACHERS[0] | {'draws': 0}]), 'draws is 0: expected 1 or'),
    (
      dict(teachers=[TEACHERS[0] | {'cut_share': 1.5}]),
      'cut_share is 1.5: expected 0 to 1',
    ),
    (dict(num_updates=50), '50 is not a multiple .* 20'),
    (dict(sender_after_sleep='gone'), "'gone'.*'cleared', 'updated'"),
    (dict(on_policy=1.0), 'on_policy is 1.0'),
    (dict(beta=-0.1), 'beta is -0.1: expected 0'),
    (dict(beta=1.5), 'beta is 1.5: expected 0'),
    (dict(block_vocab=0), 'block_vocab is 0: expected 1'),
    (dict(into='base', full='merge'), 'without experts no bank fills'),
    (dict(priority=-1.0), 'priority is -1.0: expected 0'),
    (dict(into='brain'), "into is 'brain': expected one of .'expert', 'base'"),
    (dict(full='burst'), "full is 'burst': expected one of .'error', 'merge'"),
    (dict(average_decay=1.0), 'average_decay is 1.0: expected between'),
    (dict(imitation=IMITATION | {'alpha': 1.1}), 'alpha is 1.1: expected 0'),
    (
      dict(imitation=IMITATION | {'stop_likelihood': -1.0}),
      'stop_likelihood is -1.0: expected 0 or more',
    ),
    (dict(imitation=IMITATION | {'gamma': -1}), 'gamma is -1: expected 0'),
    (dict(imitation=IMITATION | {'completions': 1}), 'completions is 1'),
    (dict(imitation=IMITATION | {'cuts': 9}), 'makes 180 .* of 16'),
  ],
)
def test_settings_of_a_night_that_cannot_be_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    _settings(**changes)


def test_settings_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    _settings().beta = 1.0


def test_a_place_is_drawn_as_often_as_it_weighs():
  weight = jnp.array([1.0, 0.0, 3.0, 4.0, 99.0, 99.0])
  draw = jax.jit(functools.partial(priorities.sample_indices, num=8))
  counts = np.zeros(6)
  for seed in range(50):
    found = np.asarray(draw(weight, 4, jax.random.key(seed)))
    counts += np.bincount(found, minlength=6)
  # Spread out evenly: a whole share is met to within one each time.
  np.testing.assert_allclose(counts / 50, [1, 0, 3, 4, 0, 0], atol=0.3)
  even = np.asarray(draw(weight**0, 4, jax.random.key(0)))
  assert np.bincount(even).tolist() == [2, 2, 2, 2]


def test_what_was_read_is_worth_how_far_the_student_was_from_it():
  after = _night()[0][2]  # One round.
  for teacher in _settings().teachers:
    known = np.asarray(after.night.priorities[teacher.name])
    written, unwritten = known[: teacher.draws], known[teacher.draws :]
    assert (unwritten == 1).all()
    assert (written > -1e-6).all() and (written != 1).mean() > 0.5


def test_what_is_new_comes_first():
  """As far as the farthest so far; in the first round all are alike."""
  night = _consolidation(priority=1.0, on_policy=0.0)
  state = jax.jit(night.fall_asleep)(_evening())
  known = {
    t.name: jnp.ones((night.settings.rounds * t.draws,))
    .at[: t.draws]
    .set(jnp.linspace(0.1, 0.3, t.draws))
    for t in night.settings.teachers
  }
  for update, expected in ((0, 1.0), (night.settings.updates_per_round, 0.3)):
    asleep = state.night.replace(update=jnp.int32(update), priorities=known)
    welcomed = priorities.with_new_rollouts(asleep, night.settings)
    for teacher in night.settings.teachers:
      n = teacher.draws
      start = n * (update // night.settings.updates_per_round)
      new = np.asarray(welcomed[teacher.name])
      np.testing.assert_allclose(new[start : start + n], expected)
      before = np.asarray(known[teacher.name])[:start]
      np.testing.assert_array_equal(new[:start], before)


def test_rows_that_the_student_wrote_tell_nothing_of_the_teachers_rows():
  night = _night()[0][-1].night  # In whose last round the student wrote.
  rows, places = priorities.choose_rows(
    night.pools, night.rollouts, night.priorities, jax.random.key(1),
    _settings(), valid=jnp.int32(1), own=jnp.asarray(True),
  )  # fmt: skip
  for teacher in _settings().teachers:
    place_B = np.asarray(places[teacher.name])
    half = round(teacher.sequences * 0.5)
    size = len(night.priorities[teacher.name])
    assert (place_B[:half] == size).all() and (place_B[half:] < size).all()
    theirs = night.pools[teacher.name].tokens_BT[place_B[half:]]
    np.testing.assert_array_equal(rows[teacher.name].tokens_BT[half:], theirs)
