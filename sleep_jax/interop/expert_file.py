"""Experts alone: what nights have made, as one small file beside its base.

A safetensors file with the arrays of every expert that is on and, in its
header, a card as JSON: whose base it is, how it is routed, which night each
expert holds. Put beside the same base again, the model answers as before.
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

from sleep_jax import types
from sleep_jax.model import config, transformer

_PARTS = ('A', 'B', 'router', 'bias')
_FORMAT = 'sleep_jax experts 1'
_ROUTED = ('arrangement', 'router', 'router_spread', 'top_k')
_NOTHING = config.Level(
  hidden=1, update_period='infinite', sleep_period='infinite'
)


def active_slots(weights: types.Weights) -> dict[int, list[int]]:
  """Level -> slots of the experts that are on."""
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
  """Writes all experts that are on, whole or not at all.

  Args:
    ledger: rows of a life's ledger: which night lives where.

  Raises:
    ValueError: no expert is on, levels lie across depth, or a faster level has
      learned something that the file would not hold.
    FileExistsError: the file is there.
  """
  file = pathlib.Path(path).expanduser()
  if file.exists():
    raise FileExistsError(f'{file} is there already: name another file.')
  active = active_slots(weights)
  if not active:
    raise ValueError('No expert is on: there is nothing to write.')
  c = model.config
  if c.arrangement == 'depth':
    raise ValueError(
      "model.arrangement is 'depth': levels there are the host's own layers, "
      'so experts alone have no base to stand beside.'
    )
  for number in range(1, c.num_levels):
    down = weights.params[f'blocks/levels/{number}/base/mlp/down']
    if bool(jnp.any(down != 0)):
      raise ValueError(
        f'Level {number} has learned something awake that has not slept yet: '
        'experts alone would not answer as the model does. Sleep first.'
      )
  tensors = {
    f'{level}/{slot}/{name}': np.ascontiguousarray(
      weights.params[f'blocks/levels/{level}/experts/{name}'][:, slot]
    )
    for level, slots in active.items()
    for slot in slots
    for name in _PARTS
  }
  for level in active:
    if level < c.num_levels and c.arrangement == 'sequential':
      tensors[f'{level}/norm'] = np.asarray(weights.params[_norm(level)])
  read_card = {
    'format': _FORMAT, 'base': _fingerprint(model, weights),
    'levels': c.num_levels, 'experts': active, 'ledger': list(expert_history),
    'ranks': {n: c.levels[n - 1].rank for n in active},
    **{name: getattr(c, name) for name in _ROUTED},
  }  # fmt: skip
  part = file.with_name(file.name + '.part')
  st.save_file(tensors, part, metadata={'card': json.dumps(read_card)})
  part.rename(file)


def read_card(path: str) -> dict[str, Any]:
  """What a file says of itself.

  Raises:
    ValueError: it is no file of experts.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise FileNotFoundError(f'{file} does not exist.')
  try:
    with safetensors.safe_open(file, 'numpy') as opened:
      found = json.loads((opened.metadata() or {})['card'])
  except (safetensors.SafetensorError, KeyError, ValueError) as error:
    raise ValueError(
      f'{file} is no file of experts ({error}): expected one that '
      'sleep_jax.convert out --experts has written.'
    ) from error
  if found.get('format') != _FORMAT:
    raise ValueError(
      f'{file} is of format {found.get("format")!r}: expected {_FORMAT!r}.'
    )
  return found


def attach(
  model: transformer.Transformer, weights: types.Weights, path: str
) -> tuple[transformer.Transformer, types.Weights]:
  """The same base with a file's experts, in a bank that just holds them.

  Raises:
    ValueError: the file is of another base.
  """
  about, c = read_card(path), model.config
  if about['base'] != _fingerprint(model, weights):
    raise ValueError(
      f'{path} was made beside another base than this model: experts answer '
      'only beside their own.'
    )
  if active_slots(weights):
    raise ValueError('The model has experts of its own: name the bare base.')
  stored = st.load_file(pathlib.Path(path).expanduser())
  experts = {int(level): slots for level, slots in about['experts'].items()}
  last, number = c.num_levels, about['levels']
  levels = []
  for level in range(1, number + 1):
    slots = len(experts.get(level, ()))
    # A faster level has nothing of its own: one hidden unit that says nothing.
    own = c.levels[-1] if level == number else _NOTHING
    rank = about['ranks'][str(level)] if slots else 0
    levels.append(dataclasses.replace(own, slots=slots, rank=rank))
  routed = {name: about[name] for name in _ROUTED}
  made = transformer.Transformer(
    dataclasses.replace(c, levels=tuple(levels), **routed)
  )
  mine = f'blocks/levels/{last}/base/'
  params = {
    path.replace(mine, f'blocks/levels/{number}/base/'): leaf
    for path, leaf in weights.params.items()
    if not path.startswith('blocks/levels/') or path.startswith(mine)
  }
  params |= {
    path: weights.params[path]
    for path in ('blocks/levels/norm/scale',)
    if path in weights.params
  }
  for path, leaf in made.shapes().params.items():
    if path not in params and '/base/mlp/' in path:
      params[path] = jnp.zeros(leaf.shape, leaf.dtype)
    elif path not in params and path.endswith('base/norm/scale'):
      level = int(path.split('/')[2])
      kept = stored.get(f'{level}/norm')
      params[path] = jnp.ones(leaf.shape) if kept is None else jnp.asarray(kept)
  active_NE = np.zeros((number, max(made.config.max_slots, 1)), np.float32)
  for level, slots in experts.items():
    active_NE[level - 1, : len(slots)] = 1
    for name in _PARTS:
      rows = [stored[f'{level}/{slot}/{name}'] for slot in slots]
      path = f'blocks/levels/{level}/experts/{name}'
      params[path] = jnp.asarray(np.stack(rows, 1))
  return made, types.Weights(params, jnp.asarray(active_NE))


def _norm(level: int) -> str:
  return f'blocks/levels/{level}/base/norm/scale'


def _fingerprint(model, weights) -> str:
  """Of the base: its shape, and a few of its numbers."""
  c = model.config
  digest = hashlib.sha256(
    f'{c.vocab_size} {c.width} {c.num_layers} {c.num_heads} '
    f'{c.num_kv_heads} {c.head_size}'.encode()
  )
  for path in ('embed', 'norm/scale', 'blocks/attention/norm/scale'):
    some = np.asarray(weights.params[path].reshape(-1)[:4096], np.float32)
    digest.update(some.tobytes())
  return digest.hexdigest()
