"""What leaves a device is counted as often as it leaves."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from sleep_jax.planning import collectives
from tests import testing

TIMES, SIZE = 5, 1024  # Loops; f32 of each device.
BYTES = 4 * SIZE


def _text(step):
  """A program in which eight devices, 2 x 4, send in a loop in a loop."""
  mesh = testing.placement(data=2, fsdp=4, tensor=1).mesh

  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=P(('data', 'fsdp')),
    out_specs=P(('data', 'fsdp')), check_vma=False,
  )  # fmt: skip
  def sends(x):
    inner = lambda i, x: jnp.sin(step(x) + i)
    outer = lambda i, x: jax.lax.fori_loop(0, TIMES, inner, x)
    return jax.lax.fori_loop(0, TIMES, outer, x)

  x = jax.ShapeDtypeStruct((8 * SIZE,), jnp.float32)
  return jax.jit(sends).lower(x).compile().as_text()


@pytest.mark.parametrize(
  'name, step, sent',
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
def test_a_ring_sends_so_much(name, step, sent):
  found = collectives.bytes_sent(_text(step))
  assert found == {name: pytest.approx(TIMES * TIMES * sent)}


def test_alone_nobody_sends():
  text = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile().as_text()
  assert collectives.bytes_sent(text) == {}
