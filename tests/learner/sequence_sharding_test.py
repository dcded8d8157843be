"""Tests of rows sharded by position: same numbers, little communication."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from tests import testing

ONE = dict(data=1, fsdp=1, tensor=1)
MESH = dict(data=1, fsdp=2, sequence=2, tensor=2)
LENGTH = 16  # Positions of a row; the last ones are padding.


def _config():
  c = testing.short_config()
  c.wake.update(micro_batches=2, block_tokens=32)
  c.consolidate.update(micro_batches=2, block_tokens=10, on_policy=0.0)
  return c


def _batch(seed):
  batch = testing.batch(seed)
  padded = lambda x, fill: jnp.pad(
    x, ((0, 0), (0, LENGTH - x.shape[1])), constant_values=fill
  )
  return batch.replace(
    tokens_BT=padded(batch.tokens_BT, testing.PAD),
    segments_BT=padded(batch.segments_BT, -1),
    positions_BT=padded(batch.positions_BT, 0),
    loss_BT=padded(batch.loss_BT, 0),
  )


def _plain(tree):
  raw = lambda x: (
    jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
  )
  return jax.device_get(jax.tree.map(raw, tree))


@functools.cache
def _run(shape):
  """Returns the results of two wake steps and of one seeding round.

  Returns:
    (state, metrics) after the wake steps; (night, metrics) after the round.
  """
  place = testing.placement(**dict(shape))
  with jax.set_mesh(place.mesh):
    programs, state = testing.make_run(_config(), place)
    for step in range(2):
      held = (1,) if step == 1 else ()
      state, metrics = programs.wake(state, _batch(step), held)
    evening = _plain((state, metrics))
    state = programs.fall_asleep(state, 1)
    state, found = programs.seed(state, 1)
  return evening, _plain((state.night, found))


def test_a_day_and_a_night_do_not_depend_on_sharding_by_position():
  (evening, metrics), (night, seeding) = _run(tuple(ONE.items()))
  (other_evening, other_metrics), (other_night, other_seeding) = _run(
    tuple(MESH.items())
  )
  testing.close((evening, metrics), (other_evening, other_metrics), 1e-5)
  written = lambda night: {
    name: pool.replace(states_BGD=None) for name, pool in night.pools.items()
  }
  assert testing.same(written(night), written(other_night))  # Every token.
  testing.close(
    (night.fresh, seeding), (other_night.fresh, other_seeding), 1e-4
  )


def _collectives(function, model, mesh, *shapes):
  """Returns (kind, shape, operation name) of each collective."""
  place = testing.placement(**mesh)
  model = dataclasses.replace(model, place=place.constrain)
  weights = testing.weights(model)
  with jax.set_mesh(place.mesh):
    placed = jax.tree.map(
      lambda x, there: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there),
      (weights, *shapes),
      (
        place.shardings(weights),
        *(place.shardings(shape, prefix='batch/') for shape in shapes),
      ),
    )
    made = jax.jit(functools.partial(function, model)).lower(*placed).compile()
  return [
    (kind, tuple(int(n) for n in size.split(',') if n), operation)
    for line in made.as_text().splitlines()
    for result, kind in re.findall(
      r'= (.*?) (all-[\w-]+|reduce-scatter|collective-permute)\(', line
    )
    for size in re.findall(r'\w+\[([\d,]*)\]', result)
    for operation in re.findall(r'op_name="([^"]*)"', line)
  ]


def test_blocks_send_only_keys_and_values():
  model = testing.tiny(width=32, head_size=8, num_kv_heads=4)

  def grads(model, weights, batch):
    rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
    total = lambda params: jnp.sum(
      jnp.sin(model.states(weights.with_params(params), *rows))
    )
    return jax.grad(total)(weights.params)

  mesh = dict(data=1, fsdp=2, sequence=4, tensor=1)
  collectives = _collectives(grads, model, mesh, _batch(0))
  found = [
    (kind, shape)
    for kind, shape, operation in collectives
    # Collectives of matrices have two axes; they are not counted.
    if ('Block' in operation or 'while' in operation) and len(shape) > 2
  ]
  # Keys and values of one layer, of each device's rows, forward and backward.
  rows = testing.ROWS // 2
  assert {(kind, np.prod(shape)) for kind, shape in found} == {
    ('all-gather', rows * LENGTH * 4 * 8),
    ('all-reduce', rows * LENGTH * 4 * 8),
  }


def test_decoding_a_token_sends_no_cache():
  model = testing.tiny(num_layers=1)

  def step(model, weights, batch):
    length_B = jnp.sum(batch.segments_BT > 0, 1)
    _, cache = model.prefill(
      weights, batch.tokens_BT, length_B, cache_size=3 * LENGTH
    )

    def body(carry):
      t, token_B, cache = carry
      mask_BS = jnp.arange(3 * LENGTH)[None] < (LENGTH + t)
      mask_BS = jnp.broadcast_to(mask_BS, (testing.ROWS, 3 * LENGTH))
      logits_BV, cache = model.decode(
        weights, token_B, length_B + t, mask_BS, cache, LENGTH + t
      )
      return t + 1, jnp.argmax(logits_BV, -1), cache

    token_B = batch.tokens_BT[:, 0]
    return jax.lax.while_loop(
      lambda carry: carry[0] < 2 * LENGTH,
      body,
      (jnp.int32(0), token_B, cache),
    )[1]

  mesh = dict(data=2, fsdp=1, sequence=4, tensor=1)
  found = [
    (shape, operation)
    for _, shape, operation in _collectives(step, model, mesh, _batch(0))
    if 'while' in operation and 'attention' in operation
  ]
  # Each device reduces the scores of its own positions.
  assert any('reduce_max' in operation for _, operation in found)
  # What is sent per head is as large as the head, not as the cache.
  sizes = [np.prod(shape) for shape, _ in found]
  assert max(sizes) <= testing.ROWS * testing.WIDTH
