"""EWC: the Fisher has its closed form, the penalty is 0 at the optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.strategies import ewc
from tests import testing
from tests.strategies import methods

V = 5


def _likelihood(weights, tokens_BT, *_):
  """Multinomial logistic regression: the logits of x are the row W[x]."""
  return losses.log_likelihood(weights.params['w'][tokens_BT], tokens_BT)


def _weights(seed=0):
  w = np.random.default_rng(seed).normal(size=(V, V)).astype('f4')
  return types.Weights({'w': jnp.asarray(w)}, jnp.zeros((1, 1)))


def _batch(seed=0):
  made = testing.batch(seed)
  return made.replace(tokens_BT=made.tokens_BT % V)


def test_the_fisher_of_logistic_regression_has_its_closed_form():
  """The gradient of log p(y | x) by row W[x] is e_y - p(x)."""
  weights, batch = _weights(), _batch()
  found = ewc.squared_gradients(_likelihood, weights, ('w',), batch)['w']
  w = np.asarray(weights.params['w'], 'f8')
  odds = np.exp(w) / np.exp(w).sum(1, keepdims=True)
  expected = np.zeros((V, V))
  for tokens, loss in zip(batch.tokens_BT, batch.loss_BT, strict=True):
    row = np.zeros((V, V))  # A row of several tokens is one example.
    for x, y, on in zip(tokens[:-1], tokens[1:], loss[1:], strict=True):
      row[x] += on * (np.eye(V)[y] - odds[x])
    expected += row**2
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_fisher_is_not_the_square_of_the_mean_gradient():
  """Two rows whose gradients cancel have a Fisher above 0."""
  batch = _batch()
  pair = jax.tree.map(lambda x: x[:2], batch).replace(
    tokens_BT=jnp.asarray([[0, 1, 0, 0, 0], [0, 2, 0, 0, 0]]),
    loss_BT=jnp.asarray([[0, 1.0, 0, 0, 0]] * 2),
  )
  half = np.zeros((V, V), 'f4')
  half[0, [0, 3, 4]] = -30  # p(1 | 0) = p(2 | 0) = 1/2.
  weights = types.Weights({'w': jnp.asarray(half)}, jnp.zeros((1, 1)))
  found = ewc.squared_gradients(_likelihood, weights, ('w',), pair)['w']
  np.testing.assert_allclose(found[0], [0, 0.5, 0.5, 0, 0], atol=1e-5)


def _own(seed=0):
  random = np.random.default_rng(seed)
  draw = lambda: jnp.asarray(random.uniform(1, 2, (3, 2)), jnp.float32)
  return {'fisher': {'w': draw()}, 'optimum': {'w': draw()},
          'squares': {'w': draw()}}  # fmt: skip


def test_the_gradient_of_the_penalty_is_zero_at_the_optimum_and_grows():
  own = _own()
  gradient = lambda params: jax.grad(ewc.penalty)(params, own, 3.0)['w']
  assert not np.asarray(gradient(own['optimum'])).any()
  away = {'w': own['optimum']['w'] + 0.5}
  np.testing.assert_allclose(
    gradient(away), 3.0 * own['fisher']['w'] * 0.5, rtol=1e-6
  )


def test_the_penalty_of_a_step_decays_as_the_fisher_of_earlier_experiences():
  made = methods.Made(ewc.make(2), weight=3.0, decay=0.5)
  own = made.state.strategy
  own = own | {'fisher': jax.tree.map(jnp.ones_like, own['fisher'])}
  later = methods.moved(made.state).replace(strategy=own)
  trained = {path: later.weights.params[path] for path in own['optimum']}
  found = float(made.penalty(later, testing.batch()))
  assert found == pytest.approx(float(ewc.penalty(trained, own, 1.5)), rel=1e-5)
  assert found > 0


def test_earlier_fishers_decay_and_each_new_one_has_the_mean_one():
  own, params = _own(), {'w': jnp.ones((3, 2))}
  after = ewc.add_fisher(own, params, 0.5)
  new = after['fisher']['w'] - 0.5 * own['fisher']['w']
  np.testing.assert_allclose(np.mean(new), 1, rtol=1e-5)
  squares = own['squares']['w']
  np.testing.assert_allclose(new, squares / np.mean(squares), rtol=1e-5)
  assert testing.same(after['optimum'], params)
  # An experience without rows adds nothing.
  again = ewc.add_fisher(after, params, 0.5)
  np.testing.assert_allclose(again['fisher']['w'], 0.5 * after['fisher']['w'])
