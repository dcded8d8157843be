"""A learning rate that falls during a day or a night, whatever its length.

An optimizer's own schedule counts updates, but days and adaptive nights differ
in length, and one compiled program serves them all. The share of the day that
is over is therefore an array of the optimizer's state. The wake step sets it,
and a night that applies the last update of the day finds it there. In an
adaptive night it is the share of its last part (`sleep.night_length`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types

Array = types.Array


class DayState(NamedTuple):
  """State of the schedule.

  Attributes:
    day_share: f32, share of the day's steps that are done.
  """

  day_share: Array


def with_cosine(
  tx: optax.GradientTransformation, final: float
) -> optax.GradientTransformation:
  """Returns an optimizer whose updates shrink on a cosine over the day.

  Args:
    tx: the optimizer.
    final: size of an update at the end of the day, as a share of that of `tx`.
  """

  def update(updates, state, params=None):
    del params
    cosine = (1 + jnp.cos(jnp.pi * state.day_share)) / 2
    scale = final + (1 - final) * cosine
    return jax.tree.map(lambda leaf: scale * leaf, updates), state

  init = lambda params: DayState(jnp.zeros(()))
  return optax.chain(tx, optax.GradientTransformation(init, update))


def set_share(opt: optax.OptState, share: Array) -> optax.OptState:
  """Returns the state of such an optimizer at a share of the day."""
  return optax.tree.set(opt, day_share=share)
