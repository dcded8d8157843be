"""TODO: runtime.mesh (from sharding)."""

import itertools
import math

import jax

AXES = ('data', 'fsdp', 'sequence', 'tensor')
ROWS, PLACES = ('data', 'fsdp'), 'sequence'
WIDTH = ('fsdp', 'sequence')  # What shares out tokens shares out parameters.
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
  """Sizes of the axes of a mesh of `num` devices, in `slices`.

  Raises:
    ValueError: the product is not the number of devices, or the slices do not
      divide `data`.
  """
  inner = fsdp, sequence, tensor
  if data == -1:
    data = max(num // math.prod(inner), 1)
  needed = data * math.prod(inner)
  if needed != num:
    raise ValueError(
      f'mesh data={data} x fsdp={fsdp} x sequence={sequence} x '
      f'tensor={tensor} needs {needed} devices, but there are {num}: change '
      'config.mesh so that the product agrees. Nearest: '
      f'{_nearest(num, inner)}.'
    )
  if data % slices:
    raise ValueError(
      f'mesh data={data}: {slices} slices share it out, so that it must be a '
      'multiple of them. Lower config.mesh.fsdp, .sequence or .tensor. '
      f'Nearest: {_nearest(num // slices, inner, slices)}.'
    )
  return data, *inner


def _nearest(devices: int, inner: tuple[int, ...], slices: int = 1) -> str:
  """The mesh of all devices whose inner axes are nearest to these."""
  divisors = [n for n in range(1, devices + 1) if not devices % n]
  shapes = [
    shape
    for shape in itertools.product(divisors, repeat=len(inner))
    if not devices % math.prod(shape)
  ]
  away = lambda shape: sum(
    abs(math.log(size / wanted))
    for size, wanted in zip(shape, inner, strict=True)
  )
  found = min(shapes, key=away)
  sizes = slices * devices // math.prod(found), *found
  return ', '.join(
    f'{axis}={size}' for axis, size in zip(AXES, sizes, strict=True)
  )
