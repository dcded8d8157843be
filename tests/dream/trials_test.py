"""Tests of importance, trials and settings of dreams."""

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
  """Returns texts whose first three tokens are the prompt."""
  batch = testing.batch(seed, num)
  length_B = (batch.segments_BT > 0).sum(1)
  return types.Rollout(batch.tokens_BT, jnp.full((num,), 3), length_B)


VALID = jnp.array([[1.0, 1], [1, 0], [0, 0], [1, 1]])


def _settings(**changes):
  known = dict(
    on=True,
    order='after',
    rounds=1,
    start='base',
    candidates=M,
    texts=K,
    temperature=1.0,
    whole=True,
    novelty=False,
    importance='gradient',
    top=2,
    random=1,
    repeats=1,
    score='likelihood',
    margin=0.0,
    old=4,
    template_share=0.0,
    sequences=4,
    reading=0,
    num_updates=2,
    updates_per_round=1,
    learning_rate=1e-2,
  )
  adapter = dict(
    rank=2, alpha=4.0, targets=TARGETS, steps=3, batch=2, learning_rate=5e-2
  )
  return settings_lib.make(
    **{'trial': adapter, 'writer': adapter, **known, **changes}
  )


def _lessons(valid=VALID):
  return lessons_lib.from_texts(_texts(), valid)


@jax.jit
def _losses(weights):
  return importance_lib.dream_losses(_model()[0], weights, _lessons(), SIZE)


def test_the_loss_of_a_dream_is_the_mean_over_the_tokens_of_its_valid_texts():
  model, weights = _model()
  texts = _texts()
  rows = (
    texts.tokens_BT,
    jnp.where(
      jnp.arange(testing.CONTEXT)[None] < texts.length_B[:, None], 1, -1
    ),
    jnp.broadcast_to(jnp.arange(testing.CONTEXT), texts.tokens_BT.shape),
  )
  log_BTV = jax.nn.log_softmax(testing.forward(model)(weights, *rows))
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
    expected = -sum(nats) / tokens if tokens else 0.0
    np.testing.assert_allclose(found[dream], expected, rtol=1e-4, atol=1e-6)


@functools.cache
def _gradients():
  """Returns gradients of each dream's loss and of the practice loss.

  They are taken over the matrices that adapters target.
  """
  model, weights = _model()
  own = lora.target_matrices(weights.params, TARGETS)
  each = jax.jit(jax.jacrev(lambda own: _losses(weights.with_params(own))))(own)

  def practice_loss(own):
    nats_B, _ = answer_likelihood.score_answers(
      model, weights.with_params(own), testing.probes()
    )
    return -jnp.mean(nats_B)

  return each, jax.jit(jax.grad(practice_loss))(own)


@functools.cache
def _importance_fn(how, model):
  return jax.jit(
    functools.partial(
      importance_lib.importance, model, size=SIZE, how=how, targets=TARGETS
    )
  )


def _importance(how, lessons=None, model=None):
  return _importance_fn(how, model or _model()[0])(
    _model()[1], lessons or _lessons(), testing.probes(), jax.random.key(3)
  )


def test_importance_is_the_dot_product_of_dream_and_practice_gradients():
  each, wanted = _gradients()
  products = [
    float(sum(jnp.vdot(each[path][dream], wanted[path]) for path in wanted))
    for dream in range(M)
  ]
  found = np.asarray(_importance('gradient'))
  np.testing.assert_allclose(found, products, rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[[0, 1, 3]]).min() > 1e-4


def test_the_practice_gradient_is_sharded_like_the_matrices():
  """A replicated gradient would be as large as the model on each device."""
  model, weights = _model()
  place = testing.placement(data=1, fsdp=8, tensor=1)
  spread = dataclasses.replace(model, place=place.constrain)
  weigh = lambda weights: importance_lib.importance(
    spread,
    weights,
    _lessons(),
    testing.probes(),
    jax.random.key(0),
    size=SIZE,
    how='gradient',
    targets=TARGETS,
  )
  placed = place.put(weights)
  made = jax.jit(weigh).lower(placed).compile()
  L, D, F = weights.params['blocks/levels/1/base/mlp/gate'].shape
  assert f'[{L},{D // 8},{F}]' in made.as_text()
  assert f'[{L},{D},{F}]' not in made.as_text()
  np.testing.assert_allclose(made(placed), _importance('gradient'), rtol=1e-4)


