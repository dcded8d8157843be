"""Divergences equal worked values; means depend on unmasked tokens alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.objectives import losses

P, Q = np.array([0.5, 0.25, 0.25]), np.array([0.1, 0.6, 0.3])


def _divergence(p, q, beta, **settings):
  logits = lambda x: jnp.log(jnp.asarray(x, jnp.float32))[None, None] + 3.0
  value = losses.divergence(logits(p), logits(q), beta=beta, **settings)
  return float(value[0, 0])


def _kl(p, q):
  return float(np.sum(p * np.log(p / q)))


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), 'f4')


def test_beta_0_and_1_give_the_two_kl_divergences():
  # 0.5 ln 5 + 0.25 ln (25/60) + 0.25 ln (25/30), and the reverse.
  assert _divergence(P, Q, 0.0) == pytest.approx(0.540278, abs=1e-5)
  assert _divergence(P, Q, 1.0) == pytest.approx(0.419034, abs=1e-5)
  assert _divergence(P, Q, 0.0) == pytest.approx(_kl(P, Q), abs=1e-5)
  assert _divergence(P, Q, 1.0) == pytest.approx(_kl(Q, P), abs=1e-5)


def test_other_betas_give_the_jensen_shannon_divergence():
  m = (P + Q) / 2
  expected = (_kl(P, m) + _kl(Q, m)) / 2
  assert _divergence(P, Q, 0.5) == pytest.approx(expected, abs=1e-6)
  m = 0.2 * P + 0.8 * Q
  expected = 0.2 * _kl(P, m) + 0.8 * _kl(Q, m)
  assert _divergence(P, Q, 0.2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('beta', [0.0, 0.3, 0.5, 1.0])
def test_a_divergence_is_positive_and_zero_between_equals(beta):
  p, q = 3 * _draw(4, 5, 7), 3 * _draw(4, 5, 7, seed=1)
  np.testing.assert_allclose(losses.divergence(p, p, beta=beta), 0, atol=1e-6)
  assert (np.asarray(losses.divergence(p, q, beta=beta)) > 1e-3).all()


def test_beta_one_half_is_symmetric_and_at_most_log_2():
  p, q = 20 * _draw(4, 5, 7), 20 * _draw(4, 5, 7, seed=1)
  value = np.asarray(losses.divergence(p, q, beta=0.5))
  np.testing.assert_allclose(
    value, losses.divergence(q, p, beta=0.5), atol=1e-5
  )
  assert value.max() <= np.log(2) + 1e-6
  assert value.max() > 0.6  # Nearly reached by unrelated logits.


@pytest.mark.parametrize('beta', [0.01, 0.99])
def test_beta_0_and_1_are_scaled_limits_of_betas_between(beta):
  scale = beta if beta < 0.5 else 1 - beta
  assert _divergence(P, Q, beta) / scale == pytest.approx(
    _divergence(P, Q, round(beta)), rel=0.02
  )


def test_temperature_applies_to_both_models():
  soft = lambda x: x**0.5 / np.sum(x**0.5)
  assert _divergence(P, Q, 0.0, temperature=2.0) == pytest.approx(
    _kl(soft(P), soft(Q)), abs=1e-5
  )


def test_the_gradient_of_the_forward_kl_is_q_minus_p():
  # d KL(p || softmax(z)) / dz = q - p.
  grad = jax.grad(
    lambda z: losses.divergence(jnp.log(P)[None, None], z, beta=0.0).sum()
  )(jnp.asarray(np.log(Q), jnp.float32)[None, None])
  np.testing.assert_allclose(grad[0, 0], Q - P, atol=1e-6)


def test_cross_entropy_of_a_worked_example():
  logits = jnp.log(jnp.array([[P, Q, [1 / 3] * 3]], jnp.float32))
  tokens = jnp.array([[2, 0, 1]])
  both = losses.next_token_loss(logits, tokens, jnp.array([[0.0, 1.0, 1.0]]))
  assert float(both) == pytest.approx(-np.log(0.5 * 0.6) / 2, abs=1e-6)
  last = losses.next_token_loss(logits, tokens, jnp.array([[0.0, 0.0, 1.0]]))
  assert float(last) == pytest.approx(-np.log(0.6), abs=1e-6)


def test_without_targets_the_loss_is_zero():
  loss = lambda z: losses.next_token_loss(
    z, jnp.zeros((1, 3), int), jnp.zeros((1, 3))
  )
  value, grad = jax.value_and_grad(loss)(_draw(1, 3, 4))
  assert value == 0
  assert not np.asarray(grad).any()


def _rollout(prompts, ends):
  return types.Rollout(
    tokens_BT=jnp.zeros((len(ends), 12), jnp.int32),
    prompt_length_B=jnp.array(prompts),
    length_B=jnp.array(ends),
  )


def test_only_generated_tokens_count():
  # Two tokens after a prompt of 2; the second row generated none.
  np.testing.assert_array_equal(
    losses.generated_mask(_rollout([2, 3], [4, 3]), 4),
    [[True, True, False, False], [False] * 4],
  )


def test_the_loss_ignores_row_order_and_padding():
  student, teacher = _draw(4, 6, 9), _draw(4, 6, 9, seed=1)
  prompts, ends = [1, 2, 3, 4], [5, 8, 4, 4]  # 4, 6, 1 and 0 generated.

  def loss(student, teacher, prompts, ends):
    value = losses.divergence(teacher, student, beta=0.5)
    mask = losses.generated_mask(_rollout(prompts, ends), value.shape[1])
    return float(losses.masked_mean(value, mask))

  plain = loss(student, teacher, prompts, ends)
  order = [2, 0, 3, 1]
  assert plain == pytest.approx(
    loss(
      student[jnp.array(order)], teacher[jnp.array(order)],
      [prompts[i] for i in order], [ends[i] for i in order],
    ),
    rel=1e-6,
  )  # fmt: skip
  wider = lambda x, fill: jnp.pad(
    x, ((0, 0), (0, 3), (0, 0)), constant_values=fill
  )
  padded = loss(wider(student, 50.0), wider(teacher, -1.0), prompts, ends)
  assert plain == pytest.approx(padded, rel=1e-6)
  longer = [x + 3 for x in prompts], [x + 3 for x in ends]
  assert plain == pytest.approx(loss(student, teacher, *longer), rel=1e-6)
  beyond = loss(student.at[0, 4, 0].set(77.0), teacher, prompts, ends)
  assert plain == pytest.approx(beyond, rel=1e-6)
  inside = loss(student.at[0, 3, 0].set(77.0), teacher, prompts, ends)
  assert plain != pytest.approx(inside, rel=1e-3)


def test_a_masked_mean_is_over_tokens_not_rows():
  values = jnp.array([[1.0, 1.0, 1.0], [5.0, jnp.inf, jnp.nan]])
  mask = jnp.array([[1, 1, 1], [1, 0, 0]])
  assert float(losses.masked_mean(values, mask)) == 2.0
  assert float(losses.masked_mean(values, 0 * mask)) == 0.0
