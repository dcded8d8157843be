"""Tests that the cap of logits is applied wherever logits are computed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax import types
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
  return types.model_inputs(batch.tokens_BT, jnp.sum(batch.segments_BT > 0, 1))


def test_logits_are_below_the_cap_and_follow_tanh(capped):
  model, weights = capped
  uncapped = np.asarray(testing.tiny().forward(weights, *_rows()))
  found = np.asarray(model.forward(weights, *_rows()))
  assert np.abs(uncapped).max() > 2 * CAP and np.abs(found).max() < CAP
  np.testing.assert_allclose(found, CAP * np.tanh(uncapped / CAP), atol=1e-5)


def test_decoding_gives_the_logits_of_whole_rows(capped):
  model, weights = capped
  tokens, _, _ = _rows()
  whole = jax.jit(model.forward)(weights, *_rows())
  length_B = jnp.full((len(tokens),), 3)  # Rows have at least four tokens.
  first_BV, cache = jax.jit(functools.partial(model.prefill, cache_size=4))(
    weights, tokens[:, :3], length_B
  )
  next_BV, _ = jax.jit(model.decode)(
    weights, tokens[:, 3], length_B, jnp.ones((len(tokens), 4), bool), cache,
    jnp.int32(3),
  )  # fmt: skip
  np.testing.assert_allclose(first_BV, whole[:, 2], atol=1e-5)
  np.testing.assert_allclose(next_BV, whole[:, 3], atol=1e-5)


def test_likelihoods_of_answers_match_capped_logits(capped):
  model, weights = capped
  rollout = answer_likelihood.append_answers(testing.probes())
  found, _ = answer_likelihood.log_likelihood(model, weights, rollout, 2)
  rows = types.model_inputs(rollout.tokens_BT, rollout.length_B)
  whole = losses.log_likelihood(model.forward(weights, *rows), rows[0])
  at = rollout.prompt_length_B[:, None] - 1 + jnp.arange(2)[None]
  np.testing.assert_allclose(
    found, jnp.take_along_axis(whole, at, 1), atol=1e-5
  )


@pytest.mark.parametrize('beta', [0.0, 0.5, 1.0])
def test_the_divergence_of_a_night_uses_capped_logits(capped, beta):
  """The divergence in blocks and its gradient equal those of full logits."""
  model, weights = capped
  settings = testing.config().consolidate.to_dict() | dict(
    beta=beta, block_tokens=7, block_vocab=10
  )
  night = consolidation.Consolidation(
    model, optax.sgd(1.0), testing.templates(), testing.BOS, testing.EOS,
    testing.judge, settings_checks.make_settings(**settings), 1, optax.sgd(1.0),
  )  # fmt: skip
  teacher, rows = testing.weights(model, seed=1), _rows()
  all_positions = jnp.broadcast_to(
    jnp.arange(rows[0].shape[1])[None], rows[0].shape
  )
  states = lambda weights: model.states_at(weights, *rows, all_positions)
  path = 'blocks/attention/query'

  def in_blocks(query):
    student = weights.with_params({path: query})
    rollout = types.Rollout(*rows[:1], 0, 0, states_BGD=states(teacher))
    return jnp.sum(night.divergence(teacher, student, rollout, states(student)))

  def in_full(query):
    student = weights.with_params({path: query})
    p, q = (model.forward(x, *rows) for x in (teacher, student))
    return jnp.sum(losses.divergence(p, q, beta=beta))

  found, expected = (
    jax.jit(jax.value_and_grad(f))(weights.params[path])
    for f in (in_blocks, in_full)
  )
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-5)
  assert np.abs(expected[1]).max() > 1e-2