def test_practice_questions_are_sharded_even_if_devices_do_not_divide_them():
  """Otherwise each device would score all of them."""
  model, weights = _model()
  place = testing.placement(data=1, fsdp=8, tensor=1)
  practice = testing.probes(num=11)
  spread = dataclasses.replace(model, place=place.constrain)
  weigh = lambda model, rows: jax.jit(
    lambda weights: importance_lib.importance(
      model,
      weights,
      _lessons(),
      practice,
      jax.random.key(0),
      size=SIZE,
      how='gradient',
      targets=TARGETS,
      rows=rows,
    )
  )
  placed = place.put(weights)
  made = weigh(spread, 8).lower(placed).compile()
  T, D = testing.PROMPT + 2, testing.WIDTH  # Answers have two tokens.
  assert f'[2,{T},{D}]' in made.as_text()
  assert f'[11,{T},{D}]' not in made.as_text()
  np.testing.assert_allclose(
    made(placed), weigh(model, 1)(weights), rtol=1e-4, atol=1e-6
  )


def test_importance_does_not_depend_on_the_attention_kernel():
  """Not every kernel has a forward derivative."""
  model, _ = _model()
  config = dataclasses.replace(model.config, attention='splash')
  other = dataclasses.replace(model, config=config)
  np.testing.assert_allclose(
    _importance('gradient', model=other), _importance('gradient'), atol=1e-4
  )


def test_importance_may_be_the_norm_of_the_gradient_or_random():
  each, _ = _gradients()
  norms = [
    float(optax.tree.norm(jax.tree.map(lambda x, d=d: x[d], each)))
    for d in range(M)
  ]
  np.testing.assert_allclose(_importance('norm'), norms, rtol=1e-4, atol=1e-6)
  random = np.asarray(_importance('random'))
  assert len(set(random.tolist())) == M
  np.testing.assert_array_equal(random, _importance('random'))


def test_the_most_important_dreams_and_some_random_ones_are_selected():
  importance = jnp.array([0.1, 5.0, -1.0, 3.0, 2.0, 9.0])
  valid = jnp.array([True, True, True, True, True, False])
  seen = set()
  for seed in range(20):
    at, valid_C = importance_lib.select_dreams(
      importance, valid, jax.random.key(seed), top=2, random=2
    )
    assert at[:2].tolist() == [1, 3] and valid_C.all()
    assert set(at[2:].tolist()) < {0, 2, 4}
    seen |= set(at[2:].tolist())
  assert seen == {0, 2, 4}
  single = jnp.array([False, True, False, False, False, False])
  at, valid_C = importance_lib.select_dreams(
    importance, single, jax.random.key(0), top=2, random=2
  )
  assert valid_C.tolist() == [True, False, False, False]


def _hash(params):
  digest = hashlib.sha256()
  for path in sorted(params):
    digest.update(np.asarray(params[path]).tobytes())
  return digest.hexdigest()


@functools.cache
def _gains(score='likelihood', num_parallel=1):
  model, weights = _model()
  before = _hash(weights.params)
  measure = functools.partial(
    trials.measure_gains,
    model,
    settings=_settings(repeats=2, score=score),
    size=SIZE,
    placement=trials.TrialPlacement(num_parallel),
  )
  found = jax.jit(measure)(
    weights, _lessons(), testing.probes(), jax.random.key(5)
  )
  assert _hash(weights.params) == before
  return jax.device_get(found)


