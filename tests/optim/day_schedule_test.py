"""A learning rate that falls during each day."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax.optim import day_schedule, optimizer
from tests import testing

PARAMS = {'x': jnp.ones((3,)), 'y': jnp.ones((2, 2))}
GRADS = jax.tree.map(lambda x: 0.3 * x + 0.1, PARAMS)


@pytest.mark.parametrize('share, factor', [(0.0, 1.0), (0.5, 0.55), (1.0, 0.1)])
def test_an_update_is_scaled_by_the_cosine_of_the_day(share, factor):
  make = lambda: optimizer.make(learning_rate=0.1, weight_decay=0.5)
  tx = day_schedule.with_cosine(make(), 0.1)
  opt = day_schedule.set_share(tx.init(PARAMS), jnp.float32(share))
  found, opt = tx.update(GRADS, opt, PARAMS)
  plain, _ = make().update(GRADS, make().init(PARAMS), PARAMS)
  for name, leaf in plain.items():
    np.testing.assert_allclose(found[name], factor * leaf, rtol=1e-5)
  assert float(optax.tree.get(opt, 'day_share')) == share


def test_the_night_finds_the_share_of_the_last_step():
  """Its due update is as small as the day's end asks for."""
  c = testing.config((1, 'experience'))
  c.wake.final = 0.0
  program, state = testing.make_run(
    c, testing.placement(data=1, fsdp=1, tensor=1)
  )
  assert program.has_day_decay
  state, _ = program.wake(state, testing.batch(0), (), 0.0)
  before = jax.device_get(state.weights.params)
  state, _ = program.wake(state, testing.batch(1), (1,), 1.0)
  assert any(np.asarray(leaf).any() for leaf in state.sums['1'].values())
  asleep = program.fall_asleep(state, 1)
  for path, leaf in asleep.night.sender_next.items():
    np.testing.assert_array_equal(leaf, before[path])
