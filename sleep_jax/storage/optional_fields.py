"""Reads trees that another version saved with other fields without arrays.

Orbax compares the names of all fields with those on disk, also of fields that
are None. A field that a version adds, and that is None where nothing uses it,
would make all earlier checkpoints unreadable.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax


def as_saved(wanted: Any, saved: Any) -> Any:
  """Returns a tree with the fields that a saved tree has.

  Fields without arrays that are not saved are left out, and saved ones that are
  not wanted are added. Dataclasses become dicts.

  Args:
    wanted: tree of dataclasses and dicts; other nodes stay as they are.
    saved: what is saved in its place, as nested dicts.
  """
  fields = _fields(wanted)
  if fields is None or not isinstance(saved, Mapping):
    return wanted
  found = {name: x for name, x in saved.items() if _is_empty(x)}
  for name, value in fields.items():
    if name in saved or not _is_empty(value):
      found[name] = as_saved(value, saved.get(name))
  return found


def as_wanted(wanted: Any, found: Any) -> Any:
  """Returns a tree that was read, in the form of the wanted one.

  Args:
    wanted: see `as_saved`.
    found: a tree as `as_saved` returns it, with values.
  """
  fields = _fields(wanted)
  if fields is None or not isinstance(found, Mapping):
    return found
  own = {
    name: as_wanted(value, found[name]) if name in found else value
    for name, value in fields.items()
  }
  if isinstance(wanted, Mapping):
    return own
  return dataclasses.replace(wanted, **own)


def _fields(tree: Any) -> dict[str, Any] | None:
  """Returns the fields of a dataclass or dict, else None."""
  if isinstance(tree, Mapping):
    return dict(tree)
  # A leaf, such as a shape, may also be a dataclass.
  if dataclasses.is_dataclass(tree) and not jax.tree_util.all_leaves([tree]):
    return {
      field.name: getattr(tree, field.name)
      for field in dataclasses.fields(tree)
      if field.metadata.get('pytree_node', True)
    }
  return None


def _is_empty(tree: Any) -> bool:
  return not jax.tree.leaves(tree)
