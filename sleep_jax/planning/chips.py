"""Specifications of the devices that a run is planned for."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from sleep_jax.model import config as config_lib


@dataclasses.dataclass(frozen=True)
class Chip:
  """Specifications of one chip.

  Attributes:
    flops: peak bf16 operations per second.
    bytes: memory available to a program, without what the system reserves.
    bandwidth: memory bandwidth in bytes per second.
    layouts: shapes of slices of a TPU.
  """

  flops: float
  bytes: float
  bandwidth: float
  layouts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Efficiency:
  """Assumed shares of the peak values that programs reach.

  Attributes:
    compute: of `Chip.flops`.
    bandwidth: of `Chip.bandwidth`.
  """

  compute: float
  bandwidth: float


class Topology(Protocol):
  """Devices of a plan: TPU slices, or one GPU.

  Attributes:
    name: as the user gives it.
    slices: number of slices.
    num_devices: number of chips.
    efficiency: for estimated times; None gives lower bounds only.
  """

  @property
  def name(self) -> str: ...

  @property
  def slices(self) -> int: ...

  @property
  def num_devices(self) -> int: ...

  @property
  def efficiency(self) -> Efficiency | None: ...

  def chip_for(self, dtype: str) -> Chip:
    """Returns the chip, with its peak speed for parameters of a type."""

  def array_bytes(self, shape: Sequence[int], itemsize: int) -> int:
    """Returns the bytes of an array in memory."""

  def attention_kernel(self, model: config_lib.Model, dtype: str) -> str:
    """Returns the kernel that a model uses there, see `config.Model`."""

  def describe(self) -> str:
    """Returns the devices in words."""

  def devices(self) -> Sequence[Any]:
    """Returns the devices that programs are compiled for."""
