"""Rows whose places devices share out: the same numbers, and little is sent."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import testing

ONE = dict(data=1, fsdp=1, tensor=1)
MESHES = [
  dict(data=2, fsdp=1, sequence=4, tensor=1),
  dict(data=1, fsdp=2, sequence=2, tensor=2),
]
LENGTH = 16  # Places of a row, the last of them padding.


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
    jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
  )  # fmt: skip
  return jax.device_get(jax.tree.map(raw, tree))


@functools.cache
def _life(shape):
  """The evening after two wake steps, and a round of the night after it."""
  place = testing.placement(**dict(shape))
  with jax.set_mesh(place.mesh):
    programs, state = testing.life(_config(), place)
    for step in range(2):
      held = (1,) if step == 1 else ()
      state, metrics = programs.wake(state, _batch(step), held)
    evening = _plain((state, metrics))
    state = programs.fall_asleep(state, 1)
    state, found = programs.seed(state, 1)
  return evening, _plain((state.night, found))


@pytest.mark.parametrize('mesh', MESHES)
def test_a_day_and_a_night_of_shared_rows_are_those_of_whole_ones(mesh):
  (evening, loss), (night, found) = _life(tuple(ONE.items()))
  (evening_too, loss_too), (night_too, found_too) = _life(tuple(mesh.items()))
  testing.close((evening, loss), (evening_too, loss_too), 1e-5)
  written = lambda night: {
    name: pool.replace(states_BGD=None) for name, pool in night.pools.items()
  }
  assert testing.same(written(night), written(night_too))  # Every word.
  testing.close((night.fresh, found), (night_too.fresh, found_too), 1e-4)


def _sent(function, model, mesh, *shapes):
  """(kind, shape, in which operation) of what goes between devices."""
  place = testing.placement(**mesh)
  model = dataclasses.replace(model, place=place.constrain)
  weights = testing.weights(model)
  with jax.set_mesh(place.mesh):
    placed = jax.tree.map(
      lambda x, there: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there),
      (weights, *shapes),
      (place.shardings(weights), *(
        place.shardings(shape, prefix='batch/') for shape in shapes
      )),
    )  # fmt: skip
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


def test_of_shared_rows_blocks_send_keys_and_values_alone():
  model = testing.tiny(width=32, head_size=8, num_kv_heads=4)

  def grads(model, weights, batch):
    rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
    total = lambda params: jnp.sum(
      jnp.sin(model.states(weights.with_params(params), *rows))
    )
    return jax.grad(total)(weights.params)

  mesh = dict(data=1, fsdp=2, sequence=4, tensor=1)
  sent = _sent(grads, model, mesh, _batch(0))
  found = [
    (kind, shape)
    for kind, shape, operation in sent
    # Those of matrices have two axes.
    if ('Block' in operation or 'while' in operation) and len(shape) > 2
  ]
  # Those of a layer, there and back, of each device's rows.
  rows = testing.ROWS // 2
  assert {(kind, np.prod(shape)) for kind, shape in found} == {
    ('all-gather', rows * LENGTH * 4 * 8),
    ('all-reduce', rows * LENGTH * 4 * 8),
  }


def test_no_cache_is_sent_for_the_next_token():
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
      lambda carry: carry[0] < 2 * LENGTH, body,
      (jnp.int32(0), token_B, cache),
    )[1]  # fmt: skip

  found = [
    (shape, operation)
    for _, shape, operation in _sent(step, model, MESHES[0], _batch(0))
    if 'while' in operation and 'attention' in operation
  ]
  # Each device looks for the largest score among its own places.
  assert any('reduce_max' in operation for _, operation in found)
  # Of a head at most as many numbers as it is wide, not as it has seen places.
  sizes = [np.prod(shape) for shape, _ in found]
  assert max(sizes) <= testing.ROWS * testing.WIDTH
