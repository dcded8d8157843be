"""A dense student says what its routed teacher does, nearly."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.interop import dense_mlp, distilled_export, hf_export
from sleep_jax.model import transformer
from tests import testing

EOS = testing.VOCAB - 1
SETTINGS = distilled_export.Settings(
  steps=60, rollouts=64, batch=16, max_new=12, learning_rate=1e-2
)
PROMPTS = [[EOS - 1], [EOS - 1, 3, 5], [EOS - 1, 7]]


def _routed(**changes):
  """A model with two experts on, whose faster level has learned nothing."""
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  if model.config.arrangement != 'depth':
    still = 'blocks/levels/1/base/mlp/down'
    weights = weights.with_params({still: weights.params[still] * 0})
  return model, testing.activate(weights, 2, 1, 3)


def _taught(model, weights, **changes):
  said = []
  student, taught = distilled_export.distil(
    model, weights, PROMPTS, jax.random.key(0), eos=EOS, log_fn=said.append,
    settings=dataclasses.replace(SETTINGS, **changes),
  )  # fmt: skip
  numbers = [float(re.search(r': ([0-9.]+)$', line)[1]) for line in said]
  return student, taught, numbers


def _texts():
  tokens = jax.random.randint(jax.random.key(1), (4, 9), 0, testing.VOCAB)
  one, length = jnp.ones((4,), jnp.int32), jnp.full((4,), 9)
  return types.Rollout(tokens, one, length)


def _logits(model, weights):
  texts = _texts()
  rows = transformer.rows(texts.tokens_BT, texts.length_B)
  return np.asarray(testing.forward(model)(weights, *rows))


def test_where_an_exact_export_is_the_student_begins_as_it():
  model, weights = _routed(arrangement='independent', router='always')
  student, taught, (before, _) = _taught(model, weights, steps=1)
  assert before == 0
  same, begun, _ = distilled_export.initial_student(
    model, weights, _texts(), jax.random.key(0)
  )
  assert same == student
  np.testing.assert_allclose(
    _logits(student, begun), _logits(model, weights), atol=1e-5
  )


@pytest.mark.parametrize(
  'changes',
  [
    dict(router='sigmoid'),
    dict(router='softmax', arrangement='independent'),
    dict(router='centroid', tied=False),
    dict(arrangement='depth', layer_levels=(2, 1)),
  ],
)
def test_a_student_comes_nearer_and_can_be_exported(tmp_path, changes):
  model, weights = _routed(**changes)
  assert dense_mlp.reason_not_dense(model, weights)
  student, taught, (before, after) = _taught(model, weights)
  assert after < 0.7 * before
  assert not dense_mlp.reason_not_dense(student, taught)
  hf_export.save(student, taught, str(tmp_path / 'out'))
  # The host's own weights have not moved.
  named = dict(
    dense_mlp.named_tensors(*_base_model(model, weights), np.dtype('float32'))
  )
  for name, leaf in dense_mlp.named_tensors(
    *_base_model(student, taught), np.dtype('float32')
  ):
    np.testing.assert_array_equal(leaf, named[name])


def _base_model(model, weights):
  """A model less all experts."""
  return model, weights.replace(active_NE=weights.active_NE * 0)


def test_without_experts_there_is_nothing_to_distil():
  model = testing.tiny()
  with pytest.raises(ValueError, match='No expert is active'):
    _taught(model, testing.weights(model))
