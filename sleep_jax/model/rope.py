"""TODO: model.rope (from model.layers)."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types


def frequencies(
  head_size: int, *, theta: float, scaling: tuple[float, ...] = ()
) -> np.ndarray:
  """Radians per position of each pair of a head, `[head_size / 2]`, f32.

  Args:
    scaling: (); (factor,): all are that many times slower; or (factor, low,
      high, positions), as in Llama 3.1: slower are those that turn less than
      `low` times in `positions`, as before those that turn more than `high`
      times, and in between it goes over linearly.
  """
  half = head_size // 2
  plain = theta ** (-np.arange(half) / half)
  if not scaling:
    return plain.astype(np.float32)
  factor, *bounds = scaling
  if not bounds:
    return (plain / factor).astype(np.float32)
  low, high, positions = bounds
  turns = positions * plain / (2 * np.pi)
  kept = np.clip((turns - low) / (high - low), 0, 1)
  return (kept * plain + (1 - kept) * plain / factor).astype(np.float32)


def rotate(
  x_BTHK: types.Array,
  positions_BT: types.Array,
  turns: types.Array | np.ndarray,
) -> types.Array:
  """Rotary positions, first and second half of a head as pairs.

  Args:
    turns: see `frequencies`.
  """
  angle = positions_BT[..., None, None] * jnp.asarray(turns)[None, None, None]
  # Else they are computed again for every head that they turn.
  cos, sin = jax.lax.optimization_barrier((jnp.cos(angle), jnp.sin(angle)))
  first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, -1)
  turned = (first * cos - second * sin, second * cos + first * sin)
  return jnp.concatenate(turned, -1).astype(x_BTHK.dtype)
