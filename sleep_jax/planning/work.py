"""Estimates the work of each program: matrix products and weight reads.

The time of a program is at least the longer of its products at the chip's peak
speed and of its weight reads at the bandwidth of the chip's memory.
Communication between chips is left out, so the result is a lower bound.
"""

import dataclasses
import math
from typing import Any

from sleep_jax.planning import run_shape, tpu_topology


@dataclasses.dataclass(frozen=True)
class Work:
  """Work of one call of a program, summed over all devices.

  Attributes:
    flops: floating-point operations of the matrix products.
    passes: passes over all weights, in which a device reads the gathered
      weights from its memory.
    reads: passes in which a device reads only its own shard of the weights, one
      per sampled token.
  """

  flops: float
  passes: float
  reads: float = 0.0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(*map(sum, zip(self._values, other._values, strict=True)))

  def times(self, count: float) -> 'Work':
    """Returns the work of `count` calls."""
    return Work(*(count * x for x in self._values))

  @property
  def _values(self):
    return self.flops, self.passes, self.reads

  def seconds(
    self, chip: tpu_topology.Chip, mesh: Any, weight_bytes: float
  ) -> float:
    """Returns a lower bound of the time in seconds.

    Args:
      chip: the type of chip.
      mesh: size of each mesh axis by name.
      weight_bytes: bytes of the whole model.
    """
    gathered = weight_bytes / mesh['tensor']
    shard = gathered / mesh['fsdp'] / mesh['sequence']
    read = self.passes * gathered + self.reads * shard
    return max(
      self.flops / chip.flops / math.prod(mesh.values()), read / chip.bandwidth
    )


def forward_flops(
  shape: run_shape.RunShape,
  tokens: float,
  length: int,
  *,
  head_share: float = 1.0,
) -> float:
  """Returns the flops of the matrix products of a forward pass.

  Args:
    shape: sizes of the run.
    tokens: number of tokens, in rows of `length`.
    length: tokens of a row.
    head_share: share of the tokens for which logits are computed.
  """
  m = shape.model
  scores = 2.0 * m.num_heads * m.head_size * length
  blocks = m.num_layers * (shape.num_block_parameters + scores)
  return 2.0 * tokens * (blocks + head_share * m.width * m.vocab_size)


def estimate_wake(shape: run_shape.RunShape) -> Work:
  """Returns the work of one wake step."""
  c = shape.config
  tokens = shape.day_rows * c.data.context
  micro_batches = c.wake.micro_batches
  return _training(
    shape, tokens, c.data.context, micro_batches, shape.num_wake_parameters, 1.0
  )


def estimate_night(shape: run_shape.RunShape) -> Work:
  """Returns the work of one round of a night: sampling and its updates."""
  s = shape.night
  new_share = s.max_new / s.max_length
  update = _training(
    shape,
    s.tokens,
    s.max_length,
    s.micro_batches,
    shape.num_expert_parameters,
    2 * new_share,
  )
  work = update.times(s.updates_per_round)
  for teacher in s.teachers:
    num_samplers = 2 if s.on_policy else 1  # The student samples as well.
    work += _sampling(shape, teacher.draws).times(num_samplers)
  return work


def estimate_dream(shape: run_shape.RunShape) -> Work:
  """Returns the work of a night's dreams: sampling, trials, writer training."""
  d, s = shape.config.dream, shape.night
  texts = d.candidates * d.texts
  num_trials = (d.top + d.random) * d.repeats

  def training(steps, batch):
    tokens = batch * s.max_length
    new_share = s.max_new / s.max_length
    return _training(shape, tokens, s.max_length, 1, 0.0, new_share).times(
      steps
    )

  # The second term is the importance of the dreams.
  work = _sampling(shape, texts) + training(1, texts)
  # Trials run side by side and share the base weights.
  trials = training(d.trial.steps, num_trials * d.trial.batch)
  return (work + trials + training(d.writer.steps, d.writer.batch)).times(
    d.rounds
  )


def _training(
  shape: run_shape.RunShape,
  tokens: float,
  length: int,
  micro_batches: int,
  num_trained: float,
  head_share: float,
) -> Work:
  """Returns the work of a forward pass, rematerialization and backward pass."""
  forward = forward_flops(shape, tokens, length, head_share=head_share)
  times = 2 if shape.model.remat == 'none' else 3
  return Work(
    times * forward + 2.0 * tokens * num_trained, times * micro_batches
  )


def _sampling(shape, draws):
  """Returns the work of sampling sequences and reading them with a teacher."""
  s = shape.night
  prompts = forward_flops(
    shape, draws * s.prompt_width, s.prompt_width, head_share=0
  )
  new = forward_flops(shape, draws * s.max_new, s.max_length)
  read = forward_flops(shape, draws * s.max_length, s.max_length, head_share=0)
  return Work(prompts + new + read, passes=2, reads=s.max_new)
