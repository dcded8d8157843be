"""Chooses the axis sizes of the device mesh.

The mesh has four axes: `data` (rows of a batch), `fsdp` (rows, and the width of
parameters), `sequence` (positions within a row, and the width of parameters)
and `tensor` (heads and hidden units). `sharding` maps arrays to these axes.
"""

import itertools
import math

import jax

from sleep_jax import errors

AXES = ('data', 'fsdp', 'sequence', 'tensor')
ROWS, POSITIONS = ('data', 'fsdp'), 'sequence'
WIDTH = ('fsdp', 'sequence')  # Axes that shard tokens also shard parameters.
AXIS_TYPES = (jax.sharding.AxisType.Auto,) * len(AXES)


def shape(
  num: int,
  *,
  slices: int = 1,
  data: int = -1,
  fsdp: int = 1,
  sequence: int = 1,
  tensor: int = 1,
) -> tuple[int, int, int, int]:
  """Returns the axis sizes of a mesh of `num` devices in `slices` slices.

  Args:
    num: number of devices.
    slices: number of slices the devices belong to.
    data: size of the `data` axis; -1 uses all remaining devices.
    fsdp: size of the `fsdp` axis.
    sequence: size of the `sequence` axis.
    tensor: size of the `tensor` axis.

  Raises:
    ConfigError: the product of the sizes is not the number of devices, or
      `data` is not a multiple of the number of slices.
  """
  inner = fsdp, sequence, tensor
  if data == -1:
    data = max(num // math.prod(inner), 1)
  needed = data * math.prod(inner)
  if needed != num:
    raise errors.ConfigError(
      f'mesh data={data} x fsdp={fsdp} x sequence={sequence} x '
      f'tensor={tensor} needs {needed} devices, but there are {num}: change '
      'config.mesh so that the product equals the number of devices. Nearest '
      f'valid mesh: {_nearest_mesh(num, inner)}.'
    )
  if data % slices:
    raise errors.ConfigError(
      f'mesh data={data} is not a multiple of the {slices} slices, over which '
      'the data axis is divided. Lower config.mesh.fsdp, .sequence or '
      '.tensor. Nearest valid mesh: '
      f'{_nearest_mesh(num // slices, inner, slices)}.'
    )
  return data, *inner


def _nearest_mesh(
  num_devices: int, inner: tuple[int, ...], slices: int = 1
) -> str:
  """Describes the mesh of all devices whose inner axes are nearest to `inner`.

  Distance is the sum of absolute log ratios of the axis sizes.
  """
  divisors = [n for n in range(1, num_devices + 1) if not num_devices % n]
  candidates = [
    sizes
    for sizes in itertools.product(divisors, repeat=len(inner))
    if not num_devices % math.prod(sizes)
  ]
  distance = lambda sizes: sum(
    abs(math.log(size / wanted))
    for size, wanted in zip(sizes, inner, strict=True)
  )
  nearest = min(candidates, key=distance)
  sizes = slices * num_devices // math.prod(nearest), *nearest
  return ', '.join(
    f'{axis}={size}' for axis, size in zip(AXES, sizes, strict=True)
  )
