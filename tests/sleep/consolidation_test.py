"""A night trains one expert, leaves all else alone, and commits atomically.

Most tests use the middle one of three levels as sender, see `nights`.
"""

import functools
import math
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax import types as types_lib
from sleep_jax.objectives import losses
from sleep_jax.optim import optimizer
from sleep_jax.runs import context, loop
from sleep_jax.schedule import events
from sleep_jax.sleep import priorities
from sleep_jax.sleep import settings as settings_lib
from tests import testing
from tests.sleep import nights

BASE = 'blocks/levels/{}/base'
BANK = 'blocks/levels/{}/experts/'


@functools.cache
def _forward():
  return jax.jit(nights.tiny().forward)


def _compute_logits(weights, tokens=None):
  tokens = testing.batch().tokens_BT if tokens is None else tokens
  length_B = jnp.full((tokens.shape[0],), tokens.shape[1])
  return np.asarray(
    _forward()(weights, *types_lib.model_inputs(tokens, length_B))
  )


@functools.cache
def _programs(sender=2, **changes):
  night = nights.make_consolidation(sender, **changes)
  return night, *(
    jax.jit(x) for x in (night.fall_asleep, night.seed, night.wake_up)
  )


@functools.cache
def _night(seed=0):
  """Returns the states before the night and after each program; metrics."""
  _, fall_asleep, seed_, _ = _programs()
  states = [nights.awake_state(seed), fall_asleep(nights.awake_state(seed))]
  metrics = []
  for _ in range(3):
    state, row = seed_(states[-1])
    states.append(state)
    metrics.append(row)
  return states, metrics


def _woken(accept):
  states, _ = _night()
  return _programs()[3](states[-1], jnp.asarray(accept), jnp.float32(0.6))


def _without_experts(weights, level):
  return weights.replace(active_NE=weights.active_NE.at[level - 1].set(0))


