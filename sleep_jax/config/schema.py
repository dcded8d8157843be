"""Every key that a config may have, read from the functions that take them.

Most sub-dicts of a config are the arguments of one function, so a key that is
misspelled, or that a new version no longer takes, is found before anything is
computed.
"""

import inspect
from collections.abc import Callable, Iterable

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.data import stream, tokenizer
from sleep_jax.datasets import (
  agent,
  arc,
  babilong,
  domains,
  facts,
  formats,
  images,
  intents,
  jsonl,
  languages,
  math,
  niah,
  passages,
)
from sleep_jax.dream import settings as dream_settings
from sleep_jax.evaluate import ability_evaluator, evaluator
from sleep_jax.model import config as config_lib
from sleep_jax.optim import optimizer
from sleep_jax.runtime import sharding
from sleep_jax.sleep import question_prompts, sender_settings
from sleep_jax.sleep import settings as sleep_settings
from sleep_jax.storage import checkpoints
from sleep_jax.strategies import registry

DATASETS = {
  'agent': agent, 'arc': arc, 'babilong': babilong, 'domains': domains,
  'facts': facts, 'formats': formats, 'images': images, 'intents': intents,
  'jsonl': jsonl, 'languages': languages, 'math': math, 'niah': niah,
  'passages': passages,
}  # fmt: skip
REQUIRED, OPTIONAL = True, False  # An optional key has a default.
NIGHT = 'night'  # Of a level; none of its keys is required.
# Sections that configs of earlier versions lack.
OPTIONAL_SECTIONS = (
  *files.OPTIONAL_SECTIONS, 'adaptive', 'second_kl_penalty', NIGHT
)  # fmt: skip


def schema(config):
  """Returns all keys of a config, nested as the config is.

  Args:
    config: as JSON returns it; decides which dataset's settings are allowed.

  Returns:
    A nested dict whose leaves are `REQUIRED` or `OPTIONAL`; a list stands for a
    tuple of such dicts.

  Raises:
    ConfigError: the dataset is not known.
  """
  adam = _arguments(optimizer.make)
  adam_of = lambda settings: (
    {'optimizer': adam} if 'optimizer' in _arguments(settings) else {}
  )
  consolidate = {
    # Whether answers are stored depends on the strategy.
    **_arguments(sleep_settings.Settings, but=('stored_answers',)),
    'teachers': [_arguments(sleep_settings.Teacher)],
    'imitation': _arguments(sleep_settings.Imitation),
    'adaptive': _arguments(sleep_settings.Adaptive),
  }
  penalty = {
    'weight': REQUIRED, 'teacher': OPTIONAL, 'prompts': OPTIONAL,
    **_arguments(sleep_settings.Teacher, but=('teacher', 'prompts')),
  }  # fmt: skip
  of_teachers = dict.fromkeys(sender_settings.OF_TEACHERS, OPTIONAL)
  data = config.get('data') or {}
  dataset = data.get('dataset')
  if dataset not in DATASETS:
    raise errors.ConfigError(
      f'config.data.dataset is {dataset!r}: expected one of {tuple(DATASETS)}.'
    )
  given = ('path', 'seed', 'stream_seed', 'ends', 'scratch', 'holds_out')
  alone = dict.fromkeys(
    ('name', 'seeds', 'strategies', 'evaluate_samples', 'writers',
     'compile_cache'), REQUIRED
  )  # fmt: skip
  # Sessions of earlier versions lack these sections, and do not need them.
  used = {*config, *config.get('strategies', ())}
  own = {
    name: _arguments(settings) | adam_of(settings)
    for name, settings in registry.settings().items()
    if name in used
  }
  return alone | own | {
    'data': {
      **_arguments(stream.build, but=('dataset', 'tokenizer', 'seed',
                                       'cache_dir', 'load_writer')),
      'dataset': REQUIRED, 'path': REQUIRED, 'extra_days': OPTIONAL,
      'growing': OPTIONAL, 'order': OPTIONAL,
      'settings': _arguments(DATASETS[dataset].make, but=given),
    },
    'tokenizer': _arguments(tokenizer.make, but=('texts',)),
    'model': _arguments(config_lib.Model, but=('levels', 'vocab_size')),
    'levels': [{
      **_arguments(config_lib.Level), NIGHT: consolidate | adam | of_teachers
    }],
    'pretrain': {
      **dict.fromkeys(('restore', 'base_model', 'dtype', 'steps'), REQUIRED),
      'optimizer': adam,
    },
    'wake': {
      'steps': REQUIRED, 'epochs': OPTIONAL, 'depth': OPTIONAL,
      'final': OPTIONAL,
      'optimizers': [adam],
      'micro_batches': REQUIRED, 'block_tokens': REQUIRED,
      'kl_penalty': penalty, 'second_kl_penalty': penalty,
    },
    'fine_tune': adam,
    'tune': {'learning_rates': REQUIRED, 'experiences': REQUIRED},
    'replay': {
      **dict.fromkeys(('store', 'pretrain', 'past', 'day'), REQUIRED),
      'own_texts': OPTIONAL,
      'about_people': OPTIONAL,
    },
    'consolidate': consolidate,
    'expert_optimizer': adam,
    'dream': {
      **_arguments(dream_settings.Settings),
      'trial': _arguments(dream_settings.Adapter),
      'writer': _arguments(dream_settings.Adapter),
    },
    'self_edit': _arguments(dream_settings.Adapter),
    'guard': {'on': REQUIRED, 'tolerance': REQUIRED},
    'ability': _arguments(ability_evaluator.Settings),
    'questions': _arguments(question_prompts.Settings),
    'evaluate': _arguments(
      evaluator.Evaluator, but=('model', 'stream', 'initial_model')
    ),
    'checkpoint': {
      **_arguments(checkpoints.Checkpoints, but=('folder', 'config', 'bound')),
      'every_seconds': REQUIRED,
    },
    'compare': {'orders': OPTIONAL, 'memory_gib': OPTIONAL},
    'mesh': _arguments(sharding.make, but=('devices',)),
  }  # fmt: skip


def _arguments(function: Callable, *, but: Iterable[str] = ()):
  """Returns argument name -> whether it is required."""
  parameters = inspect.signature(function).parameters.values()
  return {p.name: p.default is p.empty for p in parameters if p.name not in but}
