"""Who sees whom, how heads are shared, and that all kernels agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import attention_kernels, splash_attention
from tests import testing


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), 'f4')


def test_a_token_sees_the_prefix_and_its_own_past():
  seen = attention_kernels.causal_mask(jnp.array([[0, 0, 1, 1, 2, -1]]))[
    0
  ].astype(int)
  np.testing.assert_array_equal(
    seen,
    [
      [1, 0, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0],
      [1, 1, 1, 0, 0, 0],
      [1, 1, 1, 1, 0, 0],
      [1, 1, 0, 0, 1, 0],
      [1, 1, 0, 0, 0, 0],  # Padding is seen by nobody, itself included.
    ],
  )


def test_grouped_queries_equal_heads_whose_keys_are_repeated():
  q, k, v = (
    _draw(2, 3, 4, 8),
    _draw(2, 5, 2, 8, seed=1),
    _draw(2, 5, 2, 8, seed=2),
  )
  mask = jnp.asarray(np.random.default_rng(3).random((2, 3, 5)) < 0.7)
  mask = mask.at[:, :, 0].set(True)
  whole = lambda x: jnp.repeat(x, 2, axis=2)
  np.testing.assert_allclose(
    attention_kernels.attend(q, k, v, mask),
    attention_kernels.attend(q, whole(k), whole(v), mask),
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


@pytest.mark.parametrize('how', [{}, dict(scale=0.7, cap=0.5)])
def test_one_token_attends_to_a_cache_as_to_a_row(how):
  q = _draw(2, 1, 6, 8)
  k, v = (_draw(2, 5, 2, 8, seed=seed) for seed in (1, 2))
  mask = jnp.asarray([[[True, False, True, True, False]], [[True] * 5]])
  np.testing.assert_allclose(
    attention_kernels.attend_cached(
      q, k.swapaxes(1, 2), v.swapaxes(1, 2), mask, **how
    ),
    attention_kernels.attend(q, k, v, mask, **how),
    atol=1e-6,
  )


def test_a_token_that_sees_nothing_stays_finite():
  x = _draw(1, 2, 2, 4)
  y = attention_kernels.attend(x, x, x, jnp.zeros((1, 2, 2), bool))
  assert np.isfinite(np.asarray(y)).all()


SEGMENTS = jnp.array([[1] * 50 + [2] * 60 + [-1] * 20, [1] * 130])
HOW = [
  dict(),
  dict(scale=0.3, cap=2.0),
  dict(window=9, local=True),
  dict(window=9, local=False),
]


def _plain(q, k, v, *, window=0, local=None, **how):
  mask = attention_kernels.causal_mask(SEGMENTS)
  if window and local:
    place = jnp.broadcast_to(jnp.arange(130)[None], SEGMENTS.shape)
    mask = attention_kernels.local_mask(
      mask, place, place, jnp.asarray(True), window
    )
  return attention_kernels.attend(q, k, v, mask, **how)


def _splash(q, k, v, *, window=0, local=None, **how):
  local = None if local is None else jnp.asarray(local)
  return splash_attention.attend(q, k, v, SEGMENTS, local, window=window, **how)


def _read(function, how):
  """What is read, and the gradient, where there is no padding."""
  q = _draw(2, 130, 4, 8)
  k, v = (_draw(2, 130, 2, 8, seed=seed) for seed in (1, 2))
  valid = (SEGMENTS > 0)[..., None, None]

  def total(q, k, v):
    y = jnp.where(valid, function(q, k, v, **how), 0)
    return jnp.sum(jnp.sin(y)), y

  grads, y = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))(q, k, v)
  return y, *grads


@pytest.mark.parametrize('how', HOW)
def test_a_kernel_for_tpus_reads_as_plain_attention_does(how):
  """Padded, grouped, packed; here as its interpreter runs it."""
  for ours, plain in zip(_read(_splash, how), _read(_plain, how), strict=True):
    np.testing.assert_allclose(ours, plain, atol=2e-5)


@pytest.mark.parametrize(
  'mesh, how',
  [
    (dict(data=2, fsdp=1, tensor=2), {}),
    (dict(data=1, fsdp=2, tensor=1, sequence=2), HOW[1]),
    (dict(data=1, fsdp=1, tensor=2, sequence=4), HOW[2]),
  ],
)
def test_each_device_reads_its_own_rows_heads_and_places(mesh, how):
  place = testing.placement(**mesh)
  with jax.set_mesh(place.mesh):
    spread = _read(_splash, how)
  for ours, whole in zip(spread, _read(_splash, how), strict=True):
    np.testing.assert_allclose(ours, whole, atol=1e-5)


def test_a_model_says_the_same_by_either_kernel():
  model = testing.tiny()
  kind = dataclasses.replace(model.config, attention='splash')
  other = dataclasses.replace(model, config=kind)
  weights, batch = testing.weights(model), testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  inside = np.asarray(batch.segments_BT > 0)
  np.testing.assert_allclose(
    np.asarray(jax.jit(other.forward)(weights, *rows))[inside],
    np.asarray(model.forward(weights, *rows))[inside],
    atol=1e-4,
  )


def test_a_kernel_that_is_not_split_is_left_where_no_mesh_is_known(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  assert attention_kernels.resolve_kernel('auto') == 'xla'
  with jax.set_mesh(testing.placement(data=8, fsdp=1, tensor=1).mesh):
    assert attention_kernels.resolve_kernel('auto') == 'splash'
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  assert attention_kernels.resolve_kernel('auto') == 'splash'


def test_a_kernel_that_does_not_share_out_rows_says_so():
  q = _draw(2, 4, 2, 8).astype(jnp.bfloat16)
  place = jnp.broadcast_to(jnp.arange(4)[None], (2, 4))
  seen = attention_kernels.causal_mask(jnp.ones((2, 4), jnp.int32))
  config = testing.tiny(attention='cudnn').config
  mesh = testing.placement(data=1, fsdp=1, sequence=2, tensor=1).mesh
  with (
    jax.set_mesh(mesh),
    pytest.raises(ValueError, match="sequence is 2, but cuDNN.*ion='xla'"),
  ):
    attention_kernels.self_attention(q, q, q, seen, place, None, config)