def test_the_due_update_is_computed_and_not_applied():
  awake, asleep = _night()[0][:2]
  base = optimizer.select_owned(awake.weights.params, ('2',), num_levels=3)
  expected, opt = optimizer.update(
    nights.WAKE_TX, base, awake.opt['2'], awake.sums['2']
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
  assert testing.same(asleep.replace(night=None), awake)


@pytest.mark.parametrize('after', ['cleared', 'updated'])
def test_the_student_starts_as_the_model_without_the_senders_experts(after):
  asleep = _night()[0][1]
  student = nights.make_consolidation(sender_after_sleep=after).student(asleep)
  base = asleep.anchor['2'] if after == 'cleared' else asleep.night.sender_next
  plain = _without_experts(asleep.weights.with_params(base), 2)
  np.testing.assert_allclose(
    _compute_logits(student), _compute_logits(plain), rtol=1e-5, atol=1e-5
  )
  assert (
    np.abs(_compute_logits(student) - _compute_logits(asleep.weights)).max()
    > 0.1
  )


def test_seeding_changes_only_the_fresh_expert():
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


def test_teachers_do_not_change_during_the_night():
  night, states = nights.make_consolidation(), _night()[0]
  woken = _woken(True)
  for name in settings_lib.TEACHERS:
    before, after = (
      _compute_logits(night.teacher(state, name))
      for state in (states[1], states[-1])
    )
    np.testing.assert_array_equal(before, after)
  # The anchor stays the same after a committed night.
  np.testing.assert_array_equal(
    _compute_logits(night.teacher(states[1], 'anchor')),
    _compute_logits(
      _without_experts(states[0].weights.with_params(woken.anchor['2']), 2)
    ),
  )


def test_teachers_differ_only_in_the_sender():
  night, asleep = nights.make_consolidation(), _night()[0][1]
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


def test_each_round_adds_sequences_on_the_teachers_own_prompts():
  states, metrics = _night()
  old = {(1,), *map(tuple, nights.PRETRAIN + nights.YESTERDAY)}
  for name, expected in (
    ('anchor_old', old),
    ('next_day', {*map(tuple, nights.TODAY)}),
  ):
    pools = [state.night.pools[name] for state in states[1:]]
    for number, pool in enumerate(pools):
      length = np.asarray(pool.prompt_length_B)
      assert ((length > 0) == (np.arange(48) < 16 * number)).all()
      assert (np.asarray(pool.length_B) >= length).all()
      if number:  # Sequences of earlier rounds stay.
        rows = slice(0, 16 * (number - 1))
        before, after = (
          jax.tree.map(lambda x, r=rows: x[r], p)
          for p in (pools[number - 1], pool)
        )
        assert testing.same(before, after)
    prompts = {
      tuple(row[:n].tolist())
      for row, n in zip(np.asarray(pool.tokens_BT), length, strict=True)
    }
    assert prompts == expected
  written = sum(
    int(np.sum(pool.length_B - pool.prompt_length_B))
    for pool in states[2].night.pools.values()
  )
  assert int(metrics[0]['written']) == written


def test_stored_teacher_states_equal_recomputed_ones():
  """For sequences of teachers and of the student, before and after updates."""
  night, last = nights.make_consolidation(), _night()[0][-1]
  compute = jax.jit(night.states)
  for teacher in night.settings.teachers:
    weights = night.teacher(last, teacher.teacher)
    for written in (last.night.pools, last.night.rollouts):
      kept = written[teacher.name]
      mask_BG = np.asarray(losses.generated_mask(kept, night.settings.max_new))
      assert mask_BG.any(1).all()
      found = compute(weights, kept.replace(states_BGD=None))
      np.testing.assert_allclose(
        np.asarray(kept.states_BGD)[mask_BG], np.asarray(found)[mask_BG],
        rtol=1e-4, atol=1e-4,
      )  # fmt: skip


def test_the_student_writes_after_on_policy_after():
  states, metrics = _night()
  rollouts = [state.night.rollouts['next_day'] for state in states[2:]]
  assert not np.asarray(rollouts[0].length_B).any()
  assert not np.asarray(rollouts[1].length_B).any()
  assert np.asarray(rollouts[2].length_B).all()  # 40 of 60 is past 0.34.
  assert int(metrics[2]['written']) > 1.5 * int(metrics[1]['written'])


def test_sequences_are_most_likely_under_the_model_that_wrote_them():
  night, (*_, before, last) = nights.make_consolidation(), _night()[0]
  student, teacher = night.student(before), night.teacher(last, 'next')

  def mean_loss(weights, rollout):
    logits = jnp.asarray(_compute_logits(weights, rollout.tokens_BT))
    score_BT = losses.log_likelihood(logits, rollout.tokens_BT)
    return -float(np.mean(np.asarray(score_BT)[_generated_mask(rollout)]))

  by_student = last.night.rollouts['next_day']
  by_teacher = jax.tree.map(lambda x: x[32:], last.night.pools['next_day'])
  for own, other, rollout in (
    (student, teacher, by_student),
    (teacher, student, by_teacher),
  ):
    assert mean_loss(own, rollout) < mean_loss(other, rollout) - 0.05


def _generated_mask(rollout):
  """Returns whether the next token was generated, `[B, T - 1]`."""
  target = np.arange(1, rollout.tokens_BT.shape[1])[None]
  start, stop = rollout.prompt_length_B[:, None], rollout.length_B[:, None]
  return np.asarray((target >= start) & (target < stop))


def _divergence(teacher, student, rollout):
  p, q = (
    _compute_logits(w, rollout.tokens_BT)[:, :-1] for w in (teacher, student)
  )
  value_BT = losses.divergence(jnp.asarray(p), jnp.asarray(q), beta=0.0)
  return float(np.mean(np.asarray(value_BT)[_generated_mask(rollout)]))


def test_the_night_reduces_the_divergence_from_the_teachers():
  """As a mean over seeds, on sequences of the last round."""
  night, gains = nights.make_consolidation(), []
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
  # Rows are drawn by their divergence, so one seed may get harder ones.
  losses_SU = np.array(
    [[x for row in _night(seed)[1] for x in row['loss']] for seed in range(3)]
  )
  assert losses_SU[:, -5:].mean() < 0.8 * losses_SU[:, 0].mean()


def test_the_divergence_from_each_teacher_is_reported():
  """At the first update the student equals the anchor: divergence 0."""
  first = {name: float(x[0]) for name, x in _night()[1][0].items()
           if name not in ('written', 'forward')}  # fmt: skip
  assert set(first) == {'loss', 'anchor_old', 'next_day'}
  assert abs(first['anchor_old']) < 1e-5
  assert first['next_day'] > 0.01
  assert 0 < first['loss'] < first['next_day']


def test_a_committed_night_adds_one_expert_and_resets_the_sender():
  states, _ = _night()
  awake, seeded, woken = states[0], states[-1], _woken(True)
  before, after = awake.weights, woken.weights
  np.testing.assert_array_equal(
    after.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )
  # One slot changes; the others of that bank are bit-identical.
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
  base = {p: after.params[p] for p in awake.anchor['2']}
  assert testing.same(base, awake.anchor['2'])
  assert testing.same(woken.anchor, awake.anchor)
  assert testing.same(woken.opt, awake.opt | {'2': nights.WAKE_TX.init(base)})
  assert not any(np.asarray(x).any() for x in woken.sums['2'].values())
  assert testing.same(woken.sums['1'], awake.sums['1'])
  np.testing.assert_array_equal(woken.woke_N, [0, 6, 8])
  np.testing.assert_allclose(woken.guard_N, [0.9, 0.7, 0.6])
  assert int(woken.replay['day/2'].count) == 0
  for name in ('corpus', 'past', 'day/1'):
    assert testing.same(woken.replay[name], awake.replay[name])
  assert woken.night is None
  assert int(woken.step) == 8


def test_the_committed_model_is_the_student():
  states, _ = _night()
  student = nights.make_consolidation().student(states[-1])
  np.testing.assert_allclose(
    _compute_logits(_woken(True).weights),
    _compute_logits(student),
    rtol=1e-5,
    atol=1e-5,
  )


@pytest.mark.parametrize('router', ['sigmoid', 'softmax'])
def test_the_guard_scores_the_model_that_would_be_committed(router):
  """With softmax the commit changes gates, so it differs from the student."""
  model = nights.tiny(router=router)
  night = nights.make_consolidation(model=model)
  state = jax.jit(night.fall_asleep)(nights.awake_state(model=model))
  fresh = jax.tree.map(lambda x: x + 0.3, state.night.fresh)
  state = state.replace(night=state.night.replace(fresh=fresh))
  scored = jax.jit(night.committed)(state)
  woken = jax.jit(night.wake_up)(state, jnp.asarray(True), jnp.float32(0.6))
  assert testing.same(scored, woken.weights)
  tokens = testing.batch().tokens_BT
  rows = types_lib.model_inputs(
    tokens, jnp.full((len(tokens),), tokens.shape[1])
  )
  forward = testing.forward(model)
  difference = np.abs(
    forward(scored, *rows) - forward(night.student(state), *rows)
  ).max()
  assert (difference > 0.1) == (router == 'softmax')


def test_a_reset_bank_is_freshly_initialised():
  bank = {
    path.rsplit('/', 1)[1]: np.asarray(leaf)
    for path, leaf in _woken(True).weights.params.items()
    if BANK.format(2) in path
  }
  assert not bank['B'].any()
  assert not bank['bias'].any()
  used = nights.awake_state().weights.params
  for name in ('A', 'router'):
    rows = bank[name].reshape(testing.LAYERS * testing.SLOTS, -1)
    assert len({row.tobytes() for row in rows}) == len(rows)
    assert (bank[name] != np.asarray(used[BANK.format(2) + name])).all()
  assert np.std(bank['A']) == pytest.approx(testing.WIDTH**-0.5, rel=0.2)


def test_a_discarded_night_only_applies_the_due_update():
  states, _ = _night()
  awake, asleep = states[:2]
  woken = _woken(False)
  expected = awake.replace(
    weights=awake.weights.with_params(asleep.night.sender_next),
    opt=awake.opt | {'2': asleep.night.opt_next},
    sums=awake.sums | {'2': jax.tree.map(jnp.zeros_like, awake.sums['2'])},
  )
  assert testing.same(woken, expected)


def test_every_night_starts_with_a_new_expert_and_optimizer():
  _, fall_asleep, _, _ = _programs()
  first = fall_asleep(nights.awake_state()).night
  again = fall_asleep(nights.awake_state()).night
  later = fall_asleep(_woken(True).replace(step=jnp.int32(12))).night
  assert testing.same(first, again)
  assert testing.same(first.opt, later.opt)
  assert not any(np.asarray(x).any() for x in jax.tree.leaves(later.opt))
  assert not np.asarray(later.fresh['3']['B']).any()
  A = (first.fresh['3']['A'], later.fresh['3']['A'])
  assert (np.asarray(A[0]) != np.asarray(A[1])).all()
  assert int(later.update) == 0


def test_the_literal_protocol_leaves_the_sender_updated():
  """As in v2: base and anchor are `next`, and its optimizer state is kept."""
  night = nights.make_consolidation(sender_after_sleep='updated')
  asleep = _night()[0][1]
  woken = jax.jit(night.wake_up)(asleep, jnp.asarray(True), jnp.float32(0.6))
  own = {p: woken.weights.params[p] for p in asleep.anchor['2']}
  assert testing.same(own, asleep.night.sender_next)
  assert testing.same(woken.anchor['2'], asleep.night.sender_next)
  assert testing.same(woken.opt['2'], asleep.night.opt_next)
  np.testing.assert_array_equal(
    woken.weights.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )


def test_levels_that_sleep_at_one_step_do_so_one_after_the_other():
  """The teachers of level 2 include the expert just received from level 1."""
  awake = nights.awake_state()
  _, fall_asleep, _, wake_up = _programs(1)
  _, fall_asleep_2, _, wake_up_2 = _programs()
  yes, model = jnp.asarray(True), nights.tiny()
  learned = testing.expert(model, 2)
  asleep = fall_asleep(awake)
  asleep = asleep.replace(night=asleep.night.replace(fresh=learned))
  between = wake_up(asleep, yes, jnp.float32(0.5))
  np.testing.assert_array_equal(
    between.weights.active_NE, [[0] * 4, [1, 1, 1, 0], [1, 0, 0, 0]]
  )
  # The first night does not touch the second sender's due update.
  assert testing.same(between.sums['2'], awake.sums['2'])
  second = fall_asleep_2(between)
  assert testing.same(
    second.night.sender_next, fall_asleep_2(awake).night.sender_next
  )
  teacher = _programs()[0].teacher(second, 'next')
  for name, leaf in learned['2'].items():
    np.testing.assert_array_equal(
      teacher.params[BANK.format(2) + name][:, 2], leaf
    )
  assert float(teacher.active_NE[1, 2]) == 1
  # Each night initialises its own expert.
  first = np.asarray(fall_asleep(awake).night.fresh['2']['A'])
  assert (first != np.asarray(second.night.fresh['3']['A'])).all()
  woken = wake_up_2(second, yes, jnp.float32(0.4))
  np.testing.assert_array_equal(
    woken.weights.active_NE, [[0] * 4, [0] * 4, [1, 1, 0, 0]]
  )
  np.testing.assert_array_equal(woken.woke_N, [0, 8, 8])
  np.testing.assert_allclose(woken.guard_N, [0.9, 0.5, 0.4])
  base = {p: woken.weights.params[p] for p in awake.anchor['1']}
  assert testing.same(base, awake.anchor['1'])


class _Evaluator:
  """An evaluator with given guard scores."""

  sizes = {}

  def __init__(self, *scores):
    self._scores, self.scored = iter(scores), []

  def evaluate(self, weights, experience):
    del weights, experience
    return {'scores': {}}

  def second_scores(self, weights):
    del weights
    return {}

  expert_gates = second_scores

  def guard_accuracy(self, weights):
    self.scored.append(jax.device_get(weights))
    return next(self._scores)


@functools.cache
def _short_run():
  return testing.make_run(
    testing.short_config(), testing.placement(data=1, fsdp=1, tensor=1)
  )


@pytest.mark.parametrize(
  ('after', 'tolerance', 'accepted'),
  [
    (0.88, 0.05, True),  # Harm 0.02.
    (0.80, 0.05, False),  # Harm 0.10.
    (0.95, 0.0, True),  # The accuracy improves.
    (0.10, None, True),  # The guard is off.
  ],
)
def test_a_night_that_lowers_the_guard_score_is_discarded(
  after, tolerance, accepted
):
  """Compared with the last waking, here the initial model's score of 0.9."""
  programs, _ = _short_run()
  evaluator, tools = _Evaluator(0.9, after), mock.MagicMock()
  tools.checkpoints.latest_progress.return_value = None
  tools.stop.return_value = False
  days = types.SimpleNamespace(
    experiences=[types.SimpleNamespace(batch=testing.batch, name='day 1')],
    tokenizer=types.SimpleNamespace(decode=lambda ids: ''),
  )
  initial_model, key = testing.initial_model(programs.model), jax.random.key(0)
  plan = events.make_events(
    programs.model.config.levels, num_experiences=1, steps=2
  )
  with jax.set_mesh(programs.placement.mesh):
    run = loop.Run(
      context.RunContext(
        programs, days, initial_model, evaluator, tools, plan=plan, key=key,
        guard_tolerance=tolerance, save_seconds=1e9, num_samples=1,
        day_steps=[2], advice={},
      )
    )  # fmt: skip
    state, record = run.run()
    awake = programs.begin(initial_model, key)
    for step in range(2):
      awake, _ = programs.wake(awake, testing.batch(step), ())
  (night,), (entry,) = record['nights'], record['ledger']
  assert night['accepted'] == accepted
  assert entry['event'] == ('activated' if accepted else 'discarded')
  assert ('fell from 0.900 to 0.800' in night['reason']) != accepted
  assert float(state.weights.active_NE[1].sum()) == accepted
  if not accepted:  # As without the night.
    for path, leaf in awake.weights.params.items():
      np.testing.assert_allclose(
        state.weights.params[path], leaf, atol=1e-6, err_msg=path
      )
    assert not np.asarray(state.woke_N).any()
  if tolerance is not None:
    # The model to be committed is scored; its score is stored if accepted.
    assert evaluator.scored[-1].active_NE[1].sum() == 1
    stored = float(state.guard_N[1])
    assert stored == pytest.approx(after if accepted else 0.9)


@functools.cache
def _single_update():
  """Returns one update by clipped SGD on one sequence of the teacher `now`."""
  model = nights.tiny()
  night = nights.make_consolidation(
    model=model, on_policy=0.0, num_updates=2,
    tx=optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0)),
    updates_per_round=1, sender_after_sleep='updated', max_new=8,
    teachers=[dict(teacher='now', prompts='old', sequences=3, draws=1)],
  )  # fmt: skip
  asleep = jax.jit(night.fall_asleep)(nights.awake_state())
  return night, asleep, *jax.jit(night.seed)(asleep)


