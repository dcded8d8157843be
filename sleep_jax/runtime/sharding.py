"""Where arrays live: one mesh, one table; model code is written for one device.

Axes: `data` (rows), `fsdp` (rows too, and the width of parameters), `sequence`
(places of rows, and the width too), `tensor` (heads and hidden units). A rule
is a pattern of an array's path and the mesh axes of its dimensions; the first
match wins and every array must match.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from sleep_jax.runtime import mesh as mesh_lib

RULES: tuple[tuple[str, tuple], ...] = (
  # Small, or read by every device: what a night has dreamt.
  (r'(^|/)dreams/.*', ()),
  (r'embed$', (None, mesh_lib.WIDTH)),  # [V, D]
  (r'head$', (mesh_lib.WIDTH, 'tensor')),  # [D, V]
  (
    r'attention/(query|key|value)$',
    (None, mesh_lib.WIDTH, 'tensor'),
  ),  # [L, D, H K]
  (r'attention/(query|key|value)_bias$', (None, 'tensor')),  # [L, H K]
  (r'attention/out$', (None, 'tensor', mesh_lib.WIDTH)),  # [L, H K, D]
  (r'mlp/(gate|up)$', (None, mesh_lib.WIDTH, 'tensor')),  # [L, D, F]
  (r'mlp/down$', (None, 'tensor', mesh_lib.WIDTH)),  # [L, F, D]
  (r'experts/A$', (None, None, mesh_lib.WIDTH, None)),  # [L, E, D, R]
  (r'experts/B$', (None, None, None, mesh_lib.WIDTH)),  # [L, E, R, D]
  (r'experts/(router|bias)$', ()),
  (r'\d+/A$', (None, mesh_lib.WIDTH, None)),  # Fresh expert [L, D, R].
  (r'\d+/B$', (None, None, mesh_lib.WIDTH)),
  (r'\d+/(router|bias)$', ()),
  (r'(scale|norm|out_bias)$', ()),
  # Rows are written and read where a number says: whole on each device, or as
  # wide as its part of the model, so that none of them has to be sent for.
  (
    r'(pools|rollouts|kl_penalty)/(.*/)?states_BGD$',
    (None, None, mesh_lib.WIDTH),
  ),
  (r'(pools|rollouts|kl_penalty)/.*', ()),
  # Inside a program: what goes from block to block. Where many tokens meet a
  # matrix, it is gathered; where few do, they are, and their sums.
  (r'^inside/states$', (mesh_lib.ROWS, mesh_lib.PLACES)),  # [B, T, D]
  # On the way there, one axis at a time: else all devices hold all of it.
  (r'^inside/embeddings$', ('data', mesh_lib.PLACES, 'fsdp')),  # [B, T, D]
  (r'^inside/token$', ('data', None, mesh_lib.WIDTH)),  # [B, 1, D]
  (
    r'^inside/cache$',
    (mesh_lib.ROWS, 'tensor', mesh_lib.PLACES),
  ),  # [B, H, S, K]
  (
    r'^inside/caches$',
    (None, mesh_lib.ROWS, 'tensor', mesh_lib.PLACES),
  ),  # [L, B, H, S, K]
  (r'^inside/head$', ((*mesh_lib.WIDTH, 'tensor'), None)),  # [V, D]
  (r'^inside/block$', ('data',)),  # [N or B, ..., D], tokens that meet it.
  (r'^batch/\w+_BT$', (mesh_lib.ROWS, mesh_lib.PLACES)),
  (r'^batch/(.*/)?\w+_B\w*$', (mesh_lib.ROWS,)),
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

  mesh: Mesh | AbstractMesh

  @property
  def rows(self) -> int:
    """Devices that rows are spread over."""
    return int(np.prod([self.mesh.shape[axis] for axis in mesh_lib.ROWS]))

  def shardings(self, tree: Any, *, prefix: str = '') -> Any:
    """A NamedSharding for every leaf, by its path.

    Raises:
      ValueError: no rule matches, or an axis does not divide a dimension.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: self._one(name(path, prefix), leaf), tree
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
        leaf, self._check(name(path, 'trials/'), leaf, (mesh_lib.ROWS,))
      ),
      tree,
    )

  def inside(self, name: str, x: jax.Array) -> jax.Array:
    """Inside a program: an array where the table has it, if that can be."""
    axes = self._axes(f'inside/{name}', x)
    if mesh_lib.PLACES in [axis for axis, *_ in self._undivided(x, axes)]:
      # Short, or of an odd length: each device has all of its rows' places.
      axes = tuple(None if axis == mesh_lib.PLACES else axis for axis in axes)
    if self._undivided(x, axes):
      return x  # A few rows, less than devices.
    there = NamedSharding(self.mesh, PartitionSpec(*axes))
    return jax.lax.with_sharding_constraint(x, there)

  def alone(self, name: str, x: jax.Array) -> jax.Array:
    """Inside one of the trials that devices share out: whole, where it is.

    Else all activations of all trials may be gathered, not a block's weights.
    """
    if name != 'states':
      return x
    return jax.lax.with_sharding_constraint(
      x, NamedSharding(self.mesh, PartitionSpec())
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
    return self._check(name, leaf, self._axes(name, leaf))

  def _axes(self, name, leaf):
    for pattern, axes in RULES:
      if re.search(pattern, name):
        return axes[: leaf.ndim]
    raise ValueError(
      f'No sharding rule matches {name!r} of shape {leaf.shape}: add one to '
      'sharding.RULES.'
    )

  def _undivided(self, leaf, axes):
    """Dimensions that their axes do not divide: (axis, its size, dimension)."""
    sizes = [math.prod(self.mesh.shape[a] for a in _tuple(x)) for x in axes]
    return [
      (axis, size, dimension)
      for axis, size, dimension in zip(axes, sizes, leaf.shape, strict=False)
      if dimension % size
    ]

  def _check(self, name, leaf, axes):
    for axis, size, dimension in self._undivided(leaf, axes[: leaf.ndim]):
      near = [n for n in range(size, 0, -1) if not dimension % n][0]
      axis = ' x '.join(a for a in _tuple(axis) if self.mesh.shape[a] > 1)
      raise ValueError(
        f'Mesh axis {axis} of {size} devices does not divide a dimension of '
        f'{dimension} in {name!r} of shape {leaf.shape}: choose a mesh whose '
        f'{axis} divides it (the next lower that does is {near}), or change '
        'the size.'
      )
    return NamedSharding(self.mesh, PartitionSpec(*axes[: leaf.ndim]))


def make(
  *,
  data: int = -1,
  fsdp: int = 1,
  sequence: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Placement:
  """Lays the devices out as a mesh.

  Slices, between which there is only the data centre's network, share out
  `data`: nothing but a sum of gradients goes from one to another.

  Args:
    data: devices along `data`; -1 takes all that are left.
    sequence: devices that share out each row of a batch.
    devices: all, if None.

  Raises:
    ValueError: see `shape`.
  """
  given = list(jax.devices() if devices is None else devices)
  slices = len({getattr(d, 'slice_index', None) for d in given})
  data, *inner = mesh_lib.shape(
    len(given), slices=slices, data=data, fsdp=fsdp, sequence=sequence,
    tensor=tensor,
  )  # fmt: skip
  if slices > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      (data // slices, *inner), (slices, 1, 1, 1), given,
      allow_split_physical_axes=True,
    )  # fmt: skip
  else:
    grid = mesh_utils.create_device_mesh(
      (data, *inner), given, allow_split_physical_axes=True
    )
  return Placement(Mesh(grid, mesh_lib.AXES, axis_types=mesh_lib.AXIS_TYPES))


def imagined(num: int, *, slices: int = 1, **axes: int) -> Placement:
  """A placement on so many devices that nobody has: for shapes alone.

  Raises:
    ValueError: see `shape`.
  """
  sizes = mesh_lib.shape(num, slices=slices, **axes)
  return Placement(
    AbstractMesh(sizes, mesh_lib.AXES, axis_types=mesh_lib.AXIS_TYPES)
  )


def name(path, prefix: str = '') -> str:
  """Of a leaf, as the table knows it: a path of a tree, joined by '/'."""
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
