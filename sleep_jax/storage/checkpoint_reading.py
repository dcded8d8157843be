"""Reads parts of a checkpoint without the state it was saved from.

`checkpoints` restores a whole state into a running program. This module finds
the most advanced checkpoint of a run and reads its weights or its stored
prompts alone, for chat, export and runs that start from another run.
"""

import contextlib
import json
from typing import Any

import jax
import numpy as np
from etils import epath

from sleep_jax import errors
from sleep_jax.storage import constant_arrays, workdir

PREFIXES = {
  'cycles': 'cycle',
  'moments': 'moment',
}  # Series -> prefix of its names.
_ATTEMPTS = 20  # To find a checkpoint that is not replaced meanwhile.
_WEIGHTS = ('params', 'active_NE', 'adapter')  # Of `types.Weights`, if saved.


def latest_weights(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Reads the weights of the most advanced checkpoint onto one device.

  Args:
    folder: the checkpoint folder of a run.

  Returns:
    A dict with 'params', 'active_NE' and, if there is one, 'adapter' (see
    `types.Weights`), and the progress saved with the checkpoint.

  Raises:
    MissingFileError: the folder holds no checkpoint.
    WorkdirError: the checkpoint cannot be read.
  """
  return _restore_latest(folder, 'weights', _WEIGHTS)


def cycle_weights(folder: str, cycle: int) -> dict[str, Any]:
  """Reads the weights at the end of one cycle onto one device.

  Args:
    folder: the checkpoint folder of a run.
    cycle: number of a complete cycle, see `cycles`.

  Returns:
    A dict as `latest_weights` returns it.

  Raises:
    MissingFileError: the folder does not hold that cycle.
    WorkdirError: the checkpoint cannot be read.
  """
  root = epath.Path(workdir.path(folder))
  for series, progress, path in find_complete(root):
    if series == 'cycles' and path.name.rpartition('_')[2] == str(cycle):
      kept = progress.get(constant_arrays.KEY, ())
      return _restore_part(path, 'weights', _WEIGHTS, kept)
  raise errors.MissingFileError(
    f'{root} does not hold cycle {cycle}: the existing cycles are '
    f'{cycles(folder)}. Choose one of these; config.checkpoint.keep says how '
    'many a run keeps.'
  )


def latest_replay(folder: str) -> dict[str, Any]:
  """Reads the stored prompts of the most advanced checkpoint.

  Args:
    folder: the checkpoint folder of a run.

  Returns:
    Age group -> its fields, see `state.AgeGroup`.

  Raises:
    MissingFileError: the folder holds no checkpoint.
    WorkdirError: the checkpoint cannot be read.
  """
  return _restore_latest(folder, 'replay')[0]


def latest_progress(
  folder: str, cycle: int | None = None
) -> dict[str, Any] | None:
  """Returns the progress of the most advanced checkpoint, or None.

  Args:
    folder: of the checkpoints.
    cycle: cycle whose progress is returned instead, if it is there.
  """
  complete = find_complete(epath.Path(workdir.path(folder)))
  for series, progress, path in complete:
    if series == 'cycles' and path.name.rpartition('_')[2] == str(cycle):
      return progress
  return _newest(complete)[0] if complete else None


def exists(folder: str) -> bool:
  """Returns whether a folder holds a complete checkpoint."""
  return bool(find_complete(epath.Path(workdir.path(folder))))


def cycles(folder: str) -> list[int]:
  """Returns the numbers of the complete cycles of a folder, ascending."""
  complete = find_complete(epath.Path(workdir.path(folder)))
  return sorted(
    int(path.name.rpartition('_')[2])
    for series, _, path in complete
    if series == 'cycles'
  )


def _most_advanced(folder):
  """Returns (progress, path) of the most advanced checkpoint."""
  root = epath.Path(workdir.path(folder))
  complete = find_complete(root)
  if not complete:
    raise errors.MissingFileError(
      f'{root} holds no checkpoint: name the checkpoint folder of a run that '
      'has saved one.'
    )
  return _newest(complete)


def _newest(complete):
  """Returns (progress, path) of the most advanced one of `find_complete`."""
  return max(complete, key=lambda found: progress_order(*found[:2]))[1:]


def find_complete(root):
  """Returns (series, progress, path) of all complete checkpoints.

  A process that is running may replace the newest one meanwhile: then it looks
  again. One that was being deleted when its process was killed is left out.

  Raises:
    WorkdirError: no checkpoint is complete, and a file of one is missing.
  """
  for _ in range(_ATTEMPTS):
    found, cause = _read_all_progress(root)
    if cause is None:
      break
  if cause is not None and not found:
    raise errors.WorkdirError(
      f'A checkpoint in {root} is damaged ({cause}): delete its folder to use '
      'an earlier one.'
    ) from cause
  return found


def _read_all_progress(root):
  """Returns what `find_complete` does, and the error of one left out."""
  found, cause = [], None
  for series, prefix in PREFIXES.items():
    for path in (root / series).glob(f'{prefix}_*'):
      # It takes 0.2 seconds, which a model without checkpoints does not need.
      import orbax.checkpoint as ocp

      try:
        if ocp.utils.is_checkpoint_finalized(path):
          text = (path / 'progress' / 'metadata').read_text()
          found.append((series, json.loads(text), path))
      except (FileNotFoundError, ValueError) as error:
        cause = error
  return found, cause


def _restore_latest(folder, name, keys=None):
  """Restores a part of the most advanced checkpoint, and its progress.

  A run that is under way deletes it as soon as a newer one is complete; then
  the newer one is read.
  """
  for left in reversed(range(_ATTEMPTS)):
    progress, path = _most_advanced(folder)
    try:
      kept = progress.get(constant_arrays.KEY, ())
      return _restore_part(path, name, keys, kept), progress
    except errors.WorkdirError:
      # One that is damaged stays the most advanced.
      if not left or _most_advanced(folder)[1] == path:
        raise
  raise AssertionError('unreachable')


def _restore_part(path, name, keys=None, constant=()):
  """Restores one field of a saved state, or some of its keys, on one device.

  The names `constant` are those of arrays that are kept apart.
  """
  import orbax.checkpoint as ocp

  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  handler = ocp.PyTreeCheckpointHandler()
  with explain_damage(path):
    # Of the handler: the checkpointer warns that a part has no metadata.
    tree = handler.metadata(path / 'state').tree.get(name, {})
    wanted = {
      name: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
        {key: tree[key] for key in keys or tree if tree.get(key) is not None},
      )
    }
    restore_args = ocp.args.PyTreeRestore(
      item=wanted, partial_restore=True,
      restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
    )  # fmt: skip
    found = ocp.Checkpointer(handler).restore(path / 'state', args=restore_args)
    kept = {other for other in constant if other.startswith(f'{name}/')}
    return _with_constant(path.parent.parent, found, kept, device)[name]


def _with_constant(root, found, kept, device):
  """Returns a part of a state with those of its arrays that are kept apart."""
  if not kept:
    return found
  shapes = constant_arrays.shapes(root)
  if lost := kept - {*shapes}:
    raise errors.MissingFileError(
      f'{root / constant_arrays.FOLDER} does not have {min(lost)}'
    )
  wanted = {
    name: jax.ShapeDtypeStruct(
      shapes[name].shape, shapes[name].dtype, sharding=device
    )
    for name in kept
  }
  return constant_arrays.joined(found, constant_arrays.read(root, wanted))


@contextlib.contextmanager
def explain_damage(path):
  """Turns the errors of damaged files into a WorkdirError."""
  try:
    yield
  except Exception as error:  # Orbax and TensorStore raise many types.
    raise errors.WorkdirError(
      f'{path} cannot be read ({type(error).__name__}: {str(error)[:200]}). If '
      'its files are damaged, delete that folder to use an earlier checkpoint.'
    ) from error


def progress_order(series, progress):
  """Returns a sort key: the more advanced checkpoint has the larger key.

  A moment sorts after a cycle of equal progress, because it was saved later.
  """
  return progress['event'], progress['night_updates'], series == 'moments'


def fields(path: epath.Path) -> dict[str, Any]:
  """Returns the fields of a saved state; empty if it is damaged.

  Args:
    path: of one checkpoint.

  Returns:
    Name of the field -> its tree, with metadata in place of arrays.
  """
  import orbax.checkpoint as ocp

  try:
    return dict(ocp.PyTreeCheckpointHandler().metadata(path / 'state').tree)
  except Exception:  # Orbax raises many types; reading it explains the damage.
    return {}


def integers(path: epath.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of integers with one axis or more, such as tokens.

  Args:
    path: one complete checkpoint, see `find_complete`.

  Returns:
    Name of the array -> its values.

  Raises:
    WorkdirError: the checkpoint cannot be read.
  """
  import orbax.checkpoint as ocp

  handler = ocp.PyTreeCheckpointHandler()
  with explain_damage(path):
    tree = handler.metadata(path / 'state').tree
    is_wanted = lambda x: x.shape and np.issubdtype(x.dtype, np.integer)
    wanted = jax.tree.map(
      lambda x: np.zeros(x.shape, x.dtype) if is_wanted(x) else ocp.PLACEHOLDER,
      tree,
    )
    restored = ocp.Checkpointer(handler).restore(
      path / 'state', args=ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=jax.tree.map(
          lambda x: ocp.RestoreArgs(restore_type=np.ndarray), wanted
        ),
      ),
    )  # fmt: skip
  return {
    jax.tree_util.keystr(keys, simple=True, separator='/'): np.asarray(leaf)
    for keys, leaf in jax.tree_util.tree_leaves_with_path(restored)
    if leaf is not ocp.PLACEHOLDER
  }
