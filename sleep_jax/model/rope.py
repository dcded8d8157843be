"""Rotary position embeddings, and the scalings of their frequencies.

With two of the scalings, frequencies depend on the length of the sequence. A
whole row uses the length of the whole sequence. Decoding uses the length so
far, and keys in the cache keep the rotation they were written with, as in
transformers. The two differ only beyond the length the model was trained on.

References: 2104.09864; scalings 2407.21783 and `rope_scaling`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import rope_scaling

Array = types.Array


class Positions(NamedTuple):
  """Where tokens are.

  Attributes:
    index_BT: position of each token within its own sequence.
    length_BT: number of tokens of that sequence. None if no frequency depends
      on it.
  """

  index_BT: Array
  length_BT: Array | None = None


def make_positions(
  config: config_lib.Model,
  positions_BT: Array,
  segments_BT: Array | None = None,
) -> Positions:
  """Returns positions with the lengths that the model needs.

  Args:
    config: the model.
    positions_BT: position of each token within its own sequence.
    segments_BT: as in `types.Batch`. None means that each token is the last of
      its sequence.
  """
  if not config.rope_depends_on_length:
    return Positions(positions_BT)
  if segments_BT is None:
    return Positions(positions_BT, positions_BT + 1)
  same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
  ends_B1T = positions_BT[:, None, :] + 1
  return Positions(positions_BT, jnp.max(jnp.where(same_BTT, ends_B1T, 0), -1))


def frequencies(
  head_size: int,
  *,
  theta: float,
  scaling: rope_scaling.Scaling = (),
  length_BT: Array | None = None,
) -> Any:
  """Returns the rotation frequencies of a head.

  Args:
    head_size: size of a head, even.
    theta: base of the geometric series of frequencies.
    scaling: (): none. (factor,): all frequencies are divided by `factor`.
      (factor, low, high, positions), as in Llama 3.1: frequencies with fewer
      than `low` turns in `positions` are divided by `factor`, those with more
      than `high` turns are unchanged, and between them the two are interpolated
      linearly. Else one of the classes of `rope_scaling`.
    length_BT: lengths of the sequences, if the scaling depends on them.

  Returns:
    Radians per position of each pair, `[head_size / 2]`, f32; or
    `[B, T, head_size / 2]` if they depend on the length.
  """
  half = head_size // 2
  exponents = np.arange(half) / half
  unscaled = theta**-exponents
  if isinstance(scaling, rope_scaling.Yarn):
    return _yarn(unscaled, theta, scaling).astype(np.float32)
  if isinstance(scaling, rope_scaling.Dynamic):
    return _dynamic(exponents, theta, scaling, length_BT)
  if isinstance(scaling, rope_scaling.LongRope):
    short, long = (
      (unscaled / np.asarray(divisors)).astype(np.float32)
      for divisors in (scaling.short, scaling.long)
    )
    is_long = (length_BT > scaling.positions)[..., None]
    return jnp.where(is_long, long[None, None], short[None, None])
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


def _yarn(unscaled, theta, s: rope_scaling.Yarn) -> np.ndarray:
  """Returns frequencies, 2309.00071 section 3.2.

  The bounds are pairs, as fractions unless truncated, with `fast` and `slow`
  turns in `positions`.
  """
  size = 2 * len(unscaled)

  def pair_with(turns):
    return (
      size * np.log(s.positions / (turns * 2 * np.pi)) / (2 * np.log(theta))
    )

  first, last = pair_with(s.fast), pair_with(s.slow)
  if s.truncate:
    first, last = np.floor(first), np.ceil(last)
  first, last = max(first, 0), min(last, size - 1)
  if first == last:
    last += 0.001  # Avoids a division by zero.
  share = np.clip((np.arange(len(unscaled)) - first) / (last - first), 0, 1)
  return share * unscaled / s.factor + (1 - share) * unscaled


def _dynamic(exponents, theta, s: rope_scaling.Dynamic, length_BT) -> Array:
  """Returns frequencies whose theta grows with the length of the sequence."""
  size = 2 * len(exponents)
  longest_BT = jnp.maximum(length_BT, s.positions).astype(jnp.float32)
  growth_BT = s.factor * longest_BT / s.positions - (s.factor - 1)
  theta_BT = theta * growth_BT ** (size / (size - 2))
  exponents = jnp.asarray(exponents, jnp.float32)[None, None]
  return theta_BT[..., None] ** -exponents


def rotate(
  x_BTHK: Array,
  positions_BT: Array,
  frequencies: Array | np.ndarray,
  magnitude: Any = 1.0,
) -> Array:
  """Applies rotary positions. Pairs are the first and second half of a head.

  Args:
    x_BTHK: queries or keys.
    positions_BT: position of each token within its own sequence.
    frequencies: one per pair, `[K / 2]` or `[B, T, K / 2]`.
    magnitude: factor of the result.
  """
  index = (slice(None),) * 2 if frequencies.ndim > 1 else (None, None)
  angle = positions_BT[..., None, None] * jnp.asarray(frequencies)[*index, None]
  # Without the barrier they are computed again for every head.
  cos, sin = jax.lax.optimization_barrier((jnp.cos(angle), jnp.sin(angle)))
  first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, -1)
  rotated = (first * cos - second * sin, second * cos + first * sin)
  y_BTHK = jnp.concatenate(rotated, -1)
  if not isinstance(magnitude, float) or magnitude != 1:
    y_BTHK = y_BTHK * magnitude
  return y_BTHK.astype(x_BTHK.dtype)
