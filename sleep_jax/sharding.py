"""Where arrays live: one mesh, one table; model code is written for one device.

Axes: `data` (rows), `fsdp` (rows too, and the width of parameters), `tensor`
(heads and hidden units). A rule is a pattern of an array's path and the mesh
axes of its dimensions; the first match wins and every array must match.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXES = ('data', 'fsdp', 'tensor')
ROWS = ('data', 'fsdp')
RULES: tuple[tuple[str, tuple], ...] = (
  # Small, or read by every device: what a night has dreamt.
  (r'dreams/.*', ()),
  (r'embed$', (None, 'fsdp')),  # [V, D]
  (r'head$', ('fsdp', 'tensor')),  # [D, V]
  (r'attention/(query|key|value)$', (None, 'fsdp', 'tensor')),  # [L, D, H K]
  (r'attention/(query|key|value)_bias$', (None, 'tensor')),  # [L, H K]
  (r'attention/out$', (None, 'tensor', 'fsdp')),  # [L, H K, D]
  (r'mlp/(gate|up)$', (None, 'fsdp', 'tensor')),  # [L, D, F]
  (r'mlp/down$', (None, 'tensor', 'fsdp')),  # [L, F, D]
  (r'experts/A$', (None, None, 'fsdp', None)),  # [L, E, D, R]
  (r'experts/B$', (None, None, None, 'fsdp')),  # [L, E, R, D]
  (r'experts/(router|bias)$', ()),
  (r'\d+/A$', (None, 'fsdp', None)),  # Fresh expert [L, D, R].
  (r'\d+/B$', (None, None, 'fsdp')),
  (r'\d+/(router|bias)$', ()),
  (r'(scale|norm|out_bias)$', ()),
  (r'(pools|rollouts|tether)/.*', (ROWS,)),
  (r'^batch/(.*/)?\w+_B\w*$', (ROWS,)),
  # Small, or read by every device: counters, keys, prompts, memories, metrics.
  (
    r'(^|/)(step|key|count|update|written|active_NE|woke_N|guard_N|pair_2|mu|nu)$',
    (),
  ),
  (r'(replay|memory|probes|metrics|priorities)/.*', ()),
)


@dataclasses.dataclass(frozen=True)
class Placement:
  """A mesh and the table that places every tree on it."""

  mesh: Mesh

  @property
  def rows(self) -> int:
    """Devices that rows are spread over."""
    return int(np.prod([self.mesh.shape[axis] for axis in ROWS]))

  def shardings(self, tree: Any, *, prefix: str = '') -> Any:
    """A NamedSharding for every leaf, by its path.

    Raises:
      ValueError: no rule matches, or an axis does not divide a dimension.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: self._one(_name(path, prefix), leaf), tree
    )

  def put(self, tree: Any, *, prefix: str = '') -> Any:
    """The one transfer in: host arrays to their places."""
    places = self.shardings(tree, prefix=prefix)
    if jax.process_count() == 1:
      return jax.device_put(tree, places)
    # Of what all processes hold, each brings the part of its own devices.
    part = lambda x, place: jax.make_array_from_callback(
      np.shape(x), place, np.asarray(x).__getitem__
    )
    return jax.tree.map(part, tree, places)

  def spread(self, tree: Any) -> Any:
    """Inside a program: the leading axis of every leaf over all devices' rows.

    Raises:
      ValueError: the devices do not divide it.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: jax.lax.with_sharding_constraint(
        leaf, self._check(_name(path, 'trials/'), leaf, (ROWS,))
      ),
      tree,
    )

  def jit(self, function: Callable, *args: Any, donate: bool = True):
    """Compiles `function(state, ...) -> state` or `(state, metrics)`.

    Outputs are pinned to the table, so that one step's outputs are the next
    step's inputs without a move; the first argument is donated.

    Args:
      *args: examples of the arguments, arrays or shapes.
    """
    out = jax.eval_shape(function, *args)
    if isinstance(out, tuple) and len(out) == 2:
      pinned = (
        self.shardings(out[0]),
        self.shardings(out[1], prefix='metrics/'),
      )
    else:
      pinned = self.shardings(out)
    return jax.jit(
      function, out_shardings=pinned, donate_argnums=(0,) if donate else ()
    )

  def _one(self, name, leaf):
    for pattern, axes in RULES:
      if re.search(pattern, name):
        return self._check(name, leaf, axes)
    raise ValueError(
      f'No sharding rule matches {name!r} of shape {leaf.shape}: add one to '
      'sharding.RULES.'
    )

  def _check(self, name, leaf, axes):
    axes = axes[: leaf.ndim]
    for dimension, axis in zip(leaf.shape, axes, strict=False):
      size = int(np.prod([self.mesh.shape[a] for a in _tuple(axis)]))
      if dimension % size:
        raise ValueError(
          f'Mesh axis {axis} of {size} devices does not divide a dimension of '
          f'{dimension} in {name!r} of shape {leaf.shape}: choose a mesh whose '
          f'{axis} divides it, or change the size.'
        )
    return NamedSharding(self.mesh, PartitionSpec(*axes))


def make(*, data: int = -1, fsdp: int = 1, tensor: int = 1) -> Placement:
  """Lays the devices out as a mesh.

  Args:
    data: devices along `data`; -1 takes all that are left.

  Raises:
    ValueError: the product is not the number of devices.
  """
  devices = len(jax.devices())
  if data == -1:
    data = max(devices // (fsdp * tensor), 1)
  if data * fsdp * tensor != devices:
    raise ValueError(
      f'mesh data={data} x fsdp={fsdp} x tensor={tensor} needs '
      f'{data * fsdp * tensor} devices, but there are {devices}: change '
      'config.mesh so that the product agrees.'
    )
  mesh = jax.make_mesh(
    (data, fsdp, tensor), AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
  )  # fmt: skip
  return Placement(mesh)


def _name(path, prefix):
  parts = []
  for entry in path:
    for field in ('name', 'key', 'idx'):
      if hasattr(entry, field):
        parts.append(str(getattr(entry, field)))
        break
  return prefix + '/'.join(parts)


def _tuple(axis):
  if axis is None:
    return ()
  return axis if isinstance(axis, tuple) else (axis,)
