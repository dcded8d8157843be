"""Trials: what a dream is worth, alone, and at nobody's cost."""

import dataclasses
import functools
import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax import types
from sleep_jax.dream import importance as importance_lib
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings as settings_lib
from sleep_jax.dream import trials
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood
from tests import testing

M, K, SIZE = 4, 2, 5
TARGETS = ('query', 'gate', 'down')
TRIAL = settings_lib.Adapter(2, 4.0, TARGETS, 3, 2, 5e-2)


@functools.cache
def _model():
  model = testing.tiny()
  return model, testing.activate(testing.weights(model), 2, 0)


def _texts(num=M * K, seed=0):
  """Texts whose prompt is their first three tokens."""
  batch = testing.batch(seed, num)
  length_B = (batch.segments_BT > 0).sum(1)
  return types.Rollout(batch.tokens_BT, jnp.full((num,), 3), length_B)


VALID = jnp.array([[1.0, 1], [1, 0], [0, 0], [1, 1]])


def _settings(**changes):
  known = dict(
    on=True, order='after', rounds=1, start='base', candidates=M, texts=K,
    temperature=1.0, whole=True, novelty=False, importance='gradient', top=2,
    random=1, repeats=1, score='likelihood', margin=0.0, old=4,
    template_share=0.0, sequences=4, reading=0, num_updates=2,
    updates_per_round=1, learning_rate=1e-2,
  )  # fmt: skip
  adapter = dict(
    rank=2, alpha=4.0, targets=TARGETS, steps=3, batch=2, learning_rate=5e-2
  )
  return settings_lib.make(
    **{'trial': adapter, 'writer': adapter, **known, **changes}
  )


def _own(valid=VALID):
  return lessons_lib.from_texts(_texts(), valid)


@jax.jit
def _losses(weights):
  return importance_lib.dream_losses(_model()[0], weights, _own(), SIZE)


def test_a_dreams_loss_is_the_mean_over_the_tokens_of_its_valid_texts():
  model, weights = _model()
  texts = _texts()
  rows = (
    texts.tokens_BT,
    jnp.where(
      jnp.arange(testing.CONTEXT)[None] < texts.length_B[:, None], 1, -1
    ),
    jnp.broadcast_to(jnp.arange(testing.CONTEXT), texts.tokens_BT.shape),
  )
  log_BTV = jax.nn.log_softmax(model.forward(weights, *rows))
  found = np.asarray(_losses(weights))
  for dream in range(M):
    nats = [
      float(log_BTV[row, place - 1, int(texts.tokens_BT[row, place])])
      for text in range(K)
      if VALID[dream, text]
      for row in [dream * K + text]
      for place in range(3, min(int(texts.length_B[row]), 3 + SIZE))
    ]
    tokens = sum(
      int(texts.length_B[dream * K + text]) - 3
      for text in range(K)
      if VALID[dream, text]
    )
    wanted = -sum(nats) / tokens if tokens else 0.0
    np.testing.assert_allclose(found[dream], wanted, rtol=1e-4, atol=1e-6)


@functools.cache
def _gradients():
  """Of each dream's loss, and of the practice's, over what adapters target."""
  model, weights = _model()
  own = lora.target_matrices(weights.params, TARGETS)
  each = jax.jit(jax.jacrev(lambda own: _losses(weights.with_params(own))))(own)

  def missed(own):
    nats_B, _ = answer_likelihood.score_answers(
      model, weights.with_params(own), testing.probes()
    )
    return -jnp.mean(nats_B)

  return each, jax.jit(jax.grad(missed))(own)


@functools.cache
def _weigh(how, model):
  return jax.jit(functools.partial(
    importance_lib.importance, model, size=SIZE, how=how, targets=TARGETS
  ))  # fmt: skip


def _importance(how, lessons=None, model=None):
  return _weigh(how, model or _model()[0])(
    _model()[1], lessons or _own(), testing.probes(), jax.random.key(3)
  )


def test_importance_is_the_product_of_each_gradient_with_that_of_the_practice():
  each, wanted = _gradients()
  products = [
    float(sum(jnp.vdot(each[path][dream], wanted[path]) for path in wanted))
    for dream in range(M)
  ]
  found = np.asarray(_importance('gradient'))
  np.testing.assert_allclose(found, products, rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[[0, 1, 3]]).min() > 1e-4


