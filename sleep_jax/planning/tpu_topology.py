"""TPUs that are not here: their topologies, and what a chip can do.

`libtpu`, the real compiler, works on a machine without a TPU if it is told not
to look for one, before JAX starts.

References: peak speed, memory and bandwidth of a chip as published in Google
Cloud's TPU documentation (system architecture of v5e, v5p and v6e).
"""

import dataclasses
import importlib.util
import itertools
import math
import os
import re
from collections.abc import Sequence
from typing import Any

# Set before JAX is imported: compile only, and ask nobody for a machine.
COMPILE_ONLY_ENV = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip.

  Attributes:
    flops: bf16, per second, at most.
    bytes: of memory that a program may use; the system keeps the rest.
    bandwidth: of its memory, bytes per second.
    layouts: of slices.
  """

  flops: float
  bytes: float
  bandwidth: float
  layouts: tuple[str, ...]


_FLAT = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_DEEP = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8')
CHIPS = {
  'v5e': Chip(197e12, 15.75 * 2**30, 819e9, _FLAT),
  'v5p': Chip(459e12, 95.74 * 2**30, 2765e9, _DEEP),
  'v6e': Chip(918e12, 31.25 * 2**30, 1640e9, _FLAT),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Slices of chips, 'v5e:4x4', several of them as '2*v5e:4x4'."""

  name: str
  chip: Chip
  layout: str
  slices: int = 1

  @property
  def num_devices(self) -> int:
    sizes = map(int, self.layout.split('x'))
    num = self.slices
    for size in sizes:
      num *= size
    return num

  def devices(self) -> Sequence[Any]:
    """As `libtpu` knows them.

    Raises:
      ValueError: the compiler knows no such topology.
    """
    import jax  # Not before `ALONE` is set.
    from jax.experimental import topologies

    kind = self.name.split('*')[-1]
    more: dict[str, Any] = {}
    if self.slices > 1:
      more['num_slices'] = self.slices
    if self.layout == '1x1':
      more['chips_per_host_bounds'] = (1, 1, 1)
    try:
      found = topologies.get_topology_desc(
        platform='tpu', topology_name=kind, **more
      )
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
      raise ValueError(
        f'libtpu knows no topology {self.name!r} ({error}). Known: {known_names()}.'
      ) from error
    return found.devices


def parse(name: str) -> Topology:
  """A topology by its name.

  Raises:
    ValueError: there is none; lists those that are known.
  """
  match = re.fullmatch(r'(?:([1-9]\d*)\*)?(\w+):(\w+)', name)
  slices, chip, layout = match.groups() if match else (None, '', '')
  if chip not in CHIPS or layout not in CHIPS[chip].layouts:
    raise ValueError(
      f'topology {name!r} is unknown: expected one of {known_names()}; several '
      "slices as '2*v5e:4x4'."
    )
  return Topology(name, CHIPS[chip], layout, int(slices or 1))


def known_names() -> str:
  return ', '.join(
    f'{kind}:{layout}'
    for kind, chip in CHIPS.items()
    for layout in chip.layouts
  )


def padded_bytes(shape: Sequence[int], size: int) -> int:
  """Bytes that an array takes up, with those that fill its tiles up.

  Tiles are of 8 x 128 numbers, fewer rows for an array of few, and lie on the
  two dimensions where they fit best; a vector lies in rows of 128 or of 1,024.

  Args:
    size: bytes of a number; several smaller ones share 4.
  """
  least = max(1, 4 // size)
  count = math.prod(shape)
  if len(shape) < 2:
    return size * _up(count, 128 * least if count <= 512 else 1024)
  fitting = (
    count // (shape[row] * shape[lane] or 1)
    * _up(shape[row], min(8, max(least, 1 << (shape[row] - 1).bit_length())))
    * _up(shape[lane], 128)
    for row, lane in itertools.permutations(range(len(shape)), 2)
  )  # fmt: skip
  return size * min(fitting)


def _up(size: int, unit: int) -> int:
  return size + -size % unit


def compiler_versions() -> str:
  """Versions of what compiles."""
  names = ('jax', 'jaxlib', 'libtpu')
  return ', '.join(
    f'{name} {importlib.metadata.version(name)}'
    for name in names
    if importlib.util.find_spec(name)
  )


def unavailable_reason() -> str:
  """Why nothing can be compiled for TPUs here; '': it can."""
  if importlib.util.find_spec('libtpu') is None:
    return "libtpu is not installed: pip install 'sleep_jax[tpu]'"
  unset = [name for name in COMPILE_ONLY_ENV if name not in os.environ]
  if unset:
    return f'{", ".join(unset)} must be set before JAX starts, see tpu.ALONE'
  return ''
