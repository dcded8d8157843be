"""Sizes of a run from which work and memory are estimated."""

import dataclasses
from typing import Any

from sleep_jax.model import config as config_lib
from sleep_jax.sleep import settings as sleep_settings


@dataclasses.dataclass(frozen=True)
class RunShape:
  """The model, the config and the mesh of a run.

  Attributes:
    model: config of the model.
    config: config of the run.
    night: settings of consolidation.
    dtype_bytes: bytes of one number of the core and of activations.
    mesh: size of each mesh axis by name.
  """

  model: config_lib.Model
  config: Any
  night: sleep_settings.Settings
  dtype_bytes: int
  mesh: Any

  @property
  def num_row_shards(self) -> int:
    """Number of devices that the rows of a batch are sharded over."""
    return self.mesh['data'] * self.mesh['fsdp']

  @property
  def num_block_parameters(self) -> float:
    """Number of parameters in the matrices of one block."""
    m = self.model
    heads = (2 * m.num_heads + 2 * m.num_kv_heads) * m.head_size
    experts = self._expert_matrices
    levels = sum(3 * x.hidden + experts * x.slots * x.rank for x in m.levels)
    return m.width * (heads + levels)

  @property
  def cache_bytes(self) -> float:
    """Bytes of the keys and values of one position, over all blocks."""
    m = self.model
    numbers = 2 * m.num_layers * m.num_kv_heads * m.head_size
    return float(numbers * self.dtype_bytes)

  @property
  def num_wake_parameters(self) -> float:
    """Number of parameters that are trained in a wake step."""
    m = self.model
    return sum(3.0 * m.width * x.hidden * m.num_layers for x in m.levels[:-1])

  @property
  def num_expert_parameters(self) -> float:
    """Number of parameters of the largest fresh expert."""
    m, experts = self.model, self._expert_matrices
    return max(
      float(experts * m.width * x.rank * m.num_layers) for x in m.levels
    )

  @property
  def _expert_matrices(self) -> int:
    return 3 if self.model.gated_experts else 2

  @property
  def day_rows(self) -> int:
    """Rows of a batch of a wake step."""
    data = self.config.data
    return data.day_batch_size or data.batch_size

  def document_length(self, teacher: sleep_settings.Teacher) -> int:
    """Returns the tokens of a document that a teacher reads; 0: it does not."""
    return self.config.data.context if teacher.reads else 0

  def uneven_rows(self) -> list[str]:
    """Returns one sentence per number of rows that the devices do not divide.

    Such rows are not sharded: each device processes all of them.
    """
    c, s, d = self.config, self.night, self.config.dream
    sizes = {
      'data.batch_size over wake.micro_batches':
        self.day_rows // c.wake.micro_batches,
      'rows of an update over consolidate.micro_batches':
        s.rows // s.micro_batches,
      'evaluate.chunk': c.evaluate.chunk,
    } | {
      f'consolidate.teachers[{index}].draws': teacher.draws
      for index, teacher in enumerate(s.teachers)
    }  # fmt: skip
    if d.on:
      sizes['dream.candidates times dream.texts'] = d.candidates * d.texts
      sizes['dream.writer.batch'] = d.writer.batch
    num = self.num_row_shards
    return [
      f'{name} is {size}, not a multiple of the {num} devices that rows are '
      f'sharded over: each device processes all of these rows. Set it to '
      f'{size + -size % num}.'
      for name, size in sizes.items()
      if size % num
    ]
