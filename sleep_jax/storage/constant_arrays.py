"""Arrays of a run that never change, saved once beside its checkpoints.

The weights of a pretrained model are most of a state. If no step and no night
moves them, each checkpoint has the rest only.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath

FOLDER = 'constant'
KEY = 'constant'  # Of a checkpoint's progress: names that it does not have.


def select(tree: Any, is_constant: Callable[[str], bool]) -> dict[str, Any]:
  """Returns some arrays of a tree, by name.

  Args:
    tree: any tree; its keys joined by '/' are the names.
    is_constant: (name) -> whether the array is wanted.
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  named = {_name(path): leaf for path, leaf in leaves}
  return {name: leaf for name, leaf in named.items() if is_constant(name)}


def without(tree: Any, names: frozenset[str]) -> Any:
  """Returns a tree with None in place of some arrays."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: None if _name(path) in names else leaf, tree
  )


def joined(tree: Any, arrays: Mapping[str, Any]) -> Any:
  """Returns a tree with arrays in place of None, where a name has one."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: arrays.get(_name(path)) if leaf is None else leaf,
    tree,
    is_leaf=_is_none,
  )


def write(folder: epath.Path, arrays: Mapping[str, Any]) -> None:
  """Writes arrays by name, in place of those that the folder may have.

  Returns when they are on disk. They are complete or absent.
  """
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / FOLDER, dict(arrays), force=True)


def shapes(folder: epath.Path) -> dict[str, Any]:
  """Returns the arrays that are kept, with `shape` and `dtype`, by name."""
  path = folder / FOLDER
  if not path.exists():
    return {}
  # It takes 0.2 seconds, which a model without checkpoints does not need.
  import orbax.checkpoint as ocp

  return dict(ocp.PyTreeCheckpointHandler().metadata(path).tree)


def read(folder: epath.Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
  """Reads arrays.

  Args:
    folder: see `write`.
    wanted: name -> `jax.ShapeDtypeStruct` with a sharding.
  """
  import orbax.checkpoint as ocp

  args = ocp.args.PyTreeRestore(
    item=dict(wanted), partial_restore=True,
    restore_args=ocp.checkpoint_utils.construct_restore_args(dict(wanted)),
  )  # fmt: skip
  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  return checkpointer.restore(folder / FOLDER, args=args)


def _name(path):
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _is_none(leaf):
  return leaf is None
