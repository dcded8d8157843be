"""Estimates the memory that each program needs in addition to its state.

All functions return bytes per device by kind of memory, see `memory_kinds`.
They are computed from the shapes of the model and the config, not from a
compiled program.
"""

import dataclasses
import math

from sleep_jax.dream import settings as dream_settings
from sleep_jax.planning import memory_kinds, run_shape


def estimate_wake(shape: run_shape.RunShape) -> dict[str, float]:
  """Returns the bytes per device that a wake step needs, by kind."""
  c, rows = shape.config, shape.day_rows
  tokens = c.wake.block_tokens or rows * c.data.context
  device_rows = rows / c.wake.micro_batches / shape.num_row_shards
  return _training(
    shape, device_rows, c.data.context, tokens, shape.num_wake_parameters
  )


def estimate_night(shape: run_shape.RunShape) -> dict[str, float]:
  """Returns the bytes per device that a round of a night needs, by kind.

  This is the larger of what its updates and its sampling need.
  """
  s = shape.night
  # Rows of all lengths are in memory together.
  rows = s.tokens / s.max_length / s.micro_batches / shape.num_row_shards
  training = _training(
    shape, rows, s.max_length, s.block_tokens, shape.num_expert_parameters
  )
  phases = [training]
  for teacher in s.teachers:
    if not teacher.writes:
      continue
    own, draws = s.of_teacher(teacher), teacher.draws / shape.num_row_shards
    width = min(s.prompt_width, own.max_length)
    document = shape.document_length(teacher)
    phases.append(
      _sampling(
        shape, draws, document + width + own.max_new, document + own.max_length
      )
    )
  return max(phases, key=lambda x: sum(x.values()))


def estimate_dream(shape: run_shape.RunShape) -> dict[str, float]:
  """Returns the bytes per device that a night's dreams need, by kind.

  This is the largest of what importance, a trial, the writer's training and
  sampling need. Each device runs whole trials. The gradient that importance
  needs has the size of the targeted matrices and is sharded like them.
  """
  d, s, m = shape.config.dream, shape.night, shape.model
  weight_shards = math.prod(shape.mesh.values()) / shape.mesh['data']
  texts = d.candidates * d.texts / shape.num_row_shards
  read_length = shape.config.data.context + s.max_length  # With the document.
  tokens = s.max_new  # Logits are computed row by row.

  def adapter_training(reader, adapter, rows, length, tokens):
    parameters = sum(
      D + F for D, F in _targeted_matrices(shape, adapter.targets)
    )
    parameters *= adapter.rank * m.num_layers
    # Four float32 copies: the adapter, two moments and the gradient.
    return _training(reader, rows, length, tokens, 0.0) | {
      memory_kinds.ADAPTERS: 4 * 4 * parameters
    }

  gradients = sum(D * F for D, F in _targeted_matrices(shape, d.trial.targets))
  gradients *= (
    (d.importance != dream_settings.RANDOM) * m.num_layers / weight_shards
  )
  all_tokens = tokens * math.prod(shape.mesh.values())
  # The model that `Transformer.with_xla_attention` returns.
  plain = dataclasses.replace(
    shape, model=dataclasses.replace(m, attention='xla')
  )
  phases = (
    _training(plain, texts, s.max_length, tokens, 0.0)
    | {memory_kinds.GRADIENTS: 2 * shape.dtype_bytes * gradients},
    adapter_training(
      plain, d.trial, min(d.trial.batch, d.texts), s.max_length, all_tokens
    ),
    adapter_training(
      shape,
      d.writer,
      d.writer.batch / shape.num_row_shards,
      read_length,
      tokens,
    ),
    _sampling(shape, texts, read_length, read_length),
  )
  return max(phases, key=lambda x: sum(x.values()))


def _training(shape, rows, length, tokens, num_trained):
  """Returns the memory of a training step.

  Args:
    shape: sizes of the run.
    rows: rows per device.
    length: tokens of a row.
    tokens: tokens whose logits are in memory at a time, over all devices.
    num_trained: trained parameters.
  """
  m, mesh = shape.model, shape.mesh
  rows = max(rows, 1.0)
  positions = rows * length / mesh['sequence']
  saved = positions * m.width * shape.dtype_bytes * m.num_layers
  block = _block_activations(shape, rows, length)
  if m.remat != 'full':
    saved, block = block * m.num_layers, 0.0
  weight_shards = mesh['fsdp'] * mesh['sequence'] * mesh['tensor']
  return {
    memory_kinds.ACTIVATIONS: saved + 2 * block,
    memory_kinds.GATHERED: _gathered_weights(shape),
    memory_kinds.LOGITS: 3
    * 4
    * min(tokens, rows * length * shape.num_row_shards)
    / mesh['data']
    * m.vocab_size
    / weight_shards,
    memory_kinds.GRADIENTS: 4 * num_trained / weight_shards,
  }


def _sampling(shape, rows, cache_length, length):
  """Returns the memory of sampling rows and then reading them as a whole."""
  positions = rows * cache_length / shape.mesh['sequence']
  return {
    memory_kinds.CACHES: positions * shape.cache_bytes / shape.mesh['tensor'],
    memory_kinds.ACTIVATIONS: _block_activations(shape, rows, length),
    memory_kinds.GATHERED: _gathered_weights(shape),
  }


def _gathered_weights(shape):
  """Returns the bytes of gathered weights: twice those of one block."""
  return (
    2 * shape.num_block_parameters * shape.dtype_bytes / shape.mesh['tensor']
  )


def _block_activations(shape, rows, length):
  """Returns the bytes of the activations of one block."""
  m = shape.model
  tensor_shards, sequence_shards = shape.mesh['tensor'], shape.mesh['sequence']
  hidden = 3 * sum(x.hidden + x.slots * x.rank for x in m.levels)
  hidden = hidden / tensor_shards
  kv_size = 2 * m.num_kv_heads * m.head_size / tensor_shards
  heads = m.num_heads * m.head_size / tensor_shards + kv_size
  # Only the XLA kernel stores the attention scores.
  scores = 0.0
  if m.attention == 'xla':
    scores = (4 + shape.dtype_bytes) * m.num_heads * length / tensor_shards
  position = shape.dtype_bytes * (4 * m.width + hidden + 2 * heads) + scores
  # If rows are sharded, keys and values of whole rows are gathered.
  gathered = kv_size * shape.dtype_bytes if sequence_shards > 1 else 0.0
  return rows * length * (position / sequence_shards + gathered)


def _targeted_matrices(shape, names):
  """Returns (rows, columns) of the matrices of one block that have adapters."""
  m = shape.model
  heads, kv_size = m.num_heads * m.head_size, m.num_kv_heads * m.head_size
  sides = {
    'query': [(m.width, heads)],
    'out': [(heads, m.width)],
    'key': [(m.width, kv_size)],
    'value': [(m.width, kv_size)],
    'gate': [(m.width, x.hidden) for x in m.levels],
    'up': [(m.width, x.hidden) for x in m.levels],
    'down': [(x.hidden, m.width) for x in m.levels],
  }
  return [pair for name in names for pair in sides[name]]
