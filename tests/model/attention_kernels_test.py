"""Tests of attention masks, grouped heads and the agreement of kernels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import attention_kernels, splash_attention
from tests import testing


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), 'f4')


def test_a_token_attends_to_the_prefix_and_its_own_past():
  mask = attention_kernels.causal_mask(jnp.array([[0, 0, 1, 1, 2, -1]]))
  np.testing.assert_array_equal(
    mask[0].astype(int),
    [
      [1, 0, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0],
      [1, 1, 1, 0, 0, 0],
      [1, 1, 1, 1, 0, 0],
      [1, 1, 0, 0, 1, 0],
      [1, 1, 0, 0, 0, 0],  # No token attends to padding, not even padding.
    ],
  )


def test_grouped_queries_equal_full_heads_with_repeated_keys():
  q, k, v = (
    _draw(2, 3, 4, 8),
    _draw(2, 5, 2, 8, seed=1),
    _draw(2, 5, 2, 8, seed=2),
  )
  mask = jnp.asarray(np.random.default_rng(3).random((2, 3, 5)) < 0.7)
  mask = mask.at[:, :, 0].set(True)
  repeat = lambda x: jnp.repeat(x, 2, axis=2)
  np.testing.assert_allclose(
    attention_kernels.attend(q, k, v, mask),
    attention_kernels.attend(q, repeat(k), repeat(v), mask),
    atol=1e-6,
  )


def test_attention_equals_its_formula():
  q, k, v = (_draw(1, 3, 1, 4, seed=s) for s in range(3))
  mask = np.tril(np.ones((3, 3), bool))
  scores = np.asarray(q)[0, :, 0] @ np.asarray(k)[0, :, 0].T / 2
  scores = np.where(mask, scores, -np.inf)
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  np.testing.assert_allclose(
    attention_kernels.attend(q, k, v, jnp.asarray(mask)[None])[0, :, 0],
    weights @ np.asarray(v)[0, :, 0],
    atol=1e-6,
  )


@pytest.mark.parametrize('settings', [{}, dict(scale=0.7, cap=0.5)])
def test_attention_to_a_cache_equals_attention_to_a_row(settings):
  q = _draw(2, 1, 6, 8)
  k, v = (_draw(2, 5, 2, 8, seed=seed) for seed in (1, 2))
  mask = jnp.asarray([[[True, False, True, True, False]], [[True] * 5]])
  np.testing.assert_allclose(
    attention_kernels.attend_cached(
      q, k.swapaxes(1, 2), v.swapaxes(1, 2), mask, **settings
    ),
    attention_kernels.attend(q, k, v, mask, **settings),
    atol=1e-6,
  )


def test_a_token_without_visible_keys_gives_finite_values():
  x = _draw(1, 2, 2, 4)
  y = attention_kernels.attend(x, x, x, jnp.zeros((1, 2, 2), bool))
  assert np.isfinite(np.asarray(y)).all()


SEGMENTS = jnp.array([[1] * 50 + [2] * 60 + [-1] * 20, [1] * 130])
SETTINGS = [
  dict(),
  dict(scale=0.3, cap=2.0),
  dict(window=9, local=True),
  dict(window=9, local=False),
]


def _xla(q, k, v, *, window=0, local=None, **settings):
  mask = attention_kernels.causal_mask(SEGMENTS)
  if window and local:
    positions = jnp.broadcast_to(jnp.arange(130)[None], SEGMENTS.shape)
    mask = attention_kernels.local_mask(
      mask, positions, positions, jnp.asarray(True), window
    )
  return attention_kernels.attend(q, k, v, mask, **settings)


def _splash(q, k, v, *, window=0, local=None, **settings):
  local = None if local is None else jnp.asarray(local)
  return splash_attention.attend(
    q, k, v, SEGMENTS, local, window=window, **settings
  )


def _attend_with_gradients(function, settings):
  """Returns the outputs and the gradients, without those of padding."""
  q = _draw(2, 130, 4, 8)
  k, v = (_draw(2, 130, 2, 8, seed=seed) for seed in (1, 2))
  valid = (SEGMENTS > 0)[..., None, None]

  def total(q, k, v):
    y = jnp.where(valid, function(q, k, v, **settings), 0)
    return jnp.sum(jnp.sin(y)), y

  grads, y = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(q, k, v)
  return y, *grads


@pytest.mark.parametrize('settings', SETTINGS)
def test_splash_attention_equals_xla_attention(settings):
  """With padding, grouped heads and packed rows, in interpret mode."""
  for found, expected in zip(
    _attend_with_gradients(_splash, settings),
    _attend_with_gradients(_xla, settings),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
  'mesh, settings',
  [
    (dict(data=2, fsdp=1, tensor=2), {}),
    (dict(data=1, fsdp=2, tensor=1, sequence=2), SETTINGS[1]),
    (dict(data=1, fsdp=1, tensor=2, sequence=4), SETTINGS[2]),
  ],
)
def test_splash_attention_on_a_mesh_equals_one_device(mesh, settings):
  placement = testing.placement(**mesh)
  with jax.set_mesh(placement.mesh):
    sharded = _attend_with_gradients(_splash, settings)
  unsharded = _attend_with_gradients(_splash, settings)
  for found, expected in zip(sharded, unsharded, strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_gives_the_same_logits_with_splash_and_xla():
  model = testing.tiny()
  config = dataclasses.replace(model.config, attention='splash')
  splash = dataclasses.replace(model, config=config)
  weights, batch = testing.weights(model), testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  valid = np.asarray(batch.segments_BT > 0)
  np.testing.assert_allclose(
    np.asarray(jax.jit(splash.forward)(weights, *rows))[valid],
    np.asarray(model.forward(weights, *rows))[valid],
    atol=1e-4,
  )


def test_auto_selects_splash_only_on_one_device_or_a_known_mesh(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert attention_kernels.resolve_kernel('auto') == 'xla'
  with jax.set_mesh(testing.placement(data=8, fsdp=1, tensor=1).mesh):
    assert attention_kernels.resolve_kernel('auto') == 'splash'
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  assert attention_kernels.resolve_kernel('auto') == 'splash'


def test_cudnn_attention_with_sharded_positions_is_refused():
  q = _draw(2, 4, 2, 8).astype(jnp.bfloat16)
  positions = jnp.broadcast_to(jnp.arange(4)[None], (2, 4))
  mask = attention_kernels.causal_mask(jnp.ones((2, 4), jnp.int32))
  config = testing.tiny(attention='cudnn').config
  mesh = testing.placement(data=1, fsdp=1, sequence=2, tensor=1).mesh
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match="sequence is 2, but cuDNN.*ion='xla'"),
  ):
    attention_kernels.self_attention(q, q, q, mask, positions, None, config)