def test_the_gradient_is_spread_as_the_matrices_are():
  """Whole on each device, it would be as large as the model."""
  model, weights = _model()
  place = testing.placement(data=1, fsdp=8, tensor=1)
  spread = dataclasses.replace(model, place=place.constrain)
  weigh = lambda weights: importance_lib.importance(
    spread, weights, _own(), testing.probes(), jax.random.key(0), size=SIZE,
    how='gradient', targets=TARGETS,
  )  # fmt: skip
  there = place.put(weights)
  made = jax.jit(weigh).lower(there).compile()
  L, D, F = weights.params['blocks/levels/1/base/mlp/gate'].shape
  assert f'[{L},{D // 8},{F}]' in made.as_text()
  assert f'[{L},{D},{F}]' not in made.as_text()
  np.testing.assert_allclose(made(there), _importance('gradient'), rtol=1e-4)


def test_questions_that_devices_do_not_divide_are_shared_out_too():
  """Else each device would be asked all of them."""
  model, weights = _model()
  place = testing.placement(data=1, fsdp=8, tensor=1)
  practice = testing.probes(num=11)
  spread = dataclasses.replace(model, place=place.constrain)
  weigh = lambda model, rows: jax.jit(lambda weights: importance_lib.importance(
    model, weights, _own(), practice, jax.random.key(0), size=SIZE,
    how='gradient', targets=TARGETS, rows=rows,
  ))  # fmt: skip
  there = place.put(weights)
  made = weigh(spread, 8).lower(there).compile()
  T, D = testing.PROMPT + 2, testing.WIDTH  # Answers have two tokens.
  assert f'[2,{T},{D}]' in made.as_text()
  assert f'[11,{T},{D}]' not in made.as_text()
  np.testing.assert_allclose(
    made(there), weigh(model, 1)(weights), rtol=1e-4, atol=1e-6
  )


def test_importance_is_the_same_by_any_kernel_of_attention():
  """Forward derivatives are not for all of them."""
  model, _ = _model()
  config = dataclasses.replace(model.config, attention='splash')
  other = dataclasses.replace(model, config=config)
  np.testing.assert_allclose(
    _importance('gradient', model=other), _importance('gradient'), atol=1e-4
  )


def test_importance_may_be_the_gradients_norm_or_chance():
  each, _ = _gradients()
  norms = [
    float(optax.tree.norm(jax.tree.map(lambda x, d=d: x[d], each)))
    for d in range(M)
  ]
  np.testing.assert_allclose(_importance('norm'), norms, rtol=1e-4, atol=1e-6)
  lots = np.asarray(_importance('random'))
  assert len(set(lots.tolist())) == M
  np.testing.assert_array_equal(lots, _importance('random'))


def test_the_most_important_are_tried_and_some_of_the_others():
  importance = jnp.array([0.1, 5.0, -1.0, 3.0, 2.0, 9.0])
  valid = jnp.array([True, True, True, True, True, False])
  seen = set()
  for seed in range(20):
    at, there = importance_lib.select_dreams(
      importance, valid, jax.random.key(seed), top=2, random=2
    )
    assert at[:2].tolist() == [1, 3] and there.all()
    assert set(at[2:].tolist()) < {0, 2, 4}
    seen |= set(at[2:].tolist())
  assert seen == {0, 2, 4}
  few = jnp.array([False, True, False, False, False, False])
  at, there = importance_lib.select_dreams(
    importance, few, jax.random.key(0), top=2, random=2
  )
  assert there.tolist() == [True, False, False, False]


def _hash(params):
  digest = hashlib.sha256()
  for path in sorted(params):
    digest.update(np.asarray(params[path]).tobytes())
  return digest.hexdigest()


@functools.cache
def _gains(score='likelihood', together=1):
  model, weights = _model()
  before = _hash(weights.params)
  tried = functools.partial(
    trials.measure_gains, model, settings=_settings(repeats=2, score=score), size=SIZE,
    spread=trials.TrialPlacement(together),
  )  # fmt: skip
  found = jax.jit(tried)(weights, _own(), testing.probes(), jax.random.key(5))
  assert _hash(weights.params) == before
  return jax.device_get(found)


def test_a_trial_is_the_adapter_trained_alone_and_touches_nothing_else():
  """One dream after the other, by hand, each from the untouched weights."""
  model, weights = _model()
  gain_MR, nothing = _gains()
  keys, texts = jax.random.split(jax.random.key(5), 2 * M), _texts()
  tx = optax.adam(TRIAL.learning_rate)

  def wear(adapter):
    return lora.attach(weights, adapter, scale=2.0)

  @jax.jit
  def step(adapter, opt, rows, valid_K):
    loss = lambda adapter: importance_lib.dream_losses(
      model, wear(adapter), lessons_lib.from_texts(rows, valid_K[None]), SIZE
    )[0]
    updates, opt = tx.update(jax.grad(loss)(adapter), opt, adapter)
    return optax.apply_updates(adapter, updates), opt

  score = jax.jit(
    lambda adapter: jnp.mean(
      answer_likelihood.score_answers(model, wear(adapter), testing.probes())[0]
    )
  )
  for dream in range(M):
    rows = jax.tree.map(lambda x, d=dream: x[d * K : d * K + K], texts)
    begin_key, _ = jax.random.split(keys[2 * dream])
    adapter = lora.init(begin_key, weights.params, rank=2, targets=TARGETS)
    opt = tx.init(adapter)
    for _ in range(TRIAL.steps if VALID[dream].any() else 0):
      adapter, opt = step(adapter, opt, rows, VALID[dream])
    np.testing.assert_allclose(
      gain_MR[dream, 0] + nothing, score(adapter), rtol=1e-4
    )
  assert (gain_MR[2] == 0).all()  # Nothing to learn from.
  assert np.abs(gain_MR[[0, 1, 3]]).min() > 1e-4


