"""Distillation of a routed model into a dense one."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.interop import dense_mlp, distilled_export, hf_export
from tests import testing

EOS = testing.VOCAB - 1
SETTINGS = distilled_export.Settings(
  steps=60, rollouts=64, batch=16, max_new=12, learning_rate=1e-2
)
PROMPTS = [[EOS - 1], [EOS - 1, 3, 5], [EOS - 1, 7]]


def _routed(**changes):
  """Returns a model with two active experts and an untrained faster level."""
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  if model.config.arrangement != 'depth':
    down = 'blocks/levels/1/base/mlp/down'
    weights = weights.with_params({down: weights.params[down] * 0})
  return model, testing.activate(weights, 2, 1, 3)


def _distil(model, weights, **changes):
  lines = []
  student, trained = distilled_export.distil(
    model, weights, PROMPTS, jax.random.key(0), eos=EOS, log_fn=lines.append,
    settings=dataclasses.replace(SETTINGS, **changes),
  )  # fmt: skip
  divergences = [float(re.search(r': ([0-9.]+)$', line)[1]) for line in lines]
  return student, trained, divergences


def _texts():
  tokens = jax.random.randint(jax.random.key(1), (4, 9), 0, testing.VOCAB)
  prompt_length, length = jnp.ones((4,), jnp.int32), jnp.full((4,), 9)
  return types.Rollout(tokens, prompt_length, length)


def _logits(model, weights):
  texts = _texts()
  rows = types.model_inputs(texts.tokens_BT, texts.length_B)
  return np.asarray(testing.forward(model)(weights, *rows))


@pytest.mark.parametrize(
  'norms', [dict(), dict(pre_norms=False, post_norms=True)]
)
def test_the_initial_student_is_exact_if_an_exact_export_exists(norms):
  model, weights = _routed(arrangement='independent', router='always', **norms)
  student, _, (before, _) = _distil(model, weights, steps=1)
  assert before == 0
  same, initial, _ = distilled_export.initial_student(
    model, weights, _texts(), jax.random.key(0)
  )
  assert same == student
  np.testing.assert_allclose(
    _logits(student, initial), _logits(model, weights), atol=1e-5
  )


@pytest.mark.parametrize(
  'changes',
  [
    dict(router='softmax', arrangement='independent'),
    dict(router='sigmoid', tied=False),
    dict(arrangement='depth', layer_levels=(2, 1)),
  ],
)
def test_distillation_lowers_the_divergence_and_gives_a_dense_model(
  tmp_path, changes
):
  model, weights = _routed(**changes)
  assert dense_mlp.reasons_not_dense(model, weights)
  student, trained, (before, after) = _distil(model, weights)
  assert after < 0.7 * before
  assert not dense_mlp.reasons_not_dense(student, trained)
  hf_export.save(student, trained, str(tmp_path / 'out'))
  # The weights of the base model are unchanged.
  expected = dict(
    dense_mlp.named_tensors(
      *_without_experts(model, weights), np.dtype('float32')
    )
  )
  for name, leaf in dense_mlp.named_tensors(
    *_without_experts(student, trained), np.dtype('float32')
  ):
    np.testing.assert_array_equal(leaf, expected[name])


def _without_experts(model, weights):
  """Returns the model with all experts off."""
  return model, weights.replace(active_NE=weights.active_NE * 0)


def test_distillation_without_active_experts_is_refused():
  model = testing.tiny()
  with pytest.raises(ValueError, match='No expert is active'):
    _distil(model, testing.weights(model))


def test_a_distillation_that_diverges_is_refused():
  model, weights = _routed(arrangement='independent', router='always')
  with pytest.raises(errors.DivergedError, match='rate of inf .* is nan'):
    _distil(model, weights, steps=3, learning_rate=float('inf'))
