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
import safetensors
from safetensors import numpy as st

from sleep_jax import errors, types
from sleep_jax.model import config, transformer

_ARRAYS = ('A', 'B', 'router', 'bias')
_FORMAT = 'sleep_jax experts 1'
_ROUTING_FIELDS = ('arrangement', 'router', 'router_spread', 'top_k')
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
      faster level learned something that the file would not contain.
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
  for number in range(1, c.num_levels):
    down = weights.params[f'blocks/levels/{number}/base/mlp/down']
    if bool(jnp.any(down != 0)):
      raise errors.UsageError(
        f'Level {number} has wake updates that are not consolidated: the '
        'experts alone would not reproduce the model. Let the level sleep '
        'first.'
      )
  tensors = {
    f'{level}/{slot}/{name}': np.ascontiguousarray(
      weights.params[f'blocks/levels/{level}/experts/{name}'][:, slot]
    )
    for level, slots in active.items()
    for slot in slots
    for name in _ARRAYS
  }
  for level in active:
    if level < c.num_levels and c.arrangement == 'sequential':
      tensors[f'{level}/norm'] = np.asarray(weights.params[_norm_path(level)])
  card = {
    'format': _FORMAT,
    'base': _fingerprint(model, weights),
    'levels': c.num_levels,
    'experts': active,
    'ledger': list(expert_history),
    'ranks': {n: c.levels[n - 1].rank for n in active},
    **{name: getattr(c, name) for name in _ROUTING_FIELDS},
  }
  part = file.with_name(file.name + '.part')
  st.save_file(tensors, part, metadata={'card': json.dumps(card)})
  part.rename(file)


def read_card(path: str) -> dict[str, Any]:
  """Returns the card in the header of an expert file.

  Raises:
    MissingFileError: the file does not exist.
    ModelFileError: the file is not an expert file, or of another version.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise errors.MissingFileError(f'{file} does not exist.')
  try:
    with safetensors.safe_open(file, 'numpy') as tensors:
      card = json.loads((tensors.metadata() or {})['card'])
  except (safetensors.SafetensorError, KeyError, ValueError) as error:
    raise errors.ModelFileError(
      f'{file} is not an expert file ({error}): expected a file written by '
      'sleep_jax.convert out --experts.'
    ) from error
  if card.get('format') != _FORMAT:
    raise errors.ModelFileError(
      f'{file} has format {card.get("format")!r}: expected {_FORMAT!r}.'
    )
  return card


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
      model, or the model already has experts.
  """
  card, c = read_card(path), model.config
  if card['base'] != _fingerprint(model, weights):
    raise errors.ModelFileError(
      f'{path} belongs to another base model: experts work only with the base '
      'model they were trained with. Name that model.'
    )
  if active_slots(weights):
    raise errors.UsageError(
      'The model already has active experts: name the base model without '
      'experts.'
    )
  stored = st.load_file(pathlib.Path(path).expanduser())
  experts = {int(level): slots for level, slots in card['experts'].items()}
  base_level, num_levels = c.num_levels, card['levels']
  levels = []
  for level in range(1, num_levels + 1):
    slots = len(experts.get(level, ()))
    # Only the slowest level has a base; that of a faster level adds nothing.
    own = c.levels[-1] if level == num_levels else _EMPTY_LEVEL
    rank = card['ranks'][str(level)] if slots else 0
    levels.append(dataclasses.replace(own, slots=slots, rank=rank))
  routing = {name: card[name] for name in _ROUTING_FIELDS}
  extended = transformer.Transformer(
    dataclasses.replace(c, levels=tuple(levels), **routing)
  )
  base_path = f'blocks/levels/{base_level}/base/'
  params = {
    path.replace(base_path, f'blocks/levels/{num_levels}/base/'): leaf
    for path, leaf in weights.params.items()
    if not path.startswith('blocks/levels/') or path.startswith(base_path)
  }
  # A chain has a norm per level, independent levels share one.
  shared_norm, own_norm = 'blocks/levels/norm/scale', f'{base_path}norm/scale'
  norm = weights.params.get(shared_norm, weights.params.get(own_norm))
  shapes = extended.shapes().params
  for path in (shared_norm, f'blocks/levels/{num_levels}/base/norm/scale'):
    params.pop(path, None)
    if path in shapes:
      params[path] = norm
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
    for name in _ARRAYS:
      rows = [stored[f'{level}/{slot}/{name}'] for slot in slots]
      path = f'blocks/levels/{level}/experts/{name}'
      params[path] = jnp.asarray(np.stack(rows, 1))
  return extended, types.Weights(params, jnp.asarray(active_NE))


def _norm_path(level: int) -> str:
  return f'blocks/levels/{level}/base/norm/scale'


def _fingerprint(model, weights) -> str:
  """Returns a hash of the base model's shape and of some of its weights."""
  c = model.config
  digest = hashlib.sha256(
    f'{c.vocab_size} {c.width} {c.num_layers} {c.num_heads} '
    f'{c.num_kv_heads} {c.head_size}'.encode()
  )
  for path in ('embed', 'norm/scale', 'blocks/attention/norm/scale'):
    sample = np.asarray(weights.params[path].reshape(-1)[:4096], np.float32)
    digest.update(sample.tobytes())
  return digest.hexdigest()
