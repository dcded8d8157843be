"""Tests of the wake step: updates equal the paper's sums, the rest is fixed.

Most tests use a toy model whose levels are matrices, logits = E sum c_l W_l, so
that the reference is a few lines of NumPy. The factors c_l differ by level.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.optim import optimizer
from sleep_jax.replay import buffer
from sleep_jax.wake import step as step_lib
from sleep_jax.wake import terms
from tests import testing

V = 5
COUNTS = {'tokens': 5, 'written': 1, 'forward': 2}  # Of a penalty.
DEEP = {3: (1, 2, 4), 4: (1, 3, 6, 12), 5: (2, 4, 8, 16, 16)}
RATES, FACTORS = (0.5, 0.3, 0.2, 0.1, 0.05), (1.0, -0.7, 0.5, 1.3, 0.9)


def _likelihood(weights, tokens_BT, *_):
  total = sum(FACTORS[int(name) - 1] * w for name, w in weights.params.items())
  return losses.log_likelihood(total[tokens_BT], tokens_BT)


def _start(depth, txs, *, age_groups=None, seed=0):
  random = np.random.default_rng(seed)
  params = {
    str(level): jnp.asarray(random.normal(size=(V, V)), jnp.float32)
    for level in range(1, depth + 1)
  }
  return state_lib.State(
    step=jnp.int32(0),
    key=jax.random.key(0),
    weights=types.Weights(params, jnp.zeros((depth, 1))),
    sums={n: {n: jnp.zeros_like(params[n])} for n in txs},
    opt={n: tx.init({n: params[n]}) for n, tx in txs.items()},
    anchor={},
    woke_N=jnp.zeros((depth,), jnp.int32),
    guard_N=jnp.zeros((depth,)),
    replay=age_groups or {},
  )


def _step(txs, periods, age_groups=()):
  owned_paths = {name: (name,) for name in txs}
  compiled = jax.jit(
    step_lib.make(
      _likelihood, owned_paths, txs, periods, age_groups=age_groups, eos=-1
    )
  )

  def step(state, batch, held=()):
    flags = {name: jnp.asarray(name in held) for name in txs}
    return compiled(state, batch, flags)

  return step


def _batch(seed):
  made = testing.batch(seed)
  return made.replace(tokens_BT=made.tokens_BT % V)


def _sgd(depth):
  return {str(n + 1): optax.sgd(RATES[n]) for n in range(depth)}


def _reference(theta, periods, batches):
  """theta_l -= eta_l sum_{t=i-C+1..i} f(theta; x_t) when i = 0 mod C."""
  theta, errors, path = [np.array(w, 'f8') for w in theta], [], []
  for i, batch in enumerate(batches, 1):
    logits = sum(c * w for c, w in zip(FACTORS, theta, strict=False))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    error, tokens, loss = np.zeros((V, V)), batch.tokens_BT, batch.loss_BT
    for row, mask in zip(np.array(tokens), np.array(loss), strict=True):
      for x, y, on in zip(row[:-1], row[1:], mask[1:], strict=True):
        error[x] += on * (odds[x] - np.eye(V)[y])
    errors.append(error / np.array(loss)[:, 1:].sum())
    for level, period in enumerate(periods):
      if i % period == 0:
        chunk = sum(errors[i - period : i])
        theta[level] = theta[level] - RATES[level] * FACTORS[level] * chunk
    path.append([w.copy() for w in theta])
  return path


@pytest.mark.parametrize('depth', DEEP)
def test_streaming_updates_equal_the_direct_sum_over_chunks(depth):
  periods, txs = DEEP[depth], _sgd(depth)
  step = _step(txs, {str(n + 1): c for n, c in enumerate(periods)})
  state = _start(depth, txs)
  batches = [_batch(seed) for seed in range(18)]
  first = [state.weights.params[str(n + 1)] for n in range(depth)]
  expected = _reference(first, periods, batches)
  updated = [[] for _ in periods]
  for i, batch in enumerate(batches, 1):
    before = state.weights.params
    state, _ = step(state, batch)
    for name in testing.changed(before, state.weights.params):
      updated[int(name) - 1].append(i)
    for level in range(depth):
      np.testing.assert_allclose(
        state.weights.params[str(level + 1)],
        expected[i - 1][level],
        rtol=1e-5,
        atol=2e-6,
      )
  # Bit-identical inside a chunk; the last, incomplete chunk is not flushed.
  assert updated == [list(range(c, 19, c)) for c in periods]
  assert int(state.step) == 18


def test_a_held_level_keeps_its_gradient_sum_and_its_parameters():
  txs = _sgd(2)
  step = _step(txs, {'1': 2, '2': 2})
  state, _ = step(_start(2, txs), _batch(0))
  free, _ = step(state, _batch(1))
  held, _ = step(state, _batch(1), held=('1',))
  before, after = state.weights.params, held.weights.params
  assert testing.changed(before, after) == {'2'}
  assert testing.same(held.weights.params['2'], free.weights.params['2'])
  assert not np.asarray(free.sums['1']['1']).any()
  # Its sum is the update that it would have applied.
  np.testing.assert_allclose(
    before['1'] - RATES[0] * held.sums['1']['1'],
    free.weights.params['1'],
    atol=1e-6,
  )


def test_optimizer_state_changes_only_at_updates():
  txs = {'1': optax.adam(0.1), '2': optax.adam(0.1)}
  step = _step(txs, {'1': 1, '2': 3})
  state = _start(2, txs)
  for seed in range(7):
    before = state.opt['2']
    state, _ = step(state, _batch(seed))
    assert testing.same(before, state.opt['2']) == (seed not in (2, 5))
  count = lambda name: int(optax.tree.get(state.opt[name], 'count'))
  assert (count('1'), count('2')) == (7, 2)


def test_a_learning_rate_of_zero_leaves_every_bit_unchanged():
  make = functools.partial(optimizer.make, learning_rate=0.0, weight_decay=0.1)
  txs = {'1': make(), '2': make()}
  step = _step(txs, {'1': 1, '2': 2})
  first = state = _start(2, txs)
  for seed in range(4):
    state, _ = step(state, _batch(seed))
  assert testing.same(first.weights, state.weights)


def test_parameters_without_an_optimizer_never_change():
  txs = {'2': optimizer.make(learning_rate=0.1, weight_decay=0.5)}
  step = _step(txs, {'2': 1})
  state = _start(3, txs)
  after, _ = step(state, _batch(0))
  assert testing.changed(state.weights.params, after.weights.params) == {'2'}


def test_clipping_one_level_does_not_affect_another():
  """The second owner has a large gradient and a learning rate of 0."""
  active = optimizer.make(learning_rate=0.1, clip=0.05)
  idle = optimizer.make(learning_rate=0.0, clip=0.05)
  paths = []
  for txs in ({'1': active}, {'1': active, '4': idle}):
    step, state = _step(txs, dict.fromkeys(txs, 1)), _start(4, txs)
    for seed in range(3):
      state, _ = step(state, _batch(seed))
    moments = optax.tree.get(state.opt['1'], 'mu')
    paths.append((state.weights.params['1'], moments))
  alone, beside = paths
  np.testing.assert_allclose(alone[0], beside[0], rtol=1e-6)
  np.testing.assert_allclose(alone[1]['1'], beside[1]['1'], rtol=1e-5)
  assert 0 < float(optax.tree.norm(alone[1])) < 0.05


def test_prompts_are_stored_with_the_wake_step():
  age_groups = buffer.allocate({'corpus': 40, 'past': 40, 'day/1': 40}, width=6)
  txs = _sgd(1)
  state = _start(1, txs, age_groups=age_groups)
  step = _step(txs, {'1': 1}, age_groups=('past', 'day/1'))
  for seed in range(2):
    state, metrics = step(state, _batch(seed))
  assert testing.same(state.replay['corpus'], age_groups['corpus'])
  for name in ('past', 'day/1'):
    age_group = state.replay[name]
    assert int(age_group.count) == 16
    np.testing.assert_array_equal(
      age_group.step_C[:17], [1] * 8 + [2] * 8 + [0]
    )
    # Which prompt is in which entry depends on their priorities.
    for seed in range(2):
      kept = age_group.tokens_CP[8 * seed : 8 * seed + 8].tolist()
      assert sorted(kept) == sorted(_batch(seed).prompts.tokens_BP.tolist())
  assert int(metrics['tokens']) == int((_batch(1).segments_BT > 0).sum())


def test_prompts_of_pretraining_are_stored_with_step_zero():
  age_groups = buffer.allocate({'corpus': 40}, width=6)
  txs = _sgd(1)
  step = _step(txs, {'1': 1}, age_groups=('corpus',))
  state, _ = step(_start(1, txs, age_groups=age_groups), _batch(0))
  assert int(state.replay['corpus'].count) == 8
  assert not np.asarray(state.replay['corpus'].step_C).any()


def test_in_the_model_only_the_bases_that_are_due_change():
  model = testing.tiny((1, 2), (2, 4))
  weights = testing.activate(testing.weights(model), 2, 0)
  weights = testing.activate(weights, 3, 0, 1)
  owned_paths = {
    name: tuple(optimizer.select_owned(weights.params, (name,), num_levels=3))
    for name in ('1', '2')
  }
  own = lambda n: {p: weights.params[p] for p in owned_paths[n]}
  txs = dict.fromkeys(owned_paths, optimizer.make(learning_rate=1e-2))
  likelihood = lambda weights, tokens_BT, segments, positions, _: (
    losses.log_likelihood(
      model.forward(weights, tokens_BT, segments, positions), tokens_BT
    )
  )
  step = jax.jit(
    step_lib.make(
      likelihood, owned_paths, txs, {'1': 1, '2': 2}, age_groups=(), eos=-1
    )
  )
  state = _start(3, {}).replace(
    weights=weights,
    sums={n: jax.tree.map(jnp.zeros_like, own(n)) for n in owned_paths},
    opt={n: txs[n].init(own(n)) for n in owned_paths},
  )
  held = dict.fromkeys(owned_paths, jnp.asarray(False))
  found = []
  for i in range(1, 5):
    before = state.weights.params
    state, metrics = step(state, testing.batch(0), held)
    due = {*owned_paths['1'], *(owned_paths['2'] if i % 2 == 0 else ())}
    assert testing.changed(before, state.weights.params) == due
    found.append(float(metrics['loss']))
  assert found == sorted(found, reverse=True)  # The loss decreases.


def test_a_transformation_receives_the_gradients_of_loss_and_penalty():
  """It replaces them by their sum with 2, and reads 7 tokens."""
  txs, batch = {'1': optax.sgd(1.0)}, _batch(0)
  seen = {}

  def penalty(state, given):
    seen['rows'] = given.tokens_BT.shape
    term = lambda weights, _: 3.0 * jnp.sum(weights.params['1'])
    found = [terms.Term(term)]
    return state, found, COUNTS

  def transform(state, given, grads):
    assert given.tokens_BT.shape == seen['rows'] == batch.tokens_BT.shape
    return jax.tree.map(lambda g: g + 2, grads), jnp.int32(7)

  def update(**hooks):
    step = step_lib.make(
      _likelihood, {'1': ('1',)}, txs, {'1': 1}, age_groups=(), eos=-1, **hooks
    )
    before = _start(1, txs)
    after, metrics = jax.jit(step)(before, batch, {'1': jnp.asarray(False)})
    change = before.weights.params['1'] - after.weights.params['1']
    return change, int(metrics['tokens'])

  plain, tokens = update()
  changed, more = update(penalty=penalty, transform=transform)
  np.testing.assert_allclose(changed, plain + 3 + 2, rtol=1e-5)
  assert more == tokens + 5 + 7


def test_a_penalty_may_be_the_whole_loss():
  """The rows then have no gradient, and are not counted as read."""
  txs, batch = {'1': optax.sgd(1.0)}, _batch(0)

  def penalty(state, given):
    del given
    term = lambda weights, _: 3.0 * jnp.sum(weights.params['1'])
    return state, [terms.Term(term)], COUNTS

  step = step_lib.make(
    _likelihood, {'1': ('1',)}, txs, {'1': 1}, age_groups=(), eos=-1,
    penalty=penalty,
    learns_rows=False,
  )  # fmt: skip
  before = _start(1, txs)
  after, metrics = jax.jit(step)(before, batch, {'1': jnp.asarray(False)})
  change = before.weights.params['1'] - after.weights.params['1']
  np.testing.assert_allclose(change, 3.0, rtol=1e-5)
  total = 3 * float(jnp.sum(before.weights.params['1']))
  np.testing.assert_allclose(metrics['loss'], total, rtol=1e-5)
  assert float(metrics['penalty_loss']) == 0
  assert {name: int(metrics[name]) for name in COUNTS} == COUNTS
