"""Validates a config: unknown keys, missing keys, inconsistent values.

Known keys come from `schema`, which reads them from the functions that take
them.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.config import files, ranges, schema
from sleep_jax.dream import settings as dream_settings
from sleep_jax.evaluate import ability_evaluator
from sleep_jax.model import config as config_lib
from sleep_jax.schedule import checks as schedule_checks
from sleep_jax.sleep import question_prompts, sender_settings
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.storage import metric_writer
from sleep_jax.strategies import registry

_DTYPES = ('float32', 'bfloat16')
_STORES = ('prompts', 'rows', 'none')
# Lengths of rows and caches that the mesh axis `sequence` divides.
_SEQUENCE_LENGTHS = (
  ('data', 'context'), ('consolidate', 'max_length'),
  ('consolidate', 'prompt_width'), ('consolidate', 'max_new'),
)  # fmt: skip


def check(config: Mapping[str, Any]) -> None:
  """Checks the keys of a config, and values that depend on each other.

  Args:
    config: as JSON returns it.

  Raises:
    ConfigError: a key is unknown (names the nearest known one) or missing; or a
      number of optimizers, a warm-up or a row length does not fit.
  """
  _check(config, schema.schema(config), 'config')
  ranges.check(config)
  schedule_checks.check_periods([*map(config_lib.make_level, config['levels'])])
  fast = sum(
    level['update_period'] != config_lib.INFINITE for level in config['levels']
  )
  found = len(config['wake']['optimizers'])
  if found != fast:
    raise errors.ConfigError(
      f'config.wake.optimizers has {found} entries, but {fast} levels are '
      'trained awake (their update_period is a number of steps): write one for '
      'each.'
    )
  named = {
    'pretrain.optimizer': config['pretrain']['optimizer'],
    'fine_tune': config['fine_tune'],
    **{
      f'{name}.optimizer': config.get(name, {}).get('optimizer', {})
      for name in registry.settings()
    },
    'expert_optimizer': sender_settings.optimizer(config, 0),
  }
  for sender, level in enumerate(config['levels'], 1):
    if level.get(schema.NIGHT):
      name = f'levels[{sender - 1}].night (with expert_optimizer)'
      named[name] = sender_settings.optimizer(config, sender)
  taught = [*config['consolidate']['teachers']]
  for level in config['levels']:
    taught += (level.get(schema.NIGHT) or {}).get('teachers', [])
  for name in ('kl_penalty', 'second_kl_penalty'):
    if config['wake'].get(name, {}).get('weight'):
      taught.append(config['wake'][name])
  has_first = any(teacher.get('teacher') == 'first' for teacher in taught)
  num_own = config['replay'].get('own_texts', 0)
  if has_first and not num_own:
    raise errors.ConfigError(
      "The teacher 'first' is used, but config.replay.own_texts is 0: set it "
      'to the number of texts that the base model writes, for example 256.'
    )
  if num_own and not has_first:
    raise errors.ConfigError(
      f'config.replay.own_texts is {num_own}, but no teacher is "first", which '
      'reads them: set it to 0, or add the teacher.'
    )
  num_people = config['replay'].get('about_people', 0)
  if num_people > num_own:
    raise errors.ConfigError(
      f'config.replay.about_people is {num_people}, but only {num_own} own '
      'texts are written (config.replay.own_texts), of which these are a part: '
      'lower about_people, or raise own_texts.'
    )
  if config['dream']['on']:
    named['dream (with expert_optimizer)'] = dream_settings.optimizer_settings(
      dream_settings.make(**config['dream']), config['expert_optimizer']
    )
  for number, settings in enumerate(config['wake']['optimizers']):
    named[f'wake.optimizers[{number}]'] = settings
  for name, settings in named.items():
    warmup, steps = settings.get('warmup', 0), settings.get('decay_steps', 0)
    if steps and warmup >= steps:
      raise errors.ConfigError(
        f'config.{name}: warmup is {warmup} steps, but decay_steps, which '
        f'includes it, is {steps}: lower warmup or raise decay_steps.'
      )
  depth = [*config['wake'].get('depth', (0.0, 1.0))]
  if depth != [0, 1] and config['model'].get('arrangement') == 'depth':
    raise errors.ConfigError(
      f"config.wake.depth is {tuple(depth)}, but model.arrangement is 'depth', "
      'where each level has blocks of its own: set it to (0, 1).'
    )
  for name in config['writers']:
    if name not in metric_writer.OPTIONAL_WRITERS:
      raise errors.ConfigError(
        f'config.writers has {name!r}: expected some of '
        f'{metric_writer.OPTIONAL_WRITERS}; metrics.jsonl is always written.'
      )
  if config['pretrain']['base_model'] and config['pretrain']['restore']:
    raise errors.ConfigError(
      'config.pretrain.base_model and config.pretrain.restore name two initial '
      'models: set one of them.'
    )
  ability_evaluator.Settings(**config.get('ability', {}))
  question_prompts.make_settings(**config.get('questions', {}))
  _check_dtype(config)
  if (store := config['replay']['store']) not in _STORES:
    raise errors.ConfigError(
      f'config.replay.store is {store!r}: expected one of {_STORES}.'
    )
  _check_lengths(config)
  for name in ('seeds', 'strategies', 'tune.learning_rates'):
    if not files.find(config, name):
      raise errors.ConfigError(
        f'config.{name} is empty: expected one entry or more.'
      )
  for number, name in enumerate(config['strategies']):
    if name not in registry.names():
      near = difflib.get_close_matches(str(name), registry.names(), 1, 0.0)
      raise errors.ConfigError(
        f'config.strategies[{number}] is {name!r}: the nearest known one is '
        f'{near[0]!r}; all are {", ".join(registry.names())}.'
      )
  for name in ('seeds', 'strategies'):
    if len(set(config[name])) < len(config[name]):
      raise errors.ConfigError(
        f'config.{name} is {list(config[name])}: an entry is there twice. Name '
        'each once.'
      )


def _check_dtype(config):
  """Refuses 16-bit parameters that are trained: small updates are lost."""
  pretrain = config['pretrain']
  found = pretrain['dtype']
  if found not in _DTYPES:
    raise errors.ConfigError(
      f'config.pretrain.dtype is {found!r}: expected one of {_DTYPES}.'
    )
  if found == 'float32':
    return
  frozen = (
    'sleep', 'sleep_rows', 'hope', 'lora', 'cartridge', 'icl', 'rag', 'klda',
    'inca',
  )  # fmt: skip
  training = [s for s in config['strategies'] if s not in frozen]
  nights = (level.get(schema.NIGHT) or {} for level in config['levels'])
  kinds = [config['consolidate'], *nights]
  into = [night.get('into') for night in kinds]
  full = [night.get('full') for night in kinds]
  for wrong, reason in (
    (training, f'config.strategies has {training}, which train it'),
    (sleep_settings.BASE in into,
     "the field 'into' of a night is 'base', which trains it"),
    (sleep_settings.ABSORB in full,
     "the field 'full' of a night is 'absorb', which trains it"),
    (pretrain['steps'] and not (pretrain['base_model'] or pretrain['restore']),
     f'config.pretrain.steps is {pretrain["steps"]}, which train it'),
  ):  # fmt: skip
    if wrong:
      raise errors.ConfigError(
        f'config.pretrain.dtype is {found!r}, which is for a core that is '
        f"never trained, but {reason}: set pretrain.dtype to 'float32', or "
        'change that.'
      )


def _check_lengths(config):
  """Refuses row lengths that the mesh axis `sequence` does not divide.

  Such rows would silently be replicated on all devices.
  """
  shards = config['mesh'].get('sequence', 1)
  for section, key in _SEQUENCE_LENGTHS:
    size = config[section][key]
    if size % shards:
      near = max(n for n in range(1, shards) if not size % n)
      raise errors.ConfigError(
        f'config.mesh.sequence is {shards} devices, which do not divide the '
        f'{size} positions of config.{section}.{key}: set that to '
        f'{size + -size % shards}, or mesh.sequence to {near}.'
      )


def _check(found, known, place):
  if isinstance(known, bool):
    return
  if isinstance(known, list):
    if not isinstance(found, (list, tuple)):
      raise errors.ConfigError(
        f'{place} is {found!r}: expected a list of dicts.'
      )
    for number, item in enumerate(found):
      _check(item, known[0], f'{place}[{number}]')
    return
  if not isinstance(found, Mapping):
    # Flags are read as literals, which `dict(...)` is not.
    how = " In a flag write {'name': value}." if isinstance(found, str) else ''
    raise errors.ConfigError(
      f'{place} is {found!r}: expected a dict of {", ".join(known)}.{how}'
    )
  for key in found:
    if key not in known:
      raise errors.ConfigError(files.unknown_key(place, key, known))
  partial = place.endswith(f'.{schema.NIGHT}')
  for key, inner in known.items():
    if key in found:
      _check(found[key], inner, f'{place}.{key}')
    elif not (
      partial or inner is schema.OPTIONAL or key in schema.OPTIONAL_SECTIONS
    ):
      raise errors.ConfigError(
        f'{place}.{key} is missing: set it, or start from configs/base.py.'
      )
