"""Fetch, inspect, import, export and grow checkpoints.

sleep-jax convert fetch smollm2
sleep-jax convert inspect --model=FOLDER
sleep-jax convert in --model=FOLDER --to=WORKDIR [--config=NAME]
sleep-jax convert out --model=WORKDIR --to=FOLDER [--distil]
sleep-jax convert out --model=WORKDIR --to=FILE.gguf --gguf=f16
sleep-jax convert out --model=WORKDIR --to=FILE.safetensors --experts
sleep-jax convert grow --model=WORKDIR --to=NEW --slots=2:10,3:12
sleep-jax convert grow --model=WORKDIR --to=NEW --level=RANK,SLOTS,DAYS
"""

import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line

_MODEL = flags.DEFINE_string(
  'model', None,
  'Work directory of a run, Hugging Face model directory, GGUF file, or name '
  'of a model that was fetched.',
)  # fmt: skip
_STRATEGY = flags.DEFINE_string(
  'strategy', 'sleep', 'Which strategy of a work directory.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Which seed of a work directory.')
_TO = flags.DEFINE_string('to', None, 'What is written; must not exist.')
_EXPERTS = flags.DEFINE_bool(
  'experts', False, 'out: the experts alone, as one file with a card.'
)
_GGUF = flags.DEFINE_enum(
  'gguf', None, ['f16', 'q8_0'], 'out: a GGUF file with matrices of this type.'
)
_CONFIG = command_line.define_config(
  'in: levels and seeds of the studies that will name the result as '
  'config.pretrain.restore (default: documents).'
)
_SLOTS = flags.DEFINE_list(
  'slots', [], 'grow: levels, and how many expert slots they get: 2:10,3:12.'
)
_LEVEL = flags.DEFINE_list(
  'level', [], 'grow: adds a slowest level, RANK,SLOTS,DAYS: rank of its '
  'experts, its slots, and the sleep period, in days, of the level before it.'
)  # fmt: skip
_DISTIL = flags.DEFINE_bool(
  'distil', False, 'out: trains a dense student where no exact export exists.'
)
_STEPS = flags.DEFINE_integer('steps', 400, 'Training steps of --distil.', 1)
_BATCH = flags.DEFINE_integer('batch', 32, 'Texts per step of --distil.', 1)
_MAX_NEW = flags.DEFINE_integer('max_new', 64, 'Tokens of such a text.', 1)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'],
  'Type of the parameters that are read and written.',
)  # fmt: skip


def main(argv):
  try:
    _run(argv[1:])
  except (errors.SleepJaxError, ValueError, OSError) as error:
    command_line.exit_with_error(error)
  except KeyboardInterrupt:
    print(file=sys.stderr)
    sys.exit(130)


def _run(words):
  actions = {'in': _in, 'out': _out, 'inspect': _inspect, 'grow': _grow}
  if words[:1] == ['fetch']:
    return _fetch(words[1:])
  if len(words) != 1 or words[0] not in actions:
    raise errors.UsageError(
      f'Expected one of {", ".join([*actions, "fetch"])}, as in sleep-jax '
      f'convert inspect --model=FOLDER; found {" ".join(words) or "none"}.'
    )
  command_line.show_errors_only()
  (action,) = words
  if not _MODEL.value:
    raise errors.UsageError(f'{action} needs --model.')
  if action != 'inspect' and not _TO.value:
    raise errors.UsageError(f'{action} needs --to.')
  actions[action]()


def _fetch(names):
  from sleep_jax.interop import model_fetch
  from sleep_jax.storage import known_models

  if len(names) != 1:
    raise errors.UsageError(
      'fetch needs one of these names:\n'
      + '\n'.join(
        f'  {name}: {model.about}; {model.megabytes} MB'
        for name, model in known_models.MODELS.items()
      )
    )
  (name,) = names
  path, fetched = model_fetch.fetch(name)
  print(f'{"fetched" if fetched else "already there"}: {path}')
  print(f'{known_models.MODELS[name].about}; {known_models.usage(name)}')


def _load():
  from sleep_jax import api

  return api.load(
    _MODEL.value, strategy=_STRATEGY.value, seed=_SEED.value,
    dtype=_DTYPE.value,
  )  # fmt: skip


def _inspect():
  print(f'{_MODEL.value}: {_load().describe()}')


def _in():
  from sleep_jax.runs import hf_start
  from sleep_jax.storage import compile_cache

  compile_cache.start(_CONFIG.value.compile_cache)
  hf_start.import_model(_CONFIG.value, _TO.value, _MODEL.value)
  print(f'written: {_TO.value}; start from it with --config.pretrain.restore')


def _out():
  from sleep_jax.interop import distilled_export

  settings = distilled_export.Settings(
    steps=_STEPS.value, batch=_BATCH.value, max_new=_MAX_NEW.value
  )
  if _EXPERTS.value and _GGUF.value:
    raise errors.UsageError('--experts and --gguf are two formats: choose one.')
  if _EXPERTS.value and _DISTIL.value:
    raise errors.UsageError(
      '--experts writes the experts as they are; --distil trains a dense model '
      'in their place: choose one.'
    )
  kind = f'gguf-{_GGUF.value}' if _GGUF.value else 'hf'
  if _EXPERTS.value:
    kind = 'experts'
  _load().export(
    _TO.value, kind, dtype=_DTYPE.value,
    distil=settings if _DISTIL.value else None,
  )  # fmt: skip
  print(f'written: {_TO.value}')


def _grow():
  from sleep_jax.runs import grown_levels, growth

  growth.grow(
    _MODEL.value, _TO.value, grown_levels.parse_slots(_SLOTS.value),
    grown_levels.parse_level(_LEVEL.value),
  )  # fmt: skip
  print(
    f'written: {_TO.value}; continue with sleep-jax run --workdir={_TO.value} '
    f'--config={_TO.value.rstrip("/")}/{growth.CONFIG_FILE}'
  )


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  app.run(
    main,
    flags_parser=command_line.parser(default='documents', takes_words=True),
  )
