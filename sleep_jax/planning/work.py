"""Estimates the work of each program: matrix products and memory reads.

The time of a program is at least the longer of its products at the chip's peak
speed and of its reads at the bandwidth of the chip's memory. Communication
between chips is left out, so the result is a lower bound. An estimate adds the
times of the parts of a program, each at an assumed share of the peak values.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from sleep_jax.planning import chips, run_shape


@dataclasses.dataclass(frozen=True)
class Work:
  """Work of one call of a program, summed over all devices.

  Attributes:
    flops: floating-point operations of the matrix products.
    passes: passes over all weights, in which a device reads the gathered
      weights from its memory.
    reads: passes in which a device reads only its own shard of the weights, one
      per sampled token.
    caches: bytes of keys and values that sampling reads.
  """

  flops: float = 0.0
  passes: float = 0.0
  reads: float = 0.0
  caches: float = 0.0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(*map(sum, zip(self._values, other._values, strict=True)))

  def times(self, count: float) -> 'Work':
    """Returns the work of `count` calls."""
    return Work(*(count * x for x in self._values))

  @property
  def _values(self):
    return self.flops, self.passes, self.reads, self.caches

  def seconds(self, chip: chips.Chip, mesh: Any, weight_bytes: float) -> float:
    """Returns a lower bound of the time in seconds.

    Args:
      chip: the type of chip.
      mesh: size of each mesh axis by name.
      weight_bytes: bytes of the whole model.
    """
    gathered = weight_bytes / mesh['tensor']
    shard = gathered / mesh['fsdp'] / mesh['sequence']
    num_devices = math.prod(mesh.values())
    read = self.passes * gathered + self.reads * shard
    read += self.caches / num_devices
    return max(self.flops / chip.flops / num_devices, read / chip.bandwidth)


def total(parts: Sequence[Work]) -> Work:
  """Returns the work of a program, given that of its parts."""
  return sum(parts, start=Work())


def estimated_seconds(
  parts: Sequence[Work],
  chip: chips.Chip,
  efficiency: chips.Efficiency,
  mesh: Any,
  weight_bytes: float,
) -> float:
  """Returns the time of a program whose parts run one after the other.

  Args:
    parts: of the program.
    chip: the type of chip.
    efficiency: shares of its peak values that are reached.
    mesh, weight_bytes: see `Work.seconds`.
  """
  reached = dataclasses.replace(
    chip,
    flops=efficiency.compute * chip.flops,
    bandwidth=efficiency.bandwidth * chip.bandwidth,
  )
  return sum(part.seconds(reached, mesh, weight_bytes) for part in parts)


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


def wake_step(shape: run_shape.RunShape) -> Work:
  """Returns the work of one wake step, with the rows of its KL penalties."""
  c, s = shape.config, shape.night
  tokens = shape.day_rows * c.data.context
  micro_batches = c.wake.micro_batches
  step = _training(
    shape, tokens, c.data.context, micro_batches, shape.num_wake_parameters, 1.0
  )
  for name in ('kl_penalty', 'second_kl_penalty'):
    penalty = c.wake.get(name)
    if not penalty or not penalty.weight:
      continue
    length = penalty.get('max_length') or s.max_length
    new_share = (penalty.get('max_new') or s.max_new) / length
    step += _training(
      shape, penalty.sequences * length, length, 1, shape.num_wake_parameters,
      2 * new_share,
    )  # fmt: skip
  return step


def night_parts(shape: run_shape.RunShape) -> list[Work]:
  """Returns the parts of one round of a night: its updates, and sampling."""
  s = shape.night
  update = Work()
  for length, (rows, new) in _rows_by_length(s).items():
    # The teacher's and the student's logits of the generated tokens.
    update += _training(
      shape, rows * length, length, s.micro_batches,
      shape.num_expert_parameters, 2 * new / (rows * length),
    )  # fmt: skip
  parts = [update.times(s.updates_per_round)]
  for teacher in s.teachers:
    if not teacher.writes:
      continue
    own = s.of_teacher(teacher)
    document = shape.document_length(teacher)
    parts += _sampling(shape, own, teacher.draws, document)
    if s.on_policy:  # The student samples as well, without the document.
      parts += _sampling(shape, own, teacher.draws)
  return parts


def _rows_by_length(s) -> dict[int, tuple[int, int]]:
  """Returns the rows of an update, and their generated tokens, by length.

  Rows of one length share a pass.
  """
  found: dict[int, tuple[int, int]] = {}
  pairs = [(s.of_teacher(t), t.sequences) for t in s.teachers]
  completions = s.rows - sum(num for _, num in pairs)
  for own, num in (*pairs, (s, completions)):
    rows, new = found.get(own.max_length, (0, 0))
    if num:
      found[own.max_length] = rows + num, new + num * own.max_new
  return found


def dream_parts(shape: run_shape.RunShape) -> list[Work]:
  """Returns the parts of a night's dreams."""
  d, s = shape.config.dream, shape.night
  texts = d.candidates * d.texts
  num_trials = (d.top + d.random) * d.repeats

  def training(steps, batch):
    tokens = batch * s.max_length
    new_share = s.max_new / s.max_length
    return _training(shape, tokens, s.max_length, 1, 0.0, new_share).times(
      steps
    )

  importance = training(1, texts)
  # Trials run side by side and share the base weights.
  trials = training(d.trial.steps, num_trials * d.trial.batch)
  writer = training(d.writer.steps, d.writer.batch)
  parts = [*_sampling(shape, s, texts), importance, trials, writer]
  return [part.times(d.rounds) for part in parts]


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


def _sampling(shape, s, draws, document=0) -> list[Work]:
  """Returns the work of sampling sequences and reading them with a teacher.

  Its parts are the prompts, the tokens one by one, and the teacher. Each token
  reads the whole cache, as the program does.

  Args:
    shape: sizes of the run.
    s: settings with the lengths of the sequences.
    draws: number of sequences.
    document: tokens in front of each sequence.
  """
  width = document + min(s.prompt_width, s.max_length)
  length = document + s.max_length
  prompts = forward_flops(shape, draws * width, width, head_share=0)
  new = forward_flops(shape, draws * s.max_new, length)
  read = forward_flops(shape, draws * length, length, head_share=0)
  positions = draws * (width + s.max_new)
  caches = s.max_new * positions * shape.cache_bytes
  return [
    Work(prompts, passes=1),
    Work(new, reads=s.max_new, caches=caches),
    Work(read, passes=1),
  ]
