"""The divergence from a frozen model, and the strategies that add it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.schedule import events
from sleep_jax.strategies import anchor_kl, distillation, lwf
from tests import testing
from tests.strategies import methods


class _Table:
  """A model whose logits of a token are a row of its only parameter."""

  def forward(self, weights, tokens_BT, *_):
    return weights.params['w'][tokens_BT]


def _weights(w):
  return types.Weights({'w': jnp.asarray(w)}, jnp.zeros((1, 1)))


def _value(teacher, student, target_BT=None, **settings):
  """Divergence of two tables on two rows of three tokens."""
  tokens_BT = jnp.asarray([[0, 1, 2], [0, 2, 1]])
  if target_BT is None:
    target_BT = jnp.asarray([[0, 1.0, 1], [0, 1, 0]])
  rows = tokens_BT, jnp.ones_like(tokens_BT), tokens_BT
  return distillation.mean_divergence(
    _Table(), _weights(teacher), _weights(student), rows, target_BT, **settings
  )


@pytest.fixture
def tables():
  random = np.random.default_rng(0)
  return [random.normal(size=(3, 4)).astype('f4') for _ in range(2)]


@pytest.mark.parametrize('temperature', [1.0, 2.0])
@pytest.mark.parametrize('num', [1, 2])
def test_it_is_the_mean_over_targets_of_the_divergence(
  tables, temperature, num
):
  def softmax(x):
    odds = np.exp(x / temperature)
    return odds / odds.sum()

  def kl(token):
    p, q = (softmax(table[token]) for table in tables)
    return np.sum(p * np.log(p / q))

  # The targets are predicted from the tokens before them: 0 and 1, and 0.
  expected = (kl(0) + kl(1) + kl(0)) / 3
  found = _value(*tables, temperature=temperature, num=num)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_only_the_model_gets_a_gradient(tables):
  for_teacher, for_student = jax.grad(_value, argnums=(0, 1))(*tables)
  assert not np.asarray(for_teacher).any()
  assert np.asarray(for_student)[:2].all()


def test_rows_without_a_target_count_nothing(tables):
  assert float(_value(*tables, jnp.zeros((2, 3)))) == 0


def test_of_lwf_it_is_zero_until_the_model_differs_from_the_old_one():
  made = methods.Made(lwf.make(2))
  batch = testing.batch()
  assert float(made.penalty(made.state, batch)) == pytest.approx(0, abs=1e-6)
  later = methods.moved(made.state)
  assert float(made.penalty(later, batch)) > 1e-3
  # The next experience begins with this model as the old one.
  later = made.finish(later, events.END)
  assert float(made.penalty(later, batch)) == pytest.approx(0, abs=1e-6)


def test_of_lwf_it_is_the_weighted_divergence_at_the_temperature():
  made = methods.Made(lwf.make(2), weight=3.0, temperature=2.0)
  later, batch = methods.moved(made.state), testing.batch()
  value = distillation.mean_divergence(
    made.model, made.state.weights, later.weights,
    (batch.tokens_BT, batch.segments_BT, batch.positions_BT), batch.loss_BT,
    temperature=2.0,
  )  # fmt: skip
  found = float(made.penalty(later, batch))
  assert found == pytest.approx(3 * 4 * float(value), rel=1e-4)


def test_of_anchor_kl_it_is_zero_only_at_the_initial_model():
  made = methods.Made(anchor_kl.make(2), texts=8, sequences=8)
  state, batch = made.finish(made.state, events.INITIAL), testing.batch()
  assert float(made.penalty(state, batch)) == pytest.approx(0, abs=1e-6)
  moved = methods.moved(state)
  assert float(made.penalty(moved, batch)) > 1e-3


def test_of_anchor_kl_the_initial_model_writes_texts_from_bos():
  made = methods.Made(anchor_kl.make(2), texts=8, sequences=8)
  texts = made.finish(made.state, events.INITIAL).strategy['texts']
  assert (np.asarray(texts.tokens_BT[:, 0]) == testing.BOS).all()
  assert (np.asarray(texts.length_B) > 1).all()
  assert len({tuple(row) for row in np.asarray(texts.tokens_BT)}) > 1
