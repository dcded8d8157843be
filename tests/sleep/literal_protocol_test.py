"""The paper's literal protocol equals an independent implementation of it.

The reference is plain JAX and uses none of the package's modules: it has its
own network, Adam and nights. It receives all random quantities (the batches,
the initial experts, the rehearsals of the teacher) and must reach the same
weights, expert for expert.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import facts_literal
from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.sleep import imitation
from tests import testing

STEPS = 2
PERIODS, LAST = (
  {1: 1, 2: 2},
  3,
)  # Sleep at every update; the slowest level grows.
RATE_AWAKE, RATE_ASLEEP, UPDATES, B2 = 1e-2, 1e-2, 3, 0.98


# --- The reference -----------------------------------------------------------


def _norm(x, scale):
  return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def _rotate(x, half):
  angle = jnp.arange(x.shape[0])[:, None] * 1e4 ** (-jnp.arange(half) / half)
  cos, sin, one, two = jnp.cos(angle), jnp.sin(angle), x[:, :half], x[:, half:]
  return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], 1)


def _silu(x):
  return x / (1 + jnp.exp(-x))


def _logits(p, on, tokens, fresh=None):
  """Returns logits [T, V] of a sequence; `on`: active (level, slot) pairs."""
  h = p['embed'][tokens]
  size = p['blocks/attention/key_norm/scale'].shape[-1]
  mask = jnp.tril(jnp.ones((len(tokens), len(tokens)), bool))
  for layer in range(p['blocks/attention/key'].shape[0]):
    at = lambda name, n=layer: p[f'blocks/{name}'][n]
    x, heads = _norm(h, at('attention/norm/scale')), []
    for head in range(at('attention/query').shape[1] // size):
      cut = lambda name, n: (x @ at(name))[:, n * size : (n + 1) * size]  # noqa: B023
      q = _norm(cut('attention/query', head), at('attention/query_norm/scale'))
      k = _norm(cut('attention/key', head // 2), at('attention/key_norm/scale'))
      score = _rotate(q, size // 2) @ _rotate(k, size // 2).T / size**0.5
      score = jnp.where(mask, score, -1e30)
      weight = jnp.exp(score - score.max(1, keepdims=True))
      weight = weight / weight.sum(1, keepdims=True)
      heads.append(weight @ cut('attention/value', head // 2))
    h = h + jnp.concatenate(heads, 1) @ at('attention/out')
    for level in range(1, LAST + 1):
      x = _norm(h, at(f'levels/{level}/base/norm/scale'))
      gate, up, down = (
        at(f'levels/{level}/base/mlp/{name}') for name in ('gate', 'up', 'down')
      )
      y = (_silu(x @ gate) * (x @ up)) @ down
      active = [
        {k: at(f'levels/{level}/experts/{k}')[slot] for k in _EXPERT}
        for owner, slot in on if owner == level
      ]  # fmt: skip
      if fresh is not None and fresh[0] == level:
        active.append({k: leaf[layer] for k, leaf in fresh[1].items()})
      for e in active:
        u = x @ e['A']
        gate = 1 / (1 + jnp.exp(-(x @ e['router'] + e['bias'])))
        y = y + gate[:, None] * (u * _silu(u)) @ e['B']
      h = h + y
  return _norm(h, p['norm/scale']) @ p['embed'].T


_EXPERT = ('A', 'B', 'router', 'bias')


@jax.jit
def _adam(p, grads, moments, count, rate, b2):
  """Clips to norm 1 and applies Adam; returns parameters and moments."""
  norm = jnp.sqrt(sum(jnp.sum(g**2) for g in grads.values()))
  grads = {k: g / jnp.maximum(norm, 1) for k, g in grads.items()}
  moments = {
    k: (0.9 * m + 0.1 * grads[k], b2 * v + (1 - b2) * grads[k] ** 2)
    for k, (m, v) in moments.items()
  }
  step = lambda m, v: (
    (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - b2**count)) + 1e-8)
  )
  return {k: p[k] - rate * step(*moments[k]) for k in p}, moments


def _zero_moments(p):
  return {k: (0 * x, 0 * x) for k, x in p.items()}


def _night(p, on, sender, due, fresh, written):
  """Compute - consolidate - update, with the model at `now` as teacher.

  Args:
    p, on: parameters, and the active (level, slot) pairs.
    sender: level that sleeps.
    due: the sender's base after its due update.
    fresh: the initial expert.
    written: sequences [R, T], and where the generated tokens of each start
      and stop.
  """
  receiver = sender + 1
  student = {**p, **due}  # The sender wakes updated, its experts off.
  off = [(level, slot) for level, slot in on if level != sender]

  tokens, start, stop = written
  place = jnp.arange(tokens.shape[1])[None] + 1  # Of the predicted token.
  mask = (place >= start[:, None]) & (place < stop[:, None])

  def loss(fresh):
    t = jax.vmap(lambda row: _logits(p, on, row))(tokens)
    s = jax.vmap(lambda row: _logits(student, off, row, (receiver, fresh)))(
      tokens
    )
    t, s = jax.nn.log_softmax(t), jax.nn.log_softmax(s)
    value = jnp.sum(jnp.exp(t) * (t - s), -1)
    return jnp.sum(jnp.where(mask, value, 0)) / jnp.sum(mask)

  moments, grad = _zero_moments(fresh), jax.jit(jax.grad(loss))
  for update in range(UPDATES):
    rate = RATE_ASLEEP * 0.5 * (1 + np.cos(np.pi * update / UPDATES))
    fresh, moments = _adam(fresh, grad(fresh), moments, update + 1, rate, B2)
  slot = len([1 for level, _ in on if level == receiver])
  for name, leaf in fresh.items():
    path = f'blocks/levels/{receiver}/experts/{name}'
    student[path] = student[path].at[:, slot].set(leaf)
  return student, [*off, (receiver, slot)]


# --- The package -------------------------------------------------------------


def _config():
  """The literal study at a small size, so that its draws can be recorded."""
  literal = facts_literal.get_config().consolidate
  teachers = tuple(
    dict(t) | dict(sequences=2, draws=1) for t in literal.teachers
  )
  c = testing.config(
    *((period, period) for period in PERIODS.values()),
    **literal.to_dict() | dict(
      teachers=teachers, num_updates=UPDATES, updates_per_round=UPDATES,
      on_policy=0.0, max_length=10, max_new=6, prompt_width=5,
    ),
  )  # fmt: skip
  c.wake.optimizers = (dict(learning_rate=RATE_AWAKE),) * 2
  c.expert_optimizer = dict(learning_rate=RATE_ASLEEP, b2=B2)
  return c


@functools.cache
def _run():
  """Runs two steps and three nights; returns their random quantities."""
  programs, state = testing.make_run(
    _config(), testing.placement(data=1, fsdp=1, tensor=1)
  )
  start = {p: np.asarray(x) for p, x in state.weights.params.items()}
  nights, divergences = [], []
  for step in range(1, STEPS + 1):
    due = [level for level, period in PERIODS.items() if step % period == 0]
    state, _ = programs.wake(state, testing.batch(step), due)
    for sender in due:
      state = programs.fall_asleep(state, sender)
      fresh = {
        k: np.asarray(x) for k, x in state.night.fresh[str(sender + 1)].items()
      }
      state, metrics = programs.seed(state, sender)
      first = [jax.tree.map(lambda x: np.asarray(x)[:1], pool)
               for pool in state.night.pools.values()]  # fmt: skip
      both = jax.tree.map(lambda *x: np.concatenate(x), *first)
      rows = (both.tokens_BT, both.prompt_length_B, both.length_B)
      nights.append((step, sender, fresh, rows))
      divergences.append(float(metrics['loss'][0]))
      state = programs.wake_up(state, sender, accept=True, guard=0.0)
  return start, state, nights, divergences


def _reference(start, nights):
  """Runs the reference on the same random quantities."""
  p, on = {k: jnp.asarray(x) for k, x in start.items()}, []
  base = lambda level: {
    k: x for k, x in p.items() if k.startswith(f'blocks/levels/{level}/base/')
  }
  sums = {n: {k: 0 * x for k, x in base(n).items()} for n in PERIODS}
  moments = {n: _zero_moments(base(n)) for n in PERIODS}
  counts = dict.fromkeys(PERIODS, 0)

  @functools.partial(jax.jit, static_argnames='on')
  def gradient(moving, p, batch, on):
    def loss(moving):
      one = lambda row: _logits({**p, **moving}, on, row)
      log_p = jax.nn.log_softmax(jax.vmap(one)(batch.tokens_BT))
      score = jnp.take_along_axis(
        log_p[:, :-1], batch.tokens_BT[:, 1:, None], 2
      )[..., 0]
      return -jnp.sum(score * batch.loss_BT[:, 1:]) / jnp.sum(batch.loss_BT)

    return jax.grad(loss)(moving)

  remaining = iter(nights)
  for step in range(1, STEPS + 1):
    moving = {**base(1), **base(2)}
    grads = gradient(moving, p, testing.batch(step), on=tuple(on))
    for level in PERIODS:
      sums[level] = {k: x + grads[k] for k, x in sums[level].items()}
    for level, period in PERIODS.items():
      if step % period:
        continue
      counts[level] += 1
      due, moments[level] = _adam(
        base(level), sums[level], moments[level], counts[level], RATE_AWAKE,
        0.999,
      )  # fmt: skip
      sums[level] = {k: 0 * x for k, x in sums[level].items()}
      _, sender, fresh, written = next(remaining)
      assert sender == level
      p, on = _night(p, on, level, due, fresh, written)
  return p, on


@pytest.fixture(scope='module')
def both():
  start, state, nights, divergences = _run()
  with jax.numpy_rank_promotion('allow'):
    return state, nights, divergences, *_reference(start, nights)


def test_the_literal_protocol_gives_the_experts_of_the_reference(both):
  state, nights, _, p, on = both
  assert [(step, sender) for step, sender, *_ in nights] == [
    (1, 1), (2, 1), (2, 2),
  ]  # fmt: skip
  ours = np.argwhere(np.asarray(state.weights.active_NE) > 0) + [1, 0]
  assert sorted(map(tuple, ours.tolist())) == sorted(on) == [(3, 0)]
  for level, slot in on:
    for name in _EXPERT:
      path = f'blocks/levels/{level}/experts/{name}'
      one, two = (
        np.asarray(x[path])[:, slot] for x in (state.weights.params, p)
      )
      np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-5, err_msg=path)


def test_the_literal_protocol_gives_the_levels_of_the_reference(both):
  state, _, _, p, _ = both
  for path, leaf in state.weights.params.items():
    if 'experts' not in path:
      np.testing.assert_allclose(
        leaf, p[path], rtol=2e-3, atol=2e-5, err_msg=path
      )


def test_literal_nights_have_something_to_transfer(both):
  """Otherwise two implementations that do nothing would agree as well."""
  _, nights, divergences, _, _ = both
  assert all(d > 1e-5 for d in divergences)
  for *_, (_, start, stop) in nights:
    assert (stop > start).all()


# --- Gradients of the loss, on a vocabulary of two ---------------------------

ALPHA, BETAS = 0.3, (0.0, 0.4, 1.0)
TEACHER = np.array([[0.2, -0.4], [1.0, 0.3]])  # Logits, by the previous token.
STUDENT = np.array([[-0.3, 0.5], [0.1, -0.7]])
REWARD = np.array(
  [[1.0, 0.2], [0.0, 0.6]]
)  # Of the tokens t1 t2 after token 0.


def _softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _value(logits, beta):
  """Returns alpha GKD - (1 - alpha) E[r] of the sequence 0 1, in NumPy."""
  p, q = _softmax(TEACHER), _softmax(logits)
  kl = lambda a, b: np.sum(a * np.log(a / b), -1)
  m = beta * p + (1 - beta) * q
  d = {0.0: kl(p, q), 1.0: kl(q, p)}.get(
    beta, beta * kl(p, m) + (1 - beta) * kl(q, m)
  )
  expected_reward = sum(
    q[0, one] * q[one, two] * REWARD[one, two]
    for one in (0, 1) for two in (0, 1)
  )  # fmt: skip
  return ALPHA * d.mean() - (1 - ALPHA) * expected_reward


@pytest.mark.parametrize('beta', BETAS)
def test_gradients_equal_finite_differences_on_two_tokens(beta):
  """Completions are weighted by their probability: no sampling error."""
  sequences = [(0, one, two) for one in (0, 1) for two in (0, 1)]
  rollout = _rollout(sequences)
  reward_B = jnp.asarray([REWARD[one, two] for _, one, two in sequences])

  def loss(logits):
    probability_B = jax.lax.stop_gradient(
      jnp.stack([
        jax.nn.softmax(logits[0])[one] * jax.nn.softmax(logits[one])[two]
        for _, one, two in sequences
      ])
    )  # fmt: skip
    d = losses.divergence(jnp.asarray(TEACHER)[None], logits[None], beta=beta)
    logits_BGV = jnp.stack([jnp.stack([logits[0], logits[one]])
                            for _, one, _ in sequences])  # fmt: skip
    reward = imitation.reinforce_objective(
      logits_BGV,
      rollout,
      len(sequences) * probability_B * reward_B,
      temperature=1.0,
    )
    return ALPHA * jnp.mean(d) - (1 - ALPHA) * reward

  found = np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(STUDENT, jnp.float32)))
  expected, step = np.zeros((2, 2)), 1e-5
  for at in np.ndindex(2, 2):
    up, down = STUDENT.copy(), STUDENT.copy()
    up[at] += step
    down[at] -= step
    expected[at] = (_value(up, beta) - _value(down, beta)) / (2 * step)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def _rollout(sequences):
  tokens = jnp.asarray([[0, one, two] for _, one, two in sequences])
  ones = jnp.ones((len(sequences),), jnp.int32)
  return types.Rollout(tokens, ones, 3 * ones)
