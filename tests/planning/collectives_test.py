"""Counting the bytes that leave a device in a compiled program."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from sleep_jax.planning import collectives
from tests import testing

NUM_ITERATIONS, SIZE = 5, 1024  # Of each loop; float32 values per device.
BYTES = 4 * SIZE


def _compiled_text(step):
  """Compiles a step in two nested loops on 2 x 4 devices."""
  mesh = testing.placement(data=2, fsdp=4, tensor=1).mesh

  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=P(('data', 'fsdp')),
    out_specs=P(('data', 'fsdp')), check_vma=False,
  )  # fmt: skip
  def program(x):
    inner = lambda i, x: jnp.sin(step(x) + i)
    outer = lambda i, x: jax.lax.fori_loop(0, NUM_ITERATIONS, inner, x)
    return jax.lax.fori_loop(0, NUM_ITERATIONS, outer, x)

  x = jax.ShapeDtypeStruct((8 * SIZE,), jnp.float32)
  return jax.jit(program).lower(x).compile().as_text()


@pytest.mark.parametrize(
  'name, step, bytes_per_step',
  [
    ('all-reduce', lambda x: jax.lax.psum(x, 'fsdp'), 2 * BYTES * 3 / 4),
    ('all-reduce', lambda x: jax.lax.psum(x, 'data'), 2 * BYTES / 2),
    ('all-gather', lambda x: jax.lax.all_gather(x, 'fsdp').sum(0), 3 * BYTES),
    ('collective-permute',
     lambda x: jax.lax.ppermute(x, 'data', [(0, 1), (1, 0)]), BYTES),
    ('all-to-all',
     lambda x: jax.lax.all_to_all(x.reshape(4, -1), 'fsdp', 0, 0).reshape(-1),
     BYTES * 3 / 4),
  ],
)  # fmt: skip
def test_the_bytes_of_a_ring_are_counted_once_per_iteration(
  name, step, bytes_per_step
):
  found = collectives.bytes_sent(_compiled_text(step))
  expected = NUM_ITERATIONS * NUM_ITERATIONS * bytes_per_step
  assert found == {name: pytest.approx(expected)}


def test_a_program_for_one_device_sends_nothing():
  text = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile().as_text()
  assert collectives.bytes_sent(text) == {}