def test_clipping_uses_the_norm_of_the_fresh_expert_alone():
  _, asleep, after, _ = _single_update()
  step = jax.tree.map(np.subtract, asleep.night.fresh, after.night.fresh)
  norm = math.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(step)))
  assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_loss_is_the_mean_divergence_of_generated_tokens():
  """All rows are the same sequence, so its divergence is the loss."""
  night, asleep, after, metrics = _single_update()
  pool = jax.tree.map(lambda x: x[:1], after.night.pools['now_old'])
  assert (
    1 <= int(pool.length_B[0] - pool.prompt_length_B[0]) < 8
  )  # Less than max_new.
  expected = _divergence(
    night.teacher(asleep, 'now'), night.student(asleep), pool
  )
  assert expected > 1e-2
  assert float(metrics['loss'][0]) == pytest.approx(expected, rel=1e-4)
  assert float(metrics['now_old'][0]) == pytest.approx(expected, rel=1e-4)


def test_a_night_without_stored_prompts_rehearses_from_bos():
  night = nights.make_consolidation()
  asleep = nights.awake_state().replace(replay={})
  asleep = jax.eval_shape(night.fall_asleep, asleep)
  after, _ = jax.eval_shape(night.seed, asleep)
  assert after.replay == {}


@pytest.mark.parametrize('sender', [1, 2])
def test_programs_keep_shapes_types_and_structure(sender):
  """Otherwise the next call would compile a second program."""
  night = nights.make_consolidation(sender)
  awake = jax.eval_shape(lambda state: state, nights.awake_state())
  flag, score = jnp.asarray(True), jnp.float32(0)
  asleep = jax.eval_shape(night.fall_asleep, awake)
  seeded, _ = jax.eval_shape(night.seed, asleep)
  woken = jax.eval_shape(night.wake_up, seeded, flag, score)
  for before, after in ((asleep, seeded), (awake, woken)):
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, x), y in zip(
      jax.tree_util.tree_leaves_with_path(before),
      jax.tree.leaves(after),
      strict=True,
    ):
      here, there = ((z.shape, z.dtype, z.weak_type) for z in (x, y))
      assert here == there, jax.tree_util.keystr(path)


