"""Settings: whether a config says what there is to say, and nothing else.

Each sub-dict of a config is one function's arguments, so what is known is read
from the functions themselves: a key that is misspelt, or that a new version no
longer takes, is found before anything is computed.
"""

from collections.abc import Mapping
from typing import Any

from sleep_jax.config import files, schema
from sleep_jax.dream import settings as dream_settings
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.storage import metric_writer

_DTYPES = ('float32', 'bfloat16')
# Lengths of what the mesh's axis `sequence` shares out: rows, and caches.
_SHARED = (
  ('data', 'context'), ('consolidate', 'max_length'),
  ('consolidate', 'prompt_width'), ('consolidate', 'max_new'),
)  # fmt: skip


def check(config: Mapping[str, Any]) -> None:
  """Checks the keys of a whole config, and what no single function can.

  Raises:
    ValueError: an unknown key, with the nearest known one; a missing key; a
      number of optimizers, a warm-up, or a length of rows, that does not fit.
  """
  _check(config, schema.schema(config), 'config')
  fast = len(config['levels']) - 1
  found = len(config['wake']['optimizers'])
  if found != fast:
    raise ValueError(
      f'config.wake.optimizers has {found} entries, but {fast} levels move '
      'awake (all but the slowest): write one for each.'
    )
  named = {
    'pretrain.optimizer': config['pretrain']['optimizer'],
    'fine_tune': config['fine_tune'],
    'expert_optimizer': {
      'decay_steps': config['consolidate']['num_updates'],
      **config['expert_optimizer'],
    },
  }
  if config['dream']['on']:
    named['dream (with expert_optimizer)'] = dream_settings.optimizer_settings(
      dream_settings.make(**config['dream']), config['expert_optimizer']
    )
  for number, settings in enumerate(config['wake']['optimizers']):
    named[f'wake.optimizers[{number}]'] = settings
  for name, settings in named.items():
    warmup, steps = settings.get('warmup', 0), settings.get('decay_steps', 0)
    if steps and warmup >= steps:
      raise ValueError(
        f'config.{name}: warmup {warmup} leaves nothing of decay_steps '
        f'{steps}, which counts it: lower warmup or raise decay_steps.'
      )
  for name, least in (('wake.steps', 1), ('pretrain.steps', 0)):
    section, key = name.split('.')
    if config[section][key] < least:
      raise ValueError(
        f'config.{name} is {config[section][key]}: set it to {least} or more.'
      )
  for name in config['writers']:
    if name not in metric_writer.OPTIONAL_WRITERS:
      raise ValueError(
        f'config.writers has {name!r}: expected some of '
        f'{metric_writer.OPTIONAL_WRITERS}; metrics.jsonl is always written.'
      )
  if config['pretrain']['base_model'] and config['pretrain']['restore']:
    raise ValueError(
      'config.pretrain.base_model and config.pretrain.restore name two initial '
      'models: set one of them.'
    )
  _check_dtype(config)
  _check_lengths(config)
  if not config['seeds'] or not config['strategies']:
    raise ValueError(
      'config.seeds and config.strategies need one entry each, at least.'
    )


def _check_dtype(config):
  """Small steps are lost in 16 bits: who learns is kept in 32."""
  found, born = config['pretrain']['dtype'], config['pretrain']
  if found not in _DTYPES:
    raise ValueError(
      f'config.pretrain.dtype is {found!r}: expected one of {_DTYPES}.'
    )
  if found == 'float32':
    return
  moves = [s for s in config['strategies'] if s not in ('sleep', 'hope')]
  for wrong, why in (
    (moves, f'config.strategies has {moves}, which move it'),
    (config['consolidate']['into'] == sleep_settings.BASE,
     "config.consolidate.into is 'base', which moves it"),
    (born['steps'] and not (born['base_model'] or born['restore']),
     f'config.pretrain.steps is {born["steps"]}, which train it'),
  ):  # fmt: skip
    if wrong:
      raise ValueError(
        f'config.pretrain.dtype is {found!r}, for a core that never moves, but '
        f"{why}: set pretrain.dtype to 'float32', or change that."
      )


def _check_lengths(config):
  """Rows of another length would silently be whole on each device."""
  shards = config['mesh'].get('sequence', 1)
  for section, key in _SHARED:
    size = config[section][key]
    if size % shards:
      near = max(n for n in range(1, shards) if not size % n)
      raise ValueError(
        f'config.mesh.sequence is {shards} devices, which do not divide the '
        f'{size} places of config.{section}.{key}: set that to '
        f'{size + -size % shards}, or mesh.sequence to {near}.'
      )


def _check(found, known, place):
  if isinstance(known, bool):
    return
  if isinstance(known, list):
    if not isinstance(found, (list, tuple)):
      raise ValueError(f'{place} is {found!r}: expected a list of dicts.')
    for number, item in enumerate(found):
      _check(item, known[0], f'{place}[{number}]')
    return
  if not isinstance(found, Mapping):
    raise ValueError(
      f'{place} is {found!r}: expected a dict of {", ".join(known)}.'
    )
  for key in found:
    if key not in known:
      raise ValueError(files.unknown_key(place, key, known))
  for key, inner in known.items():
    if key in found:
      _check(found[key], inner, f'{place}.{key}')
    elif inner is not schema.OPTIONAL:
      raise ValueError(
        f'{place}.{key} is missing: set it, or start from configs/base.py.'
      )
