"""Inspect, import and export checkpoints.

sleep-jax convert inspect --model=FOLDER
sleep-jax convert in --model=FOLDER --to=WORKDIR [--config=NAME]
sleep-jax convert out --model=WORKDIR --to=FOLDER [--distil]
sleep-jax convert out --model=WORKDIR --to=FILE.safetensors --experts
"""

from absl import app, flags, logging

from sleep_jax import errors
from sleep_jax.runs import command_line

_MODEL = flags.DEFINE_string(
  'model', None, 'Work directory of a run, or Hugging Face model directory.'
)
_STRATEGY = flags.DEFINE_string(
  'strategy', 'sleep', 'Which strategy of a work directory.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Which seed of a work directory.')
_TO = flags.DEFINE_string('to', None, 'What is written; must not exist.')
_EXPERTS = flags.DEFINE_bool(
  'experts', False, 'out: the experts alone, as one file with a card.'
)
_CONFIG = command_line.define_config(
  'in: levels and seeds of the studies that will name the result as '
  'config.pretrain.restore (default: documents).'
)
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
  actions = {'in': _in, 'out': _out, 'inspect': _inspect}
  if len(argv) != 2 or argv[1] not in actions:
    raise app.UsageError(
      f'Expected one of {", ".join(actions)} first; got {argv[1:] or "none"}.'
    )
  logging.set_verbosity(logging.ERROR)
  if argv[1] != 'inspect' and not _TO.value:
    raise app.UsageError(f'{argv[1]} needs --to.')
  try:
    actions[argv[1]]()
  except (errors.SleepJaxError, ValueError, OSError) as error:
    command_line.exit_with_error(error)


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

  hf_start.import_model(_CONFIG.value, _TO.value, _MODEL.value)
  print(f'written: {_TO.value}; start from it with --config.pretrain.restore')


def _out():
  from sleep_jax.interop import distilled_export

  settings = distilled_export.Settings(
    steps=_STEPS.value, batch=_BATCH.value, max_new=_MAX_NEW.value
  )
  _load().export(
    _TO.value, 'experts' if _EXPERTS.value else 'hf', dtype=_DTYPE.value,
    distil=settings if _DISTIL.value else None,
  )  # fmt: skip
  print(f'written: {_TO.value}')


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  flags.mark_flags_as_required(['model'])
  app.run(main, flags_parser=command_line.parser(default='documents'))