def test_trials_side_by_side_are_those_one_after_the_other():
  np.testing.assert_allclose(
    _gains(together=4)[0], _gains()[0], rtol=1e-3, atol=1e-5
  )


@pytest.mark.parametrize('attention', ['xla', 'splash'])
def test_of_trials_devices_send_no_activations_but_weights(attention):
  model, weights = _model()
  config = dataclasses.replace(model.config, attention=attention)
  place = testing.placement(data=1, fsdp=8, tensor=1)
  settings = _settings(candidates=8, top=6, random=2, texts=1)
  shared_out = functools.partial(
    trials.measure_gains,
    dataclasses.replace(model, config=config, place=place.constrain),
    settings=settings, size=SIZE,
    spread=trials.TrialPlacement(8, place.shard_rows, place.replicate_states, 8),
  )  # fmt: skip
  lessons = lessons_lib.from_texts(_texts(8), jnp.ones((8, 1)))
  args = lessons, testing.probes(), jax.random.key(5)
  there = place.put(weights)
  made = jax.jit(shared_out).lower(there, *args).compile()
  sent = re.findall(
    r'= \(?\w+\[([\d,]+)\]\S* (?:all-\w+|collective-permute)\(', made.as_text()
  )
  assert f'{testing.WIDTH},{testing.WIDTH}' in sent
  # Of all eight, what a block makes of a text, or of the questions.
  rows = f'8,(1,{testing.CONTEXT}|4,{testing.PROMPT + 2}),'
  assert not [dims for dims in sent if re.match(rows + '(?!1$)', dims)]
  one_device = jax.jit(functools.partial(
    trials.measure_gains, model, settings=settings, size=SIZE
  ))  # fmt: skip
  np.testing.assert_allclose(
    made(there, *args)[0], one_device(weights, *args)[0], rtol=1e-3, atol=1e-5
  )


def test_trials_may_be_repeated_from_other_adapters():
  gain_MR, _ = _gains()
  assert gain_MR.shape == (M, 2)
  assert (gain_MR[[0, 1, 3], 0] != gain_MR[[0, 1, 3], 1]).all()


def test_logits_row_by_row_are_those_of_all_rows(monkeypatch):
  """What is told, its derivative forward, and its gradient."""
  model, weights = _model()
  own = lora.target_matrices(weights.params, TARGETS)

  def told(own):
    likely_BG, best_BG = answer_likelihood.log_likelihood(
      model, weights.with_params(own), _texts(), SIZE
    )
    return jnp.sum(jnp.sin(likely_BG), 1), best_BG

  def all_of_it(own):
    tangent = jax.tree.map(jnp.ones_like, own)
    value, moved, best = jax.jvp(lambda x: told(x), (own,), (tangent,),
                                 has_aux=True)  # fmt: skip
    grads = jax.grad(lambda x: jnp.sum(told(x)[0]))(own)
    return value, moved, best, grads

  # Each anew, for what is compiled depends on the room.
  whole = jax.jit(lambda own: all_of_it(own))(own)
  monkeypatch.setattr(answer_likelihood, '_ROOM', 0)
  in_parts = jax.jit(lambda own: all_of_it(own))(own)
  for ours, wanted in zip(
    jax.tree.leaves(in_parts), jax.tree.leaves(whole), strict=True
  ):
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_the_score_is_what_a_reader_would_count():
  """Greedy: an answer is right if each token is the likeliest."""
  model, weights = _model()
  probes = testing.probes()
  rollout = answer_likelihood.append_answers(probes)
  for row in range(4):
    size = int(probes.prompts.length_B[row])
    asked = probes.prompts.tokens_BP[row, :size].tolist()
    answer = probes.answer_BA[row].tolist()
    assert rollout.tokens_BT[row, : size + 2].tolist() == asked + answer
  # An answer that the model gives: the likeliest token after the question.
  at = probes.prompts.length_B - 1
  states = model.states_at(
    weights, rollout.tokens_BT, jnp.ones_like(rollout.tokens_BT),
    jnp.broadcast_to(jnp.arange(8), (4, 8)), at[:, None],
  )  # fmt: skip
  best_B = jnp.argmax(model.logits(weights, states[:, 0]), -1)
  known = probes.replace(
    answer_BA=probes.answer_BA.at[:2, 0].set(best_B[:2]),
    answer_length_B=jnp.ones((4,), jnp.int32),
  )
  nats_B, right_B = answer_likelihood.score_answers(model, weights, known)
  assert right_B.tolist()[:2] == [True, True] and not right_B[2:].any()
  assert (nats_B < 0).all()
  gain_MR, nothing = _gains(score='greedy')
  assert 0 <= nothing <= 1 and ((gain_MR + nothing) * 4 % 1 == 0).all()


