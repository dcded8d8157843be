"""Compares two updates of a model: all numbers of `interference` at once."""

import numpy as np

from sleep_jax.evaluate import interference

_GATE = '/gate'  # Path of the gate of an MLP, beside its `up` and `down`.


def compare(
  update: interference.Update, other: interference.Update
) -> dict[str, float | None]:
  """Returns how two updates of one model interfere.

  Args:
    update, other: see `interference.difference`, with equal paths.

  Returns:
    'unmoved' and 'unmoved_other', shares of coordinates that did not move;
    'cosine' over all coordinates; 'jaccard' of the top-10 % changed MLP
    channels; on the channels that both share, 'cosine_shared' and
    'sign_conflict_shared'. A number that is not defined is None.
  """
  mlps = mlp_paths(update)
  masks = [
    _split(
      interference.top_channels(
        np.concatenate([
          interference.channel_changes(*_matrices(one, path)).reshape(-1)
          for path in mlps
        ])
      ),
      [_shape(one, path) for path in mlps],
    )
    for one in (update, other)
  ]  # fmt: skip
  shared = [a & b for a, b in zip(*masks, strict=True)]
  flat = lambda leaves: np.concatenate([np.ravel(leaf) for leaf in leaves])
  vectors = [
    flat([
      interference.on_channels(*_matrices(one, path), mask)
      for path, mask in zip(mlps, shared, strict=True)
    ])
    for one in (update, other)
  ]  # fmt: skip
  everything = [flat([one[path] for path in update]) for one in (update, other)]
  return {
    'unmoved': interference.unmoved_share(update),
    'unmoved_other': interference.unmoved_share(other),
    'cosine': interference.cosine(*everything),
    'jaccard': interference.jaccard(*map(flat, masks)),
    'cosine_shared': interference.cosine(*vectors),
    'sign_conflict_shared': interference.sign_conflict(*vectors),
  }


def mlp_paths(update: interference.Update) -> list[str]:
  """Returns the paths of all MLPs whose three matrices an update has."""
  return sorted(
    path.removesuffix(_GATE)
    for path in update
    if path.endswith(_GATE)
    and {f'{path.removesuffix(_GATE)}/{n}' for n in ('up', 'down')} <= {*update}
  )


def _matrices(
  update: interference.Update, path: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  gate, up, down = (update[f'{path}/{n}'] for n in ('gate', 'up', 'down'))
  return np.asarray(gate), np.asarray(up), np.asarray(down)


def _shape(update: interference.Update, path: str) -> tuple[int, int]:
  """Returns (layers, channels) of an MLP."""
  layers, channels, _ = np.shape(update[f'{path}/down'])
  return layers, channels


def _split(flat: np.ndarray, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
  """Returns the parts of a flat mask, one per MLP."""
  ends = np.cumsum([layers * channels for layers, channels in shapes])
  parts = np.split(flat, ends[:-1])
  return [part.reshape(s) for part, s in zip(parts, shapes, strict=True)]
