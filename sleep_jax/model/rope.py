"""Rotary position embeddings, with the frequency scaling of Llama 3.1.

References: 2104.09864; scaling 2407.21783.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types


def frequencies(
  head_size: int, *, theta: float, scaling: tuple[float, ...] = ()
) -> np.ndarray:
  """Returns the rotation frequencies of a head.

  Args:
    head_size: size of a head, even.
    theta: base of the geometric series of frequencies.
    scaling: (): none. (factor,): all frequencies are divided by `factor`.
      (factor, low, high, positions), as in Llama 3.1: frequencies with fewer
      than `low` turns in `positions` are divided by `factor`, those with more
      than `high` turns are unchanged, and between them the two are interpolated
      linearly.

  Returns:
    Radians per position of each pair, `[head_size / 2]`, f32.
  """
  half = head_size // 2
  unscaled = theta ** (-np.arange(half) / half)
  if not scaling:
    return unscaled.astype(np.float32)
  factor, *bounds = scaling
  if not bounds:
    return (unscaled / factor).astype(np.float32)
  low, high, positions = bounds
  num_turns = positions * unscaled / (2 * np.pi)
  share = np.clip((num_turns - low) / (high - low), 0, 1)
  scaled = share * unscaled + (1 - share) * unscaled / factor
  return scaled.astype(np.float32)


def rotate(
  x_BTHK: types.Array,
  positions_BT: types.Array,
  frequencies_K: types.Array | np.ndarray,
) -> types.Array:
  """Applies rotary positions. Pairs are the first and second half of a head.

  Args:
    x_BTHK: queries or keys.
    positions_BT: position of each token within its own sequence.
    frequencies_K: see `frequencies`, one per pair.
  """
  angle = (
    positions_BT[..., None, None] * jnp.asarray(frequencies_K)[None, None, None]
  )
  # Without the barrier they are computed again for every head.
  cos, sin = jax.lax.optimization_barrier((jnp.cos(angle), jnp.sin(angle)))
  first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, -1)
  rotated = (first * cos - second * sin, second * cos + first * sin)
  return jnp.concatenate(rotated, -1).astype(x_BTHK.dtype)
