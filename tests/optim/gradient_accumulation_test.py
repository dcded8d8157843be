"""Tests that micro-batches, remat and blocks change no results."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.objectives import chunked_losses, losses
from sleep_jax.optim import gradient_accumulation
from tests import testing

ONE = dict(data=1, fsdp=1, tensor=1)


def test_micro_batches_give_the_sums_and_rows_of_the_whole_batch():
  x_BD = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), 'f4')
  w = jnp.ones((3,))

  def function(w, x):
    y_B = jnp.tanh(x @ w)
    return jnp.sum(y_B), ({'square': jnp.sum(y_B**2)}, {'each': y_B})

  whole = gradient_accumulation.value_and_grad(function, w, x_BD)
  for num in (2, 4, 8):
    testing.close(
      whole, gradient_accumulation.value_and_grad(function, w, x_BD, num=num)
    )


def _after(c):
  """Returns the results of a day of two steps and of an update of a night."""
  program, state = testing.make_run(c, testing.placement(**ONE))
  for step in range(2):
    state, _ = program.wake(state, testing.batch(step), ())
  day = jax.device_get(state.weights.params)
  state = program.fall_asleep(state, 1)
  state, metrics = program.seed(state, 1)
  return day, jax.device_get((state.night.fresh, metrics['next_day']))


def test_a_run_in_micro_batches_equals_the_run_without_them():
  whole, parts = testing.short_config(), testing.short_config()
  parts.wake.update(micro_batches=4, block_tokens=16)
  parts.consolidate.micro_batches = 2
  # Also recomputes blocks in the backward pass.
  parts.model.remat = 'full'
  (day, night), (other, night_too) = _after(whole), _after(parts)
  testing.close(day, other, 1e-4)
  testing.close(night, night_too, 1e-4)


@functools.cache
def _grad(**changes):
  """Returns the gradient of the loss of a batch, for the same weights."""
  model, batch = testing.tiny(**changes), testing.batch()
  weights = testing.weights(model)

  def loss(params):
    logits_BTV = model.forward(
      weights.with_params(params), batch.tokens_BT, batch.segments_BT,
      batch.positions_BT,
    )  # fmt: skip
    return losses.next_token_loss(logits_BTV, batch.tokens_BT, batch.loss_BT)

  return jax.jit(jax.grad(loss))(weights.params)


@pytest.mark.parametrize('remat, unroll', [('full', 2), ('dots', 1)])
def test_remat_changes_no_gradient(remat, unroll):
  testing.close(_grad(), _grad(remat=remat, unroll=unroll))


@pytest.mark.parametrize('num, tokens', [(1, 1), (2, 7), (2, 64), (11, 1)])
def test_likelihoods_in_blocks_equal_those_of_full_logits(num, tokens):
  random = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
  x_ND, head_VD, target_N = draw(22, 8), draw(11, 8), jnp.arange(22) % 11
  weight_N = draw(22)

  def in_full(x_ND, head_VD):
    return (
      weight_N
      @ losses.token_log_likelihood((x_ND @ head_VD.T)[None], target_N[None])[0]
    )

  def in_blocks(x_ND, head_VD):
    logits = lambda x: x @ head_VD.T
    rows = lambda x: x.reshape(num, -1, *x.shape[1:])
    return weight_N @ chunked_losses.log_likelihood(
      rows(x_ND), rows(target_N), logits, tokens=tokens
    ).reshape(-1)

  found, expected = (
    jax.jit(jax.value_and_grad(function, argnums=(0, 1)))(x_ND, head_VD)
    for function in (in_blocks, in_full)
  )
  testing.close(found, expected)


@pytest.mark.parametrize('tokens', [1, 4, 5, 64])
@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_blocks_of_targets_give_the_same_loss_and_gradient(tokens, share):
  random = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
  args = (
    draw(3, 7, 8), draw(11, 8), jnp.asarray(random.integers(0, 11, (3, 7))),
    jnp.asarray(random.uniform(size=(3, 7)) < share, jnp.float32), draw(3, 7),
  )  # fmt: skip
  testing.close(_target_loss(tokens)(*args), _target_loss(None)(*args))


@functools.cache
def _target_loss(tokens):
  """Returns a function: loss, likelihoods and gradients, in blocks or full."""

  def loss(x_BTD, head_VD, tokens_BT, target_BT, weight_BT):
    if tokens is None:
      full_BT = losses.token_log_likelihood(x_BTD @ head_VD.T, tokens_BT)
      likelihood_BT = target_BT * full_BT
    else:
      likelihood_BT = chunked_losses.target_log_likelihood(
        x_BTD, tokens_BT, target_BT, lambda x: x @ head_VD.T, tokens=tokens
      )
    return jnp.sum(weight_BT * likelihood_BT), likelihood_BT

  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def test_indivisible_micro_batches_are_refused():
  c = testing.config()
  c.wake.micro_batches = 3
  with pytest.raises(ValueError, match='micro_batches is 3.*8 rows of data.b'):
    testing.make_run(c, testing.placement(**ONE))
  c = testing.config(micro_batches=5)
  with pytest.raises(ValueError, match='is 5.*8 rows of .*anchor_old'):
    testing.make_run(c, testing.placement(**ONE))


def test_with_a_bfloat16_core_trained_parameters_are_float32():
  c = testing.short_config()
  plain, state = testing.make_run(c, testing.placement(**ONE))
  num = plain.model.config.num_levels
  dtypes = {
    p: x.dtype for p, x in plain.initial_shapes().weights.params.items()
  }
  assert set(dtypes.values()) == {jnp.dtype('float32')}
  c.pretrain.dtype = 'bfloat16'
  program, _ = testing.make_run(c, testing.placement(**ONE))
  shapes = program.initial_shapes().weights.params
  narrow = {p for p, x in shapes.items() if x.dtype == jnp.bfloat16}
  trained = {p for p in shapes if '/1/base' in p or 'experts' in p}
  assert narrow == set(shapes) - trained and num == 2

  initial = testing.initial_model(program.model)
  params = {
    path: x.astype(shapes[path].dtype)
    for path, x in initial.weights.params.items()
  }
  initial = dataclasses.replace(
    initial, weights=initial.weights.with_params(params)
  )
  low = program.begin(initial, jax.random.key(0))
  for step in range(2):
    low, found = program.wake(low, testing.batch(step), ())
    state, expected = plain.wake(state, testing.batch(step), ())
    np.testing.assert_allclose(found['loss'], expected['loss'], rtol=0.03)
  changed = testing.changed(params, low.weights.params)
  assert changed == {p for p in shapes if '/1/base' in p}
  low = program.fall_asleep(low, 1)
  low, metrics = program.seed(low, 1)
  dtypes = {x.dtype for x in low.night.fresh['2'].values()}
  assert dtypes == {jnp.dtype('float32')}
  assert np.isfinite(metrics['loss']).all()
  assert np.abs(np.asarray(low.night.fresh['2']['B'])).max() > 0
