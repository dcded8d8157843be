"""Adaptive nights: how long a night goes on is decided while it runs.

Before each round, the divergence of the student is measured on rehearsals that
its teachers have just written, so that it was never trained on them. Once it
stops falling, or is below a tolerance, the learning rate falls to its final
value, and the night ends. All of this is part of the state, so a night that was
interrupted ends like one that was not.
"""

import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
_DECAY = 0.5  # Of the running mean over rounds, because one round is noisy.
_IMPROVED = 0.99  # A mean below this share of the best one is an improvement.


def begin(settings: settings_lib.Settings) -> state_lib.NightLength | None:
  """Returns the length of a night before its first round, if it is adaptive."""
  if settings.adaptive is None:
    return None
  return state_lib.NightLength(
    held_out=jnp.zeros(()),
    best=jnp.float32(jnp.inf),
    stale=jnp.zeros((), jnp.int32),
    decay_from=jnp.int32(-1),
    end=jnp.int32(settings.num_updates),
  )


def observe(
  length: state_lib.NightLength,
  held_out: Array,
  update: Array,
  settings: settings_lib.Settings,
  adaptive: settings_lib.Adaptive,
) -> state_lib.NightLength:
  """Returns the length after a measurement.

  Args:
    length: before it.
    held_out: mean divergence on new rehearsals, nats per token.
    update: number of updates done.
    settings: of the night.
    adaptive: those of them that say when it ends.
  """
  per_round = settings.updates_per_round
  mean = jnp.where(
    update > 0, _DECAY * length.held_out + (1 - _DECAY) * held_out, held_out
  )
  improved = mean < _IMPROVED * length.best
  stale = jnp.where(improved, 0, length.stale + 1)
  # The last part of the night, in whole rounds, with at least one.
  rounds = jnp.ceil(
    adaptive.decay * update / (1 - adaptive.decay) / per_round - 1e-6
  )
  last = per_round * jnp.maximum(rounds.astype(jnp.int32), 1)
  satisfied = (mean < adaptive.tolerance) | (stale >= adaptive.patience)
  must = update + last >= settings.num_updates
  begins = (length.decay_from < 0) & (
    (satisfied & (update + last >= adaptive.min_updates)) | must
  )
  end = jnp.minimum(update + last, settings.num_updates)
  return state_lib.NightLength(
    held_out=mean,
    best=jnp.where(improved, mean, length.best),
    stale=stale,
    decay_from=jnp.where(begins, update, length.decay_from),
    end=jnp.where(begins, end, length.end),
  )


def decay_share(length: state_lib.NightLength, update: Array) -> Array:
  """Returns how much of the final fall of the learning rate is over, 0 to 1."""
  passed, whole = update - length.decay_from, length.end - length.decay_from
  return jnp.where(
    length.decay_from < 0, 0.0, jnp.clip(passed / jnp.maximum(whole, 1), 0, 1)
  )
