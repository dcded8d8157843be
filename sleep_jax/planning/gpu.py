"""One NVIDIA GPU: peak speed, memory and bandwidth of common cards.

Times on a GPU are estimates from these values and an assumed efficiency. No GPU
has been measured.

References: peak speed of dense bf16 products with f32 sums, memory and
bandwidth as published in NVIDIA's whitepapers of the GA102 and Ada
architectures and in the data sheets of A10, L4, L40S, A100 and H100.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.model import config as config_lib
from sleep_jax.planning import chips, tpu_topology

PREFIX = 'gpu:'
# Matrix products of a transformer's training step typically reach 30 to 50 % of
# the peak, and decoding 50 to 70 % of the bandwidth.
EFFICIENCY = chips.Efficiency(compute=0.4, bandwidth=0.6)
# Share of the memory that JAX may take, set by this variable; its default is
# 0.75. The rest is for the driver and CUDA.
MEMORY_SHARE = 0.95
MEMORY_VARIABLE = f'XLA_PYTHON_CLIENT_MEM_FRACTION={MEMORY_SHARE}'
# Name -> (peak TFLOP/s, memory in GB, bandwidth in GB/s).
_CARDS = {
  'rtx-3070': (40.6, 8, 448),
  'rtx-3080': (59.5, 10, 760),
  'rtx-4080': (97.5, 16, 717),
  'rtx-3090': (71.0, 24, 936),
  'rtx-4090': (165.2, 24, 1008),
  'a10': (125.0, 24, 600),
  'l4': (121.0, 24, 300),
  'a100-40gb': (312.0, 40, 1555),
  'l40s': (362.0, 48, 864),
  'a100-80gb': (312.0, 80, 2039),
  'h100-80gb': (989.0, 80, 3350),
}
# Sizes of memory, and the card whose speed is taken.
_SIZES = {'8gb': 'rtx-3070', '24gb': 'rtx-3090', '80gb': 'a100-80gb'}


@dataclasses.dataclass(frozen=True)
class Gpu:
  """One card.

  Attributes:
    name: as the user gives it, such as 'gpu:24GB'.
    card: name of the card.
    chip: its specifications.
  """

  name: str
  card: str
  chip: chips.Chip
  slices: int = 1
  num_devices: int = 1
  efficiency: chips.Efficiency | None = EFFICIENCY

  def chip_for(self, dtype: str) -> chips.Chip:
    """Returns the card; its peak is half for f32, which is computed as TF32."""
    if dtype == 'float32':
      return dataclasses.replace(self.chip, flops=self.chip.flops / 2)
    return self.chip

  def array_bytes(self, shape: Sequence[int], itemsize: int) -> int:
    """Returns the bytes of an array, which is not padded."""
    size = itemsize
    for length in shape:
      size *= length
    return size

  def attention_kernel(self, model: config_lib.Model, dtype: str) -> str:
    """Returns the kernel of a model: cuDNN takes neither f32 nor a cap.

    Raises:
      ConfigError: the model's kernel is for TPUs.
    """
    if model.attention == 'splash':
      raise errors.ConfigError(
        "config.model.attention is 'splash', which runs on TPUs only: set it "
        "to 'auto'."
      )
    fits = dtype != 'float32' and not model.attention_cap
    return 'cudnn' if model.attention != 'xla' and fits else 'xla'

  def describe(self) -> str:
    """Returns the card in words."""
    return (
      f'one GPU, {self.card}, with {self.chip.bytes / 2**30:.2f} GiB '
      f'({MEMORY_VARIABLE})'
    )

  def devices(self) -> Sequence[Any]:
    """Raises a ConfigError: nothing is compiled for a GPU that is not here."""
    raise errors.ConfigError(NOT_COMPILED)


NOT_COMPILED = 'programs for a GPU are compiled on a machine that has one'


def parse(name: str) -> Gpu:
  """Returns the GPU with a name such as 'gpu:24GB' or 'gpu:rtx-4090'.

  Raises:
    ConfigError: the name is unknown. The message lists the known ones.
  """
  wanted = name.removeprefix(PREFIX).lower()
  card = _SIZES.get(wanted, wanted)
  if card not in _CARDS:
    sizes = [f'{PREFIX}{size.upper()}' for size in _SIZES]
    cards = [f'{PREFIX}{known}' for known in _CARDS]
    raise errors.ConfigError(
      f'topology {name!r} is unknown: expected one of '
      f'{", ".join([*sizes, *cards])}.'
    )
  teraflops, gigabytes, bandwidth = _CARDS[card]
  chip = chips.Chip(
    teraflops * 1e12, MEMORY_SHARE * gigabytes * 2**30, bandwidth * 1e9
  )
  return Gpu(name, card, chip)


def find(name: str) -> chips.Topology:
  """Returns the GPU or the TPU topology with a name.

  Raises:
    ConfigError: the name is unknown. The message lists the known ones.
  """
  return parse(name) if name.startswith(PREFIX) else tpu_topology.parse(name)
