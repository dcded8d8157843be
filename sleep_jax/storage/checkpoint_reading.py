"""TODO: storage.checkpoint_reading (from checkpoint)."""

import json
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from sleep_jax.storage import workdir

PREFIXES = {'cycles': 'cycle', 'moments': 'moment'}  # Series: names in it.


def latest_weights(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Weights alone of the most advanced checkpoint of a life, on one device.

  Returns:
    'params' and 'active_NE', see `types.Weights`; and the progress.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it cannot be read.
  """
  progress, path = _most_advanced(folder)
  return _part(path, 'weights', ('params', 'active_NE')), progress


def latest_replay(folder: str) -> dict[str, Any]:
  """Prompts alone of that checkpoint: band -> its fields, see `state.Band`.

  Raises:
    FileNotFoundError, ValueError: as of `latest_weights`.
  """
  return _part(_most_advanced(folder)[1], 'replay')


def exists(folder: str) -> bool:
  """Whether a life has saved anything yet."""
  return bool(find_complete(epath.Path(workdir.path(folder))))


def _most_advanced(folder):
  """(progress, path) of the most advanced checkpoint of a life."""
  home = epath.Path(workdir.path(folder))
  found = find_complete(home)
  if not found:
    raise FileNotFoundError(f'{home} holds no checkpoint.')
  return max(found, key=lambda one: progress_order(*one[:2]))[1:]


def find_complete(home):
  """(series, progress, path) of all that was saved whole."""
  return [
    (series, json.loads((path / 'progress' / 'metadata').read_text()), path)
    for series, prefix in PREFIXES.items()
    for path in (home / series).glob(f'{prefix}_*')
    if ocp.utils.is_checkpoint_finalized(path)
  ]


def _part(path, name, only=None):
  """A part of the state that a checkpoint holds, on one device."""
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  try:
    tree = reader.metadata(path / 'state').item_metadata.tree.get(name, {})
    wanted = {
      name: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        {key: tree[key] for key in only or tree},
      )
    }
    how = ocp.args.PyTreeRestore(
      item=wanted, partial_restore=True,
      restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
    )  # fmt: skip
    return reader.restore(path / 'state', args=how)[name]
  except Exception as error:  # Orbax and TensorStore raise a dozen kinds.
    raise ValueError(
      f'{path} cannot be read ({type(error).__name__}: {str(error)[:200]}).'
    ) from error


def progress_order(series, progress):
  """How far a checkpoint has come; a moment may mend the cycle before it."""
  return progress['event'], progress['night_updates'], series == 'moments'
