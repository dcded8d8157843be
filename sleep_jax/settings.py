"""Settings: whether a config says what there is to say, and nothing else.

Each sub-dict of a config is one function's arguments, so what is known is read
from the functions themselves: a key that is misspelt, or that a new version no
longer takes, is found before anything is computed.
"""

import difflib
import inspect
import pathlib
import re
import runpy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sleep_jax import checkpoint, optimizer, sharding, writers
from sleep_jax.data import streams, tokenizer
from sleep_jax.data.worlds import arc, facts, intents, jsonl, passages
from sleep_jax.evaluate import examiner
from sleep_jax.model import config as model_config
from sleep_jax.phases import dreams, night

WORLDS = {
  'arc': arc, 'facts': facts, 'intents': intents, 'jsonl': jsonl,
  'passages': passages,
}  # fmt: skip
_DTYPES = ('float32', 'bfloat16')
# Lengths of what the mesh's axis `sequence` shares out: rows, and caches.
_SHARED = (
  ('data', 'context'), ('consolidate', 'max_length'),
  ('consolidate', 'prompt_width'), ('consolidate', 'max_new'),
)  # fmt: skip
_NEEDED, _MAY = True, False  # Of a key: has no default, has one.


def check(config: Mapping[str, Any]) -> None:
  """Checks the keys of a whole config, and what no single function can.

  Raises:
    ValueError: an unknown key, with the nearest known one; a missing key; a
      number of optimizers, a warm-up, or a length of rows, that does not fit.
  """
  _check(config, _known(config), 'config')
  fast = len(config['levels']) - 1
  found = len(config['wake']['optimizers'])
  if found != fast:
    raise ValueError(
      f'config.wake.optimizers has {found} entries, but {fast} levels move '
      'awake (all but the slowest): write one for each.'
    )
  named = {
    'birth.optimizer': config['birth']['optimizer'],
    'fine_tune': config['fine_tune'],
    'expert_optimizer': {
      'decay_steps': config['consolidate']['num_updates'],
      **config['expert_optimizer'],
    },
  }
  if config['dream']['on']:
    named['dream (with expert_optimizer)'] = dreams.optimizer(
      dreams.make(**config['dream']), config['expert_optimizer']
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
  for name, least in (('wake.steps', 1), ('birth.steps', 0)):
    section, key = name.split('.')
    if config[section][key] < least:
      raise ValueError(
        f'config.{name} is {config[section][key]}: set it to {least} or more.'
      )
  for name in config['writers']:
    if name not in writers.EXTRAS:
      raise ValueError(
        f'config.writers has {name!r}: expected some of {writers.EXTRAS}; '
        'metrics.jsonl is always written.'
      )
  if config['birth']['host'] and config['birth']['restore']:
    raise ValueError(
      'config.birth.host and config.birth.restore name two newborns: set one '
      'of them.'
    )
  _check_dtype(config)
  _check_lengths(config)
  if not config['seeds'] or not config['strategies']:
    raise ValueError(
      'config.seeds and config.strategies need one entry each, at least.'
    )


def _check_dtype(config):
  """Small steps are lost in 16 bits: who learns is kept in 32."""
  found, born = config['birth']['dtype'], config['birth']
  if found not in _DTYPES:
    raise ValueError(
      f'config.birth.dtype is {found!r}: expected one of {_DTYPES}.'
    )
  if found == 'float32':
    return
  moves = [s for s in config['strategies'] if s not in ('sleep', 'hope')]
  for wrong, why in (
    (moves, f'config.strategies has {moves}, which move it'),
    (config['consolidate']['into'] == night.BASE,
     "config.consolidate.into is 'base', which moves it"),
    (born['steps'] and not (born['host'] or born['restore']),
     f'config.birth.steps is {born["steps"]}, which train it'),
  ):  # fmt: skip
    if wrong:
      raise ValueError(
        f'config.birth.dtype is {found!r}, for a core that never moves, but '
        f"{why}: set birth.dtype to 'float32', or change that."
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


def load(path: str) -> Any:
  """The config of a file, before any override.

  Args:
    path: of the file; after a colon, if there is one, its argument.

  Raises:
    FileNotFoundError: there is no such file; lists those beside it.
  """
  path, *argument = path.split(':', 1)
  file = pathlib.Path(path)
  if not file.is_file():
    beside = ', '.join(sorted(p.name for p in file.parent.glob('*.py')))
    raise FileNotFoundError(
      f'--config={path}: there is no such file. In {file.parent} there are: '
      f'{beside or "no configs"}.'
    )
  return runpy.run_path(path)['get_config'](*argument)


def find(config: Any, name: str) -> Any:
  """What stands at a dotted name such as `levels[0].slots`.

  Raises:
    ValueError: it names nothing; says the nearest name that is known.
  """
  here, place = config, 'config'
  for part in re.findall(r'[^.\[\]]+|\[\d+\]', name):
    if part.startswith('['):
      number = int(part[1:-1])
      if not isinstance(here, (list, tuple)):
        raise ValueError(f'{place} is no list: {place}{part} is nothing.')
      if number >= len(here):
        raise ValueError(f'{place} has {len(here)} entries, from [0].')
      here, place = here[number], place + part
      continue
    if not hasattr(here, 'keys'):
      raise ValueError(f'{place} is {here!r}: it has no key {part!r}.')
    if part not in here:
      raise ValueError(_unknown(place, part, here.keys()))
    here, place = here[part], f'{place}.{part}'
  return here


def _known(config):
  """Every key there is, as the config's shape."""
  adam = _arguments(optimizer.make)
  data = config.get('data') or {}
  world = data.get('world')
  if world not in WORLDS:
    raise ValueError(
      f'config.data.world is {world!r}: expected one of {tuple(WORLDS)}.'
    )
  given = ('path', 'seed', 'stream_seed')
  alone = dict.fromkeys(
    ('name', 'seeds', 'strategies', 'evaluate_samples', 'writers',
     'compile_cache'), _NEEDED
  )  # fmt: skip
  return alone | {
    'data': {
      **_arguments(streams.build, but=('world', 'tokenizer', 'seed',
                                       'cache_dir')),
      'world': _NEEDED, 'path': _NEEDED,
      'settings': _arguments(WORLDS[world].make, but=given),
    },
    'tokenizer': _arguments(tokenizer.make, but=('texts',)),
    'model': _arguments(model_config.Model, but=('levels', 'vocab_size')),
    'levels': [_arguments(model_config.Level)],
    'birth': {
      **dict.fromkeys(('restore', 'host', 'dtype', 'steps'), _NEEDED),
      'optimizer': adam,
    },
    'wake': {
      'steps': _NEEDED, 'optimizers': [adam],
      'micro_batches': _NEEDED, 'block_tokens': _NEEDED,
      'tether': {
        'weight': _NEEDED,
        **_arguments(night.Teacher, but=('teacher', 'prompts')),
      },
    },
    'fine_tune': adam,
    'tune': {'learning_rates': _NEEDED, 'experiences': _NEEDED},
    'replay': dict.fromkeys(('store', 'birth', 'past', 'day'), _NEEDED),
    'consolidate': {
      **_arguments(night.Settings),
      'teachers': [_arguments(night.Teacher)],
      'imitation': _arguments(night.Imitation),
    },
    'expert_optimizer': adam,
    'dream': {
      **_arguments(dreams.Settings),
      'trial': _arguments(dreams.Adapter),
      'writer': _arguments(dreams.Adapter),
    },
    'self_edit': _arguments(dreams.Adapter),
    'guard': {'on': _NEEDED, 'tolerance': _NEEDED},
    'evaluate': _arguments(
      examiner.Examiner, but=('model', 'stream', 'newborn')
    ),
    'checkpoint': {
      **_arguments(checkpoint.Checkpoints, but=('folder', 'config')),
      'every_seconds': _NEEDED,
    },
    'mesh': _arguments(sharding.make, but=('devices',)),
  }  # fmt: skip


def _arguments(function: Callable, *, but: Iterable[str] = ()):
  """Name -> whether it is needed."""
  parameters = inspect.signature(function).parameters.values()
  return {p.name: p.default is p.empty for p in parameters if p.name not in but}


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
      raise ValueError(_unknown(place, key, known))
  for key, inner in known.items():
    if key in found:
      _check(found[key], inner, f'{place}.{key}')
    elif inner is not _MAY:
      raise ValueError(
        f'{place}.{key} is missing: set it, or start from configs/base.py.'
      )


def _unknown(place, key, known):
  near = difflib.get_close_matches(key, list(known), 1, 0.0)
  hint = f'the nearest that is known is {place}.{near[0]}' if near else (
    'nothing can be set there'
  )  # fmt: skip
  return f'{place}.{key} is no key of a config: {hint}.'
