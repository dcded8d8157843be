"""Runs one unit of the study of a pretrained model, see `unit`.

python -m benchmarks.real_model --form=a --strategy=sleep --seed=0 \
  --config=pretrained --out=docs/results/real/study

The same command continues a unit that was killed, and does nothing if its
results exist. Settings are chosen with --split=validation --num_days=2.
"""

import pathlib
import sys

from absl import app, flags

from benchmarks.real_model import recall, unit, words
from sleep_jax import errors
from sleep_jax.runs import command_line
from sleep_jax.storage import compile_cache

_CONFIG = command_line.define_config('Of days and nights.')
_FORM = flags.DEFINE_enum(
  'form', recall.ROWS, recall.FORMS, 'a: rows, b: conversations, c: pages.'
)
_STRATEGY = flags.DEFINE_string('strategy', 'sleep', 'Or a baseline, as sft.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the facts and of the run.', 0)
_SPLIT = flags.DEFINE_enum(
  'split', words.TEST, words.SPLITS, 'Names and values of the facts.'
)
_DAYS = flags.DEFINE_integer('num_days', 5, 'Days, each with its night.', 1)
_FACTS = flags.DEFINE_integer('facts_per_day', 12, 'Facts of each day.', 1)
_MODEL = flags.DEFINE_string('model', 'smollm2', 'Pretrained model.')
_OUT = flags.DEFINE_string(
  'out', 'docs/results/real/study', 'Folder of the results, one file a unit.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', 'runs/real', 'Folder of the runs, which are continued.'
)
_ANY_REVISION = flags.DEFINE_bool(
  'any_revision', False, 'Accept results, and continue units, that another '
  'revision of the code has begun.',
)  # fmt: skip


def main(argv):
  del argv
  command_line.suppress_library_warnings()
  try:
    compile_cache.start(_CONFIG.value.compile_cache)
    unit.run(
      unit.Unit(
        _FORM.value, _STRATEGY.value, _SEED.value, _SPLIT.value, _DAYS.value,
        _FACTS.value, _MODEL.value,
      ),
      _CONFIG.value, out=pathlib.Path(_OUT.value),
      folder=pathlib.Path(_WORKDIR.value), any_revision=_ANY_REVISION.value,
      say=lambda line: print(line, flush=True),
    )  # fmt: skip
  except (errors.SleepJaxError, ValueError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  flags.mark_flags_as_required(['config'])
  app.run(main, flags_parser=command_line.parser())
