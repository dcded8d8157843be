"""Measures how much two updates of the same model interfere.

An update is the difference of the parameters after and before a cycle. Most
coordinates may not change at all. The channels of the MLPs that change most can
be the same in both updates, with equal or opposite signs. A channel is one
hidden unit: a column of `gate` and `up`, and a row of `down`.

Reference: 2606.02398 (interference between sequential updates).
"""

from collections.abc import Mapping

import numpy as np

UNMOVED = 1e-7  # Largest absolute change of a coordinate that did not move.
TOP = 0.1  # Share of the channels that counts as changed.

# Flat dict, path -> change; see `types.Weights.params`.
Update = Mapping[str, np.ndarray]


def difference(before: Update, after: Update) -> dict[str, np.ndarray]:
  """Returns the update that leads from some parameters to others, f64."""
  return {
    path: np.asarray(after[path], np.float64) - np.asarray(old, np.float64)
    for path, old in before.items()
  }


def unmoved_share(update: Update, threshold: float = UNMOVED) -> float:
  """Returns the share of coordinates whose change is below a threshold."""
  size = sum(np.size(leaf) for leaf in update.values())
  still = sum(np.sum(np.abs(leaf) < threshold) for leaf in update.values())
  return float(still / size)


def channel_changes(
  gate_LDH: np.ndarray, up_LDH: np.ndarray, down_LHD: np.ndarray
) -> np.ndarray:
  """Returns the norm of the change of each channel [L, H].

  Args:
    gate_LDH, up_LDH, down_LHD: changes of the matrices of an MLP.
  """
  squares_LH = np.sum(np.square(gate_LDH), 1) + np.sum(np.square(up_LDH), 1)
  return np.sqrt(squares_LH + np.sum(np.square(down_LHD), 2))


def top_channels(change_LH: np.ndarray, share: float = TOP) -> np.ndarray:
  """Returns which channels changed most, as a mask [L, H].

  Args:
    change_LH: see `channel_changes`.
    share: of all channels of all layers; rounded up. A channel that did not
      change never counts.
  """
  flat = change_LH.reshape(-1)
  num = int(np.ceil(share * flat.size))
  order = np.argsort(-flat, kind='stable')[:num]
  mask = np.zeros(flat.size, bool)
  mask[order] = True
  return (mask & (flat > 0)).reshape(change_LH.shape)


def jaccard(mask_LH: np.ndarray, other_LH: np.ndarray) -> float | None:
  """Returns |A and B| / |A or B| of two masks, or None if both are empty."""
  either = int(np.sum(mask_LH | other_LH))
  return float(np.sum(mask_LH & other_LH) / either) if either else None


def on_channels(
  gate_LDH: np.ndarray,
  up_LDH: np.ndarray,
  down_LHD: np.ndarray,
  mask_LH: np.ndarray,
) -> np.ndarray:
  """Returns the coordinates of some channels as one vector.

  Args:
    gate_LDH, up_LDH, down_LHD: changes of the matrices of an MLP.
    mask_LH: the channels.
  """
  by_channel = (
    np.swapaxes(gate_LDH, 1, 2), np.swapaxes(up_LDH, 1, 2), down_LHD
  )  # fmt: skip
  return np.concatenate([leaf[mask_LH].reshape(-1) for leaf in by_channel])


def cosine(vector: np.ndarray, other: np.ndarray) -> float | None:
  """Returns the cosine of two vectors, or None if one has no length."""
  lengths = np.linalg.norm(vector) * np.linalg.norm(other)
  return float(np.dot(vector, other) / lengths) if lengths else None


def sign_conflict(
  vector: np.ndarray, other: np.ndarray, threshold: float = UNMOVED
) -> float | None:
  """Returns the share of coordinates that move in opposite directions.

  Args:
    vector, other: coordinates of two updates.
    threshold: a coordinate counts if both changes are at least this large.

  Returns:
    A share of the coordinates that count; None if there are none.
  """
  both = (np.abs(vector) >= threshold) & (np.abs(other) >= threshold)
  if not both.any():
    return None
  return float(np.mean(np.sign(vector[both]) != np.sign(other[both])))
