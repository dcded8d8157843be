"""A cap on logits holds wherever logits are made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax.model import transformer
from sleep_jax.objectives import answer_likelihood, losses
from sleep_jax.sleep import consolidation, settings_checks
from tests import testing

CAP = 1.0


@pytest.fixture(scope='module')
def capped():
  model = testing.tiny(logit_cap=CAP)
  return model, testing.weights(model)


def _rows():
  batch = testing.batch()
  return transformer.rows(batch.tokens_BT, jnp.sum(batch.segments_BT > 0, 1))


def test_logits_near_the_cap_and_keep_their_order(capped):
  model, weights = capped
  plain = np.asarray(testing.tiny().forward(weights, *_rows()))
  found = np.asarray(model.forward(weights, *_rows()))
  assert np.abs(plain).max() > 2 * CAP and np.abs(found).max() < CAP
  np.testing.assert_allclose(found, CAP * np.tanh(plain / CAP), atol=1e-5)


def test_decoding_is_reading(capped):
  model, weights = capped
  tokens, _, _ = _rows()
  whole = jax.jit(model.forward)(weights, *_rows())
  size = jnp.full((len(tokens),), 3)  # Rows have four tokens, and more.
  first_BV, cache = jax.jit(functools.partial(model.prefill, cache_size=4))(
    weights, tokens[:, :3], size
  )
  next_BV, _ = jax.jit(model.decode)(
    weights, tokens[:, 3], size, jnp.ones((len(tokens), 4), bool), cache,
    jnp.int32(3),
  )  # fmt: skip
  np.testing.assert_allclose(first_BV, whole[:, 2], atol=1e-5)
  np.testing.assert_allclose(next_BV, whole[:, 3], atol=1e-5)


def test_answers_are_as_likely_as_the_logits_say(capped):
  model, weights = capped
  rollout = answer_likelihood.append_answers(testing.probes())
  found, _ = answer_likelihood.log_likelihood(model, weights, rollout, 2)
  rows = transformer.rows(rollout.tokens_BT, rollout.length_B)
  whole = losses.log_likelihood(model.forward(weights, *rows), rows[0])
  at = rollout.prompt_length_B[:, None] - 1 + jnp.arange(2)[None]
  np.testing.assert_allclose(
    found, jnp.take_along_axis(whole, at, 1), atol=1e-5
  )


@pytest.mark.parametrize('beta', [0.0, 0.5, 1.0])
def test_a_night_compares_capped_predictions(capped, beta):
  """Its divergence in blocks, and the gradient, are those of whole logits."""
  model, weights = capped
  settings = testing.config().consolidate.to_dict() | dict(
    beta=beta, block_tokens=7, block_vocab=10
  )
  night = consolidation.Consolidation(
    model, optax.sgd(1.0), testing.templates(), testing.BOS, testing.EOS,
    testing.judge, settings_checks.make_settings(**settings), 1, optax.sgd(1.0),
  )  # fmt: skip
  teacher, rows = testing.weights(model, seed=1), _rows()
  everywhere = jnp.broadcast_to(
    jnp.arange(rows[0].shape[1])[None], rows[0].shape
  )
  states = lambda weights: model.states_at(weights, *rows, everywhere)
  path = 'blocks/attention/query'

  def blocks(query):
    student = weights.with_params({path: query})
    return jnp.sum(
      night.divergence(teacher, student, states(teacher), states(student))
    )

  def whole(query):
    student = weights.with_params({path: query})
    p, q = (model.forward(x, *rows) for x in (teacher, student))
    return jnp.sum(losses.divergence(p, q, beta=beta))

  found, wanted = (
    jax.jit(jax.value_and_grad(f))(weights.params[path])
    for f in (blocks, whole)
  )
  np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
  np.testing.assert_allclose(found[1], wanted[1], rtol=1e-3, atol=1e-5)
  assert np.abs(wanted[1]).max() > 1e-2