def test_without_imitation_there_are_no_imitation_metrics():
  assert 'imitation' not in _night()[1][0]


def test_priorities_of_read_sequences_are_their_divergences():
  after = _night()[0][2]  # One round.
  for teacher in nights.make_settings().teachers:
    known = np.asarray(after.night.priorities[teacher.name])
    sampled, unused = known[: teacher.draws], known[teacher.draws :]
    assert (unused == 1).all()
    assert (sampled > -1e-6).all() and (sampled != 1).mean() > 0.5


def test_rows_of_the_student_do_not_update_the_teachers_priorities():
  night = _night()[0][-1].night  # The student wrote in its last round.
  rows, places = priorities.choose_rows(
    night.pools, night.rollouts, night.priorities, jax.random.key(1),
    nights.make_settings(), num_rounds=jnp.int32(1),
    on_policy=jnp.asarray(True),
  )  # fmt: skip
  for teacher in nights.make_settings().teachers:
    place_B = np.asarray(places[teacher.name])
    half = round(teacher.sequences * 0.5)
    size = len(night.priorities[teacher.name])
    assert (place_B[:half] == size).all() and (place_B[half:] < size).all()
    expected = night.pools[teacher.name].tokens_BT[place_B[half:]]
    np.testing.assert_array_equal(rows[teacher.name].tokens_BT[half:], expected)