def test_a_trial_equals_training_the_adapter_alone_and_changes_no_weight():
  """The reference trains one dream at a time, from the same weights."""
  model, weights = _model()
  gain_MR, baseline = _gains()
  keys, texts = jax.random.split(jax.random.key(5), 2 * M), _texts()
  tx = optax.adam(TRIAL.learning_rate)

  def attach(adapter):
    return lora.attach(weights, adapter, scale=2.0)

  @jax.jit
  def step(adapter, opt, rows, valid_K):
    loss = lambda adapter: importance_lib.dream_losses(
      model, attach(adapter), lessons_lib.from_texts(rows, valid_K[None]), SIZE
    )[0]
    updates, opt = tx.update(jax.grad(loss)(adapter), opt, adapter)
    return optax.apply_updates(adapter, updates), opt

  score = jax.jit(
    lambda adapter: jnp.mean(
      answer_likelihood.score_answers(model, attach(adapter), testing.probes())[
        0
      ]
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
      gain_MR[dream, 0] + baseline, score(adapter), rtol=1e-4
    )
  assert (gain_MR[2] == 0).all()  # It has no valid text.
  assert np.abs(gain_MR[[0, 1, 3]]).min() > 1e-4


def test_parallel_trials_equal_sequential_ones():
  np.testing.assert_allclose(
    _gains(num_parallel=4)[0], _gains()[0], rtol=1e-3, atol=1e-5
  )


@pytest.mark.parametrize('attention', ['xla', 'splash'])
def test_parallel_trials_send_weights_but_no_activations(attention):
  model, weights = _model()
  config = dataclasses.replace(model.config, attention=attention)
  place = testing.placement(data=1, fsdp=8, tensor=1)
  settings = _settings(candidates=8, top=6, random=2, texts=1)
  measure_sharded = functools.partial(
    trials.measure_gains,
    dataclasses.replace(model, config=config, place=place.constrain),
    settings=settings,
    size=SIZE,
    placement=trials.TrialPlacement(
      8, place.shard_rows, place.replicate_states, 8
    ),
  )
  lessons = lessons_lib.from_texts(_texts(8), jnp.ones((8, 1)))
  args = lessons, testing.probes(), jax.random.key(5)
  placed = place.put(weights)
  made = jax.jit(measure_sharded).lower(placed, *args).compile()
  sent = re.findall(
    r'= \(?\w+\[([\d,]+)\]\S* (?:all-\w+|collective-permute)\(', made.as_text()
  )
  assert f'{testing.WIDTH},{testing.WIDTH}' in sent
  # Activations of a block for all eight trials: of the texts, or of the
  # questions.
  rows = f'8,(1,{testing.CONTEXT}|4,{testing.PROMPT + 2}),'
  assert not [dims for dims in sent if re.match(rows + '(?!1$)', dims)]
  one_device = _measure_on_one_device(settings)
  np.testing.assert_allclose(
    made(placed, *args)[0], one_device(weights, *args)[0], rtol=1e-3, atol=1e-5
  )


@functools.cache
def _measure_on_one_device(settings):
  return jax.jit(
    functools.partial(
      trials.measure_gains, _model()[0], settings=settings, size=SIZE
    )
  )


def test_repeated_trials_start_from_different_adapters():
  gain_MR, _ = _gains()
  assert gain_MR.shape == (M, 2)
  assert (gain_MR[[0, 1, 3], 0] != gain_MR[[0, 1, 3], 1]).all()


def test_logits_computed_row_by_row_equal_those_of_all_rows(monkeypatch):
  """Also their forward derivative and their gradient."""
  model, weights = _model()
  own = lora.target_matrices(weights.params, TARGETS)

  def scores(own):
    log_prob_BG, best_BG = answer_likelihood.log_likelihood(
      model, weights.with_params(own), _texts(), SIZE
    )
    return jnp.sum(jnp.sin(log_prob_BG), 1), best_BG

  def with_derivatives(own):
    tangent = jax.tree.map(jnp.ones_like, own)
    value, tangent_out, best = jax.jvp(
      lambda x: scores(x), (own,), (tangent,), has_aux=True
    )
    grads = jax.grad(lambda x: jnp.sum(scores(x)[0]))(own)
    return value, tangent_out, best, grads

  # A new function each time: the compiled program depends on the limit.
  whole = jax.jit(lambda own: with_derivatives(own))(own)
  monkeypatch.setattr(answer_likelihood, '_MAX_LOGITS', 0)
  in_parts = jax.jit(lambda own: with_derivatives(own))(own)
  for ours, wanted in zip(
    jax.tree.leaves(in_parts), jax.tree.leaves(whole), strict=True
  ):
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_scores_of_practice_questions_equal_those_counted_by_hand():
  """A greedy answer is right if each of its tokens is the most likely one."""
  model, weights = _model()
  probes = testing.probes()
  rollout = answer_likelihood.append_answers(probes)
  for row in range(4):
    size = int(probes.prompts.length_B[row])
    question = probes.prompts.tokens_BP[row, :size].tolist()
    answer = probes.answer_BA[row].tolist()
    assert rollout.tokens_BT[row, : size + 2].tolist() == question + answer
  # Answers that the model gives: the most likely token after the question.
  at = probes.prompts.length_B - 1
  states = jax.jit(model.states_at)(
    weights,
    rollout.tokens_BT,
    jnp.ones_like(rollout.tokens_BT),
    jnp.broadcast_to(jnp.arange(8), (4, 8)),
    at[:, None],
  )
  best_B = jnp.argmax(model.logits(weights, states[:, 0]), -1)
  known = probes.replace(
    answer_BA=probes.answer_BA.at[:2, 0].set(best_B[:2]),
    answer_length_B=jnp.ones((4,), jnp.int32),
  )
  score = jax.jit(functools.partial(answer_likelihood.score_answers, model))
  nats_B, right_B = score(weights, known)
  assert right_B.tolist()[:2] == [True, True] and not right_B[2:].any()
  assert (nats_B < 0).all()
  gain_MR, baseline = _gains(score='greedy')
  assert 0 <= baseline <= 1 and ((gain_MR + baseline) * 4 % 1 == 0).all()


def _shared():
  """Returns lessons of dreams that share rows, and the same as own rows.

  In the second, each dream has a copy of all rows, with the same weights.
  """
  rows = _texts(M)
  chosen = jnp.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]])
  rate, share = jnp.array([1.0, 2, 1]), jnp.array([1.0, 1, 1])
  alone = jax.tree.map(lambda x: jnp.stack([x] * 3), rows)
  return tuple(
    lessons_lib.Lessons(given, chosen, rate, share) for given in (rows, alone)
  )


