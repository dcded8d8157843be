"""Saves the active experts of a model to one file and attaches them again.

The file is a safetensors file with the arrays of every active expert. Its
header holds a card as JSON: a fingerprint of the base model, the routing
fields, and which night is stored in which expert. Attached to the same base
model, the experts restore the outputs of the original model.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.interop import expert_card, stored_tensor, tensor_file
from sleep_jax.model import config, transformer
from sleep_jax.model import experts as experts_lib
from sleep_jax.storage import workdir

# A level whose base adds nothing: one hidden unit, whose weights are set to 0.
_EMPTY_LEVEL = config.Level(
  hidden=1, update_period='infinite', sleep_period='infinite'
)


def active_slots(weights: types.Weights) -> dict[int, list[int]]:
  """Returns the slots of the active experts by level, counted from 1."""
  found: dict[int, list[int]] = {}
  for level, slot in np.argwhere(np.asarray(weights.active_NE)):
    found.setdefault(int(level) + 1, []).append(int(slot))
  return found


def save(
  model: transformer.Transformer,
  weights: types.Weights,
  path: str,
  *,
  expert_history: Sequence[Mapping[str, Any]] = (),
) -> None:
  """Writes all active experts to a file, atomically.

  Args:
    model: the model.
    weights: its weights.
    path: file to write; must not exist.
    expert_history: rows of the run's expert history, which say which night is
      stored in which expert.

  Raises:
    UsageError: no expert is active, `model.arrangement` is 'depth', or a
      level learned something that the file would not contain.
    ExistsError: the file exists.
  """
  file = pathlib.Path(path).expanduser()
  if file.exists():
    raise errors.ExistsError(
      f'{file} already exists: choose another file name.'
    )
  active = active_slots(weights)
  if not active:
    raise errors.UsageError('No expert is active: there is nothing to write.')
  c = model.config
  if c.arrangement == 'depth':
    raise errors.UsageError(
      "model.arrangement is 'depth': its levels are layers of the base model, "
      'so experts cannot be separated from it. Export the whole model.'
    )
  if c.arrangement == 'sequential' and any(x.beside for x in c.levels):
    raise errors.UsageError(
      'The chain of levels has grown: a bank adds to what the base model reads '
      'beside it, which a file of experts does not say. Export the whole model.'
    )
  for number in range(1, c.num_levels):
    down = weights.params[f'blocks/levels/{number}/base/mlp/down']
    if bool(jnp.any(down != 0)):
      raise errors.UsageError(
        f'Level {number} has wake updates that are not consolidated: the '
        'experts alone would not reproduce the model. Let the level sleep '
        'first.'
      )
  in_base = sorted(
    {
      row['night']
      for row in expert_history
      if row['level'] == c.num_levels
      and row['slot'] is None
      and row['event'] == 'rewritten'
    }
  )
  if in_base:
    raise errors.UsageError(
      f'Nights {in_base} were consolidated into the MLP of the slowest level '
      '(into or full), which a file of experts does not contain: export the '
      'whole model.'
    )
  tensors = {
    f'{level}/{slot}/{name}': np.ascontiguousarray(
      weights.params[f'blocks/levels/{level}/experts/{name}'][:, slot]
    )
    for level, slots in active.items()
    for slot in slots
    for name in experts_lib.array_names(c.gated_experts)
  }
  for level in active:
    if level < c.num_levels and c.arrangement == 'sequential':
      tensors[f'{level}/norm'] = np.asarray(weights.params[_norm_path(level)])
  card = {
    'format': expert_card.FORMAT,
    'base': _short_fingerprint(model, weights),  # For earlier versions.
    'weights': _fingerprint(model, weights),
    'levels': c.num_levels,
    'experts': active,
    'ledger': list(expert_history),
    'ranks': {n: c.levels[n - 1].rank for n in active},
    **{name: getattr(c, name) for name in expert_card.ROUTING_FIELDS},
  }
  with workdir.make_whole_file(file) as part:
    tensor_file.write(tensors, part, {'card': json.dumps(card)})


def attach(
  model: transformer.Transformer, weights: types.Weights, path: str
) -> tuple[transformer.Transformer, types.Weights]:
  """Adds the experts of a file to the base model they were trained with.

  Args:
    model: the base model, with one level.
    weights: its weights.
    path: expert file.

  Returns:
    The model and its weights with a bank that has exactly as many slots as the
    file has experts.

  Raises:
    MissingFileError: the file does not exist.
    ModelFileError: the file is not an expert file, it belongs to another base
      model, or an array has another shape or is not finite.
    UsageError: the model already has experts.
  """
  card, tensors = expert_card.read(path)
  c = model.config
  if 'weights' in card:
    is_base = card['weights'] == _fingerprint(model, weights)
  else:  # Written by an earlier version.
    is_base = card['base'] == _short_fingerprint(model, weights)
  if not is_base:
    raise errors.ModelFileError(
      f'{path} belongs to another base model: experts work only with the base '
      'model they were trained with. Name that model.'
    )
  if active_slots(weights):
    raise errors.UsageError(
      'The model already has active experts: name the base model without '
      'experts.'
    )
  experts = {int(level): slots for level, slots in card['experts'].items()}
  base_level, num_levels = c.num_levels, card['levels']
  levels = []
  for level in range(1, num_levels + 1):
    slots = len(experts.get(level, ()))
    # Only the slowest level has a base; that of a faster level adds nothing.
    own = c.levels[-1] if level == num_levels else _EMPTY_LEVEL
    rank = card['ranks'][str(level)] if slots else 0
    levels.append(dataclasses.replace(own, slots=slots, rank=rank))
  routing = {name: card[name] for name in expert_card.ROUTING_FIELDS}
  extended = transformer.Transformer(
    dataclasses.replace(c, levels=tuple(levels), **routing)
  )
  shapes = extended.shapes().params
  stored = _read_arrays(tensors, extended, experts, path)
  base_path = f'blocks/levels/{base_level}/base/'
  params = {
    path.replace(base_path, f'blocks/levels/{num_levels}/base/'): leaf
    for path, leaf in weights.params.items()
    if not path.startswith('blocks/levels/')
    or path.startswith(base_path)
    or path == 'blocks/levels/post_norm/scale'
  }
  # A chain has a norm per level, independent levels share one.
  shared_norm, own_norm = 'blocks/levels/norm/scale', f'{base_path}norm/scale'
  norm = weights.params.get(shared_norm, weights.params.get(own_norm))
  for name in (shared_norm, f'blocks/levels/{num_levels}/base/norm/scale'):
    params.pop(name, None)
    if name in shapes:
      params[name] = norm
  for path, leaf in shapes.items():
    if path not in params and '/base/mlp/' in path:
      params[path] = jnp.zeros(leaf.shape, leaf.dtype)
    elif path not in params and path.endswith('base/norm/scale'):
      level = int(path.split('/')[2])
      scale = stored.get(f'{level}/norm')
      params[path] = (
        jnp.ones(leaf.shape) if scale is None else jnp.asarray(scale)
      )
  active_NE = np.zeros(
    (num_levels, max(extended.config.max_slots, 1)), np.float32
  )
  for level, slots in experts.items():
    active_NE[level - 1, : len(slots)] = 1
    for name in experts_lib.array_names(extended.config.gated_experts):
      rows = [stored[f'{level}/{slot}/{name}'] for slot in slots]
      path = f'blocks/levels/{level}/experts/{name}'
      params[path] = jnp.asarray(np.stack(rows, 1))
  return extended, types.Weights(params, jnp.asarray(active_NE))


def _read_arrays(
  tensors: Mapping[str, stored_tensor.Tensor],
  extended: transformer.Transformer,
  experts: Mapping[int, Sequence[int]],
  path: str,
) -> dict[str, np.ndarray]:
  """Reads the arrays of an expert file after checking all shapes.

  Args:
    tensors: of the file.
    extended: the base model with the experts of the card.
    experts: slots of each level with experts.
    path: of the file, for messages.
  """
  c, shapes = extended.config, extended.shapes().params
  expected = {}
  for level, slots in experts.items():
    bank = f'blocks/levels/{level}/experts/'
    for name in experts_lib.array_names(c.gated_experts):
      num_layers, _, *sizes = shapes[bank + name].shape
      for slot in slots:
        expected[f'{level}/{slot}/{name}'] = (num_layers, *sizes)
    if level < c.num_levels and c.arrangement == 'sequential':
      expected[f'{level}/norm'] = shapes[_norm_path(level)].shape
  expert_card.check_tensors(tensors, expected, path)
  with tensor_file.Reader() as reader:
    stored = {name: reader.read(tensors[name]) for name in expected}
  for name, array in stored.items():
    if not np.isfinite(array).all():
      raise errors.ModelFileError(
        f'{path}: tensor {name!r} has numbers that are not finite: the expert '
        'was damaged in training or in transfer; export the experts again.'
      )
  return stored


def _norm_path(level: int) -> str:
  return f'blocks/levels/{level}/base/norm/scale'


def _fingerprint(model, weights) -> str:
  """Returns a hash of the base model's shapes and of a part of each weight.

  Numbers are rounded to bfloat16, so that a model may be opened in that type.
  """
  # Norms of levels have other places in other arrangements.
  base = f'blocks/levels/{model.config.num_levels}/base/mlp/'
  digest = hashlib.sha256()
  for path, leaf in sorted(
    (path.replace(base, 'mlp/'), leaf)
    for path, leaf in weights.params.items()
    if path.startswith(base) or not path.startswith('blocks/levels/')
  ):
    digest.update(f'{path} {leaf.shape} '.encode())
    # Of weights of blocks, the first and the last block.
    for part in (leaf[0], leaf[-1]) if path.startswith('blocks/') else (leaf,):
      sample = part.reshape(-1)[:4096]
      digest.update(np.asarray(sample, jnp.bfloat16).tobytes())
  return digest.hexdigest()


def _short_fingerprint(model, weights) -> str:
  """Returns a hash of the base model's sizes and of its norms."""
  c = model.config
  digest = hashlib.sha256(
    f'{c.vocab_size} {c.width} {c.num_layers} {c.num_heads} '
    f'{c.num_kv_heads} {c.head_size}'.encode()
  )
  norm = 'norm' if c.pre_norms else 'post_norm'
  for path in ('embed', 'norm/scale', f'blocks/attention/{norm}/scale'):
    sample = np.asarray(weights.params[path].reshape(-1)[:4096], np.float32)
    digest.update(sample.tobytes())
  return digest.hexdigest()