def _shared():
  """Dreams that choose among the same rows, and the same as rows of their own.

  A dream of its own has all rows, and weighs them as it chose.
  """
  rows = _texts(M)
  chosen = jnp.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
  rate, share = jnp.array([1.0, 2, 1]), jnp.array([1.0, 1, 1])
  alone = jax.tree.map(lambda x: jnp.stack([x] * 3), rows)
  return tuple(
    lessons_lib.Lessons(given, chosen, rate, share) for given in (rows, alone)
  )


@pytest.mark.parametrize('how', ['gradient', 'norm'])
def test_lessons_that_all_share_weigh_what_everyones_own_would(how):
  shared, alone = _shared()
  found, wanted = (_importance(how, lessons) for lessons in (shared, alone))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[:2]).min() > 1e-4


def test_lessons_that_all_share_teach_what_everyones_own_would():
  model, weights = _model()
  shared, alone = _shared()

  @jax.jit
  def gains(lessons):
    return trials.measure_gains(
      model, weights, lessons, testing.probes(), jax.random.key(5),
      settings=_settings(), size=SIZE,
    )[0][:, 0]  # fmt: skip

  found = gains(shared)
  np.testing.assert_allclose(found, gains(alone), rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[:2]).min() > 1e-4
  # How fast and how long is the dream's own choice.
  still = gains(shared.replace(rate_M=jnp.array([1.0, 0, 1])))
  assert still[1] == 0 and still[0] == found[0]
  never = gains(shared.replace(share_M=jnp.array([0.0, 1, 1])))
  assert never[0] == 0 and never[1] == found[1]
  part = gains(shared.replace(share_M=jnp.array([0.3, 1, 1])))
  assert part[0] not in (0, float(found[0]))


def test_nobody_learns_from_what_was_not_rewarded():
  model, weights = _model()
  adapter = lora.init(
    jax.random.key(0), weights.params, rank=2, targets=TARGETS
  )

  @jax.jit
  def learn(texts, weight_B):
    return trials.train_adapter(
      model, weights, texts, weight_B, jax.random.key(1), adapter=adapter,
      settings=TRIAL, size=SIZE,
    )  # fmt: skip

  assert testing.same(learn(_texts(), jnp.zeros(M * K)), adapter)
  weight = jnp.zeros(M * K).at[3].set(1)
  wild = _texts(seed=1)  # Other texts wherever nothing weighs anything.
  same = jax.tree.map(lambda x, y: y.at[3].set(x[3]), _texts(), wild)
  assert testing.same(learn(_texts(), weight), learn(same, weight))
  assert not testing.same(learn(_texts(), weight), adapter)


@pytest.mark.parametrize(
  'change, said',
  [
    (dict(order='now'), "dream.order is 'now'"),
    (dict(importance='size'), "dream.importance is 'size'"),
    (dict(top=4, random=1), 'dream.candidates 4'),
    (dict(margin=-1.0), 'dream.margin is -1.0'),
    (dict(margin=float('nan')), 'dream.margin is nan'),
    (dict(num_updates=3, updates_per_round=2), 'not a multiple'),
    (dict(texts=0), 'dream.texts is 0'),
    (dict(template_share=2.0), 'dream.template_share is 2.0'),
    (dict(temperature=-1.0), 'dream.temperature is -1.0'),
  ],
)
def test_settings_that_cannot_be_are_said(change, said):
  with pytest.raises(ValueError, match=said):
    _settings(**change)


def test_adapters_that_cannot_be_are_said():
  adapter = dict(
    rank=2, alpha=4.0, targets=('key',), steps=1, batch=1, learning_rate=1e-2
  )
  for change, said in (
    (dict(rank=0), 'dream.trial.rank is 0'),
    (dict(targets=('kea',)), "dream.trial.targets is .'kea'"),
    (dict(targets=()), 'dream.trial.targets'),
  ):
    with pytest.raises(ValueError, match=said):
      _settings(trial=adapter | change)
