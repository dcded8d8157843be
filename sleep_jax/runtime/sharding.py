"""Maps every array to a sharding with one table of rules.

Model code is written for one device. Each rule is a pattern for an array's path
and the mesh axes of its dimensions; the first match wins and every array must
match. `mesh` describes the axes.
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

from sleep_jax import errors
from sleep_jax.runtime import host_memory
from sleep_jax.runtime import mesh as mesh_lib

RULES: tuple[tuple[str, tuple], ...] = (
  # Dreams of a night: small, or read by every device.
  (r'(^|/)dreams/.*', ()),
  (r'(^|/)adapter/.*', ()),  # Small.
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
  (r'experts/[AU]$', (None, None, mesh_lib.WIDTH, None)),  # [L, E, D, R]
  (r'experts/B$', (None, None, None, mesh_lib.WIDTH)),  # [L, E, R, D]
  (r'experts/(router|bias)$', ()),
  (r'\d+/[AU]$', (None, mesh_lib.WIDTH, None)),  # Fresh expert [L, D, R].
  (r'\d+/B$', (None, None, mesh_lib.WIDTH)),
  (r'\d+/(router|bias)$', ()),
  (r'(scale|norm|out_bias|day_share)$', ()),
  # Rows are written and read by index. No axis shards the rows, so that an
  # access needs no communication; the width is sharded like the model.
  (
    r'(pools|rollouts|(second_)?kl_penalty)/(.*/)?states_BGD$',
    (None, None, mesh_lib.WIDTH),
  ),
  (r'(pools|rollouts|(second_)?kl_penalty)/.*', ()),
  # Values inside a program. Where many tokens are multiplied by a matrix, the
  # matrix is gathered; where few are, the tokens and the results are gathered.
  (r'^program/states$', (mesh_lib.ROWS, mesh_lib.POSITIONS)),  # [B, T, D]
  # An intermediate step that reshards one axis at a time; resharding all at
  # once would put the whole array on every device.
  (r'^program/embeddings$', ('data', mesh_lib.POSITIONS, 'fsdp')),  # [B, T, D]
  (r'^program/token$', ('data', None, mesh_lib.WIDTH)),  # [B, 1, D]
  (
    r'^program/cache$',
    (mesh_lib.ROWS, 'tensor', mesh_lib.POSITIONS),
  ),  # [B, H, S, K]
  (
    r'^program/caches$',
    (None, mesh_lib.ROWS, 'tensor', mesh_lib.POSITIONS),
  ),  # [L, B, H, S, K]
  (r'^program/head$', ((*mesh_lib.WIDTH, 'tensor'), None)),  # [V, D]
  (r'^program/block$', ('data',)),  # [N or B, ..., D], its few tokens.
  (r'^batch/\w+_BT$', (mesh_lib.ROWS, mesh_lib.POSITIONS)),
  (r'^batch/(.*/)?\w+_B\w*$', (mesh_lib.ROWS,)),
  # Small, or read by every device: counters, keys, prompts, buffers, metrics.
  (
    r'(^|/)(step|key|count|update|written|active_NE|woke_N|guard_N|pair_2|mu|nu)$',
    (),
  ),
  (r'(replay|row_buffer|probes|metrics|priorities|length)/.*', ()),
  # Arrays of a strategy; those with the path of a matrix match a rule above.
  (r'^strategy/.*', ()),
)


@dataclasses.dataclass(frozen=True)
class Placement:
  """A mesh, and methods that shard trees over it by `RULES`.

  Attributes:
    mesh: see `mesh.AXES`; abstract where only shapes are needed.
  """

  mesh: Mesh | AbstractMesh

  @property
  def num_row_shards(self) -> int:
    """Number of shards that rows are divided into."""
    return int(np.prod([self.mesh.shape[axis] for axis in mesh_lib.ROWS]))

  def shardings(self, tree: Any, *, prefix: str = '') -> Any:
    """Returns the NamedSharding of every leaf, chosen by its path.

    Args:
      tree: arrays or shapes.
      prefix: prepended to each path before it is matched.

    Raises:
      ConfigError: an axis does not divide a dimension.
      ValueError: no rule matches.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: self._sharding(path_name(path, prefix), leaf), tree
    )

  def put(self, tree: Any, *, prefix: str = '') -> Any:
    """Transfers host arrays to their devices.

    With several processes, each must hold all of the arrays.
    """
    places = self.shardings(tree, prefix=prefix)
    if jax.process_count() == 1:
      return jax.device_put(tree, places)
    # Each process transfers only the part that its own devices need.
    part = lambda x, place: jax.make_array_from_callback(
      np.shape(x), place, np.asarray(x).__getitem__
    )
    return jax.tree.map(part, tree, places)

  def shard_rows(self, tree: Any) -> Any:
    """Shards the leading axis of every leaf like rows, inside a program.

    Raises:
      ConfigError: the number of shards does not divide it.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, leaf: jax.lax.with_sharding_constraint(
        leaf, self._checked(path_name(path, 'trials/'), leaf, (mesh_lib.ROWS,))
      ),
      tree,
    )

  def constrain(self, name: str, x: jax.Array) -> jax.Array:
    """Constrains a value inside a program to its rule, where sizes allow.

    Args:
      name: matched as 'program/NAME'.
      x: the value. Returned unchanged if its axes do not divide its dimensions
        even with all positions on every device.
    """
    axes = self._axes(f'program/{name}', x)
    if mesh_lib.POSITIONS in [axis for axis, *_ in self._indivisible(x, axes)]:
      # The length is not divisible: each device holds whole rows.
      axes = tuple(
        None if axis == mesh_lib.POSITIONS else axis for axis in axes
      )
    if self._indivisible(x, axes):
      return x  # Fewer rows than shards.
    place = NamedSharding(self.mesh, PartitionSpec(*axes))
    return jax.lax.with_sharding_constraint(x, place)

  def replicate_states(self, name: str, x: jax.Array) -> jax.Array:
    """Keeps states unsharded inside a trial, where devices divide the trials.

    Without this constraint the partitioner may gather the activations of all
    trials instead of the weights of one block.
    """
    if name != 'states':
      return x
    return jax.lax.with_sharding_constraint(
      x, NamedSharding(self.mesh, PartitionSpec())
    )

  def jit(self, function: Callable, *args: Any, donate: bool = True):
    """Compiles `function(state, ...) -> state` or `(state, metrics)`.

    Outputs are sharded by `RULES`, so that the state of one step is the input
    of the next without a transfer.

    Args:
      function: the program.
      *args: examples of its arguments, arrays or shapes.
      donate: whether the first argument is donated.
    """
    out = jax.eval_shape(function, *args)
    if isinstance(out, tuple) and len(out) == 2:
      shardings = (
        self.shardings(out[0]),
        self.shardings(out[1], prefix='metrics/'),
      )
    else:
      shardings = self.shardings(out)
    return jax.jit(
      function, out_shardings=shardings, donate_argnums=(0,) if donate else ()
    )

  def compile(self, program: Any, *args: Any) -> None:
    """Compiles a program of `jit` for these arguments, before its first call.

    What compiling leaves is returned to the system, so that it does not add to
    what the program itself needs.
    """
    program.lower(*args).compile()
    host_memory.trim()

  def _sharding(self, name, leaf):
    return self._checked(name, leaf, self._axes(name, leaf))

  def _axes(self, name, leaf):
    for pattern, axes in RULES:
      if re.search(pattern, name):
        return axes[: leaf.ndim]
    raise ValueError(
      f'No sharding rule matches {name!r} of shape {leaf.shape}: add one to '
      'runtime.sharding.RULES.'
    )

  def _indivisible(self, leaf, axes):
    """Returns (axes, their size, dimension) where they do not divide it."""
    sizes = [math.prod(self.mesh.shape[a] for a in _as_tuple(x)) for x in axes]
    return [
      (axis, size, dimension)
      for axis, size, dimension in zip(axes, sizes, leaf.shape, strict=False)
      if dimension % size
    ]

  def _checked(self, name, leaf, axes):
    """Returns the sharding; raises ConfigError where axes do not divide."""
    for axis, size, dimension in self._indivisible(leaf, axes[: leaf.ndim]):
      nearest = [n for n in range(size, 0, -1) if not dimension % n][0]
      axis = ' x '.join(a for a in _as_tuple(axis) if self.mesh.shape[a] > 1)
      raise errors.ConfigError(
        f'Mesh axis {axis} of {size} devices does not divide a dimension of '
        f'{dimension} in {name!r} of shape {leaf.shape}: choose a mesh whose '
        f'{axis} divides it (the next lower size that does is {nearest}), or '
        'change the dimension.'
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
  """Returns a placement on a mesh of real devices.

  Slices are connected by the data centre network only, so they divide the
  `data` axis: only sums of gradients cross between them.

  Args:
    data: size of the `data` axis; -1 uses all remaining devices.
    fsdp: size of the `fsdp` axis.
    sequence: number of devices that each row of a batch is divided over.
    tensor: size of the `tensor` axis.
    devices: devices of the mesh; None uses all.

  Raises:
    ConfigError: see `mesh.shape`.
  """
  devices = list(jax.devices() if devices is None else devices)
  slices = len({getattr(d, 'slice_index', None) for d in devices})
  data, *inner = mesh_lib.shape(
    len(devices), slices=slices, data=data, fsdp=fsdp, sequence=sequence,
    tensor=tensor,
  )  # fmt: skip
  if slices > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      (data // slices, *inner), (slices, 1, 1, 1), devices,
      allow_split_physical_axes=True,
    )  # fmt: skip
  else:
    grid = mesh_utils.create_device_mesh(
      (data, *inner), devices, allow_split_physical_axes=True
    )
  return Placement(Mesh(grid, mesh_lib.AXES, axis_types=mesh_lib.AXIS_TYPES))


def make_abstract(num: int, *, slices: int = 1, **axes: int) -> Placement:
  """Returns a placement on `num` abstract devices, for computing shapes.

  Args:
    num: number of devices.
    slices: number of slices.
    **axes: axis sizes, see `mesh.shape`.

  Raises:
    ConfigError: see `mesh.shape`.
  """
  sizes = mesh_lib.shape(num, slices=slices, **axes)
  return Placement(
    AbstractMesh(sizes, mesh_lib.AXES, axis_types=mesh_lib.AXIS_TYPES)
  )


def path_name(path, prefix: str = '') -> str:
  """Returns a key path of a tree as a string joined by '/', as in `RULES`."""
  parts = []
  for entry in path:
    for field in ('name', 'key', 'idx'):
      if hasattr(entry, field):
        parts.append(str(getattr(entry, field)))
        break
  return prefix + '/'.join(parts)


def _as_tuple(axis):
  if axis is None:
    return ()
  return axis if isinstance(axis, tuple) else (axis,)
