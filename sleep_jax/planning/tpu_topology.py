"""TPU topologies and the specifications of their chips.

libtpu, the TPU compiler, runs on a machine without a TPU if the environment
variables in `COMPILE_ONLY_ENV` are set before JAX starts.

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

from sleep_jax import errors
from sleep_jax.model import config as config_lib
from sleep_jax.planning import chips

# Set these before JAX is imported: libtpu then only compiles and does not query
# a metadata server for a TPU.
COMPILE_ONLY_ENV = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
}


_LAYOUTS_2D = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_LAYOUTS_3D = (
  '2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8',
)  # fmt: skip
CHIPS = {
  'v5e': chips.Chip(197e12, 15.75 * 2**30, 819e9, _LAYOUTS_2D),
  'v5p': chips.Chip(459e12, 95.74 * 2**30, 2765e9, _LAYOUTS_3D),
  'v6e': chips.Chip(918e12, 31.25 * 2**30, 1640e9, _LAYOUTS_2D),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """One or more slices of chips.

  Attributes:
    name: 'v5e:4x4', or for several slices '2*v5e:4x4'.
    chip: the type of chip.
    layout: shape of one slice.
    slices: number of slices.
  """

  name: str
  chip: chips.Chip
  layout: str
  slices: int = 1

  @property
  def num_devices(self) -> int:
    sizes = map(int, self.layout.split('x'))
    num = self.slices
    for size in sizes:
      num *= size
    return num

  @property
  def efficiency(self) -> chips.Efficiency | None:
    """None: times are lower bounds."""
    return None

  def chip_for(self, dtype: str) -> chips.Chip:
    """Returns the chip; f32 products are rounded to bf16 there."""
    del dtype
    return self.chip

  def array_bytes(self, shape: Sequence[int], itemsize: int) -> int:
    """Returns the bytes of an array, see `padded_bytes`."""
    return padded_bytes(shape, itemsize)

  def attention_kernel(self, model: config_lib.Model, dtype: str) -> str:
    """Returns the kernel of a model, as its config names it."""
    del dtype
    return model.attention

  def describe(self) -> str:
    """Returns the devices in words."""
    return (
      f'{self.num_devices} chips with {self.chip.bytes / 2**30:.2f} GiB each'
    )

  def devices(self) -> Sequence[Any]:
    """Returns the devices that libtpu compiles for.

    Raises:
      ConfigError: libtpu does not know the topology.
    """
    import jax  # Only after `COMPILE_ONLY_ENV` is set.
    from jax.experimental import topologies

    slice_name = self.name.split('*')[-1]
    options: dict[str, Any] = {}
    if self.slices > 1:
      options['num_slices'] = self.slices
    if self.layout == '1x1':
      options['chips_per_host_bounds'] = (1, 1, 1)
    try:
      found = topologies.get_topology_desc(
        platform='tpu', topology_name=slice_name, **options
      )
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
      raise errors.ConfigError(
        f'libtpu knows no topology {self.name!r} ({error}): expected one of '
        f'{known_names()}.'
      ) from error
    return found.devices


def parse(name: str) -> Topology:
  """Returns the topology with a name.

  Raises:
    ConfigError: the name is unknown. The message lists the known ones.
  """
  match = re.fullmatch(r'(?:([1-9]\d*)\*)?(\w+):(\w+)', name)
  slices, chip, layout = match.groups() if match else (None, '', '')
  if chip not in CHIPS or layout not in CHIPS[chip].layouts:
    raise errors.ConfigError(
      f'topology {name!r} is unknown: expected one of {known_names()}; for '
      "several slices '2*v5e:4x4'; for one GPU 'gpu:24GB'."
    )
  return Topology(name, CHIPS[chip], layout, int(slices or 1))


def known_names() -> str:
  """Returns the names of all topologies of one slice, joined by commas."""
  return ', '.join(
    f'{kind}:{layout}'
    for kind, chip in CHIPS.items()
    for layout in chip.layouts
  )


def padded_bytes(shape: Sequence[int], itemsize: int) -> int:
  """Returns the bytes of an array in TPU memory, with the padding of tiles.

  A tile has 8 x 128 elements, or fewer rows if the array has few. It is laid
  along the two dimensions that need the least padding. A vector is padded to a
  multiple of 128 or 1,024 elements.

  Args:
    shape: shape of the array.
    itemsize: bytes of an element. Elements smaller than 4 bytes are packed.
  """
  packed = max(1, 4 // itemsize)
  count = math.prod(shape)
  if len(shape) < 2:
    return itemsize * _round_up(count, 128 * packed if count <= 512 else 1024)
  sizes = (
    count // (shape[row] * shape[lane] or 1)
    * _round_up(
      shape[row], min(8, max(packed, 1 << (shape[row] - 1).bit_length()))
    )
    * _round_up(shape[lane], 128)
    for row, lane in itertools.permutations(range(len(shape)), 2)
  )  # fmt: skip
  return itemsize * min(sizes)


def _round_up(size: int, unit: int) -> int:
  return size + -size % unit


def compiler_versions() -> str:
  """Returns the versions of the packages that compile a program."""
  names = ('jax', 'jaxlib', 'libtpu')
  return ', '.join(
    f'{name} {importlib.metadata.version(name)}'
    for name in names
    if importlib.util.find_spec(name)
  )


def unavailable_reason() -> str:
  """Returns why TPU programs cannot be compiled here, or '' if they can."""
  if importlib.util.find_spec('libtpu') is None:
    return "libtpu is not installed: pip install 'jax[tpu]'"
  unset = [name for name in COMPILE_ONLY_ENV if name not in os.environ]
  if unset:
    return (
      f'{", ".join(unset)} must be set before JAX starts, see '
      'tpu_topology.COMPILE_ONLY_ENV'
    )
  return ''