@pytest.mark.parametrize('how', ['gradient', 'norm'])
def test_shared_lessons_have_the_same_importance_as_own_ones(how):
  shared, alone = _shared()
  found, wanted = (_importance(how, lessons) for lessons in (shared, alone))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[:2]).min() > 1e-4


def test_shared_lessons_have_the_same_gain_as_own_ones():
  model, weights = _model()
  shared, alone = _shared()

  @jax.jit
  def gains(lessons):
    return trials.measure_gains(
      model,
      weights,
      lessons,
      testing.probes(),
      jax.random.key(5),
      settings=_settings(),
      size=SIZE,
    )[0][:, 0]

  found = gains(shared)
  np.testing.assert_allclose(found, gains(alone), rtol=1e-4, atol=1e-6)
  assert found[2] == 0 and np.abs(found[:2]).min() > 1e-4
  # Learning rate and number of steps are choices of each dream.
  still = gains(shared.replace(rate_M=jnp.array([1.0, 0, 1])))
  assert still[1] == 0 and still[0] == found[0]
  never = gains(shared.replace(share_M=jnp.array([0.0, 1, 1])))
  assert never[0] == 0 and never[1] == found[1]
  part = gains(shared.replace(share_M=jnp.array([0.3, 1, 1])))
  assert part[0] not in (0, float(found[0]))


def test_texts_without_weight_do_not_change_the_adapter():
  model, weights = _model()
  adapter = lora.init(
    jax.random.key(0), weights.params, rank=2, targets=TARGETS
  )

  @jax.jit
  def learn(texts, weight_B):
    return trials.train_adapter(
      model,
      weights,
      texts,
      weight_B,
      jax.random.key(1),
      adapter=adapter,
      settings=TRIAL,
      size=SIZE,
    )

  assert testing.same(learn(_texts(), jnp.zeros(M * K)), adapter)
  weight = jnp.zeros(M * K).at[3].set(1)
  different = _texts(seed=1)  # Different texts where the weight is 0.
  same = jax.tree.map(lambda x, y: y.at[3].set(x[3]), _texts(), different)
  assert testing.same(learn(_texts(), weight), learn(same, weight))
  assert not testing.same(learn(_texts(), weight), adapter)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(order='now'), "dream.order is 'now'"),
    (dict(importance='size'), "dream.importance is 'size'"),
    (dict(top=4, random=1), 'dream.candidates 4'),
    (dict(num_updates=3, updates_per_round=2), 'not a multiple'),
  ],
)
def test_settings_that_do_not_fit_together_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    _settings(**change)


def test_adapters_of_unknown_matrices_are_refused():
  adapter = dict(
    rank=2, alpha=4.0, targets=('key',), steps=1, batch=1, learning_rate=1e-2
  )
  for change, message in (
    (dict(targets=('kea',)), "dream.trial.targets is .'kea'"),
    (dict(targets=()), 'dream.trial.targets'),
  ):
    with pytest.raises(ValueError, match=message):
      _settings(trial=adapter | change)
