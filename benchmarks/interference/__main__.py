"""Does second-order damage predict forgetting better than the cosine?

python -m benchmarks.interference [--fast] [--strategies=sft,er,sleep]

Runs a study of invented facts and keeps the weights after each day. For each
earlier day a and later update b, what is known before b is compared with the
increase of the loss on day a by b, see `pairs`. Writes to --out a file for each
strategy and seed, `interference.json` (all pairs and the summary) and
`table.md`. The same command continues a study that was stopped. Seeds are those
of the config: --config.seeds='(0,1,2)'. No number of --fast is a result.

Reference: 2606.02398.
"""

import sys

from absl import app, flags

from benchmarks.interference import units
from sleep_jax import errors
from sleep_jax.runs import command_line
from sleep_jax.storage import compile_cache, workdir

DEFAULT = 'compare/facts'
_CONFIG = command_line.define_config(f'Of the study; default: {DEFAULT}.')
_STRATEGIES = flags.DEFINE_list(
  'strategies', ['sft', 'er', 'sleep'], 'Strategies whose updates are compared.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'Folder of the runs, which are continued. Default: '
  "runs/interference_ and the config's name.",
)  # fmt: skip
_OUT = flags.DEFINE_string(
  'out', '', 'Folder of the results. Default: `results` in the work directory.'
)
flags.DEFINE_bool(
  'fast', False, 'The config compare/facts:fast: one seed, four days, short '
  'phases; not with --config.',
)  # fmt: skip


def main(argv):
  del argv
  command_line.suppress_library_warnings()
  config = _CONFIG.value
  try:
    folder = workdir.path(_WORKDIR.value or f'runs/interference_{config.name}')
    out = workdir.path(_OUT.value or folder / 'results')
    compile_cache.start(config.compile_cache)
    print(units.run(config, _STRATEGIES.value, folder=folder, out=out))
  except errors.SleepJaxError as error:
    sys.exit(f'error: {error}')


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; --fast chooses another default config."""
  fast = any(word in ('--fast', '-fast', '--fast=true') for word in argv)
  if fast and any(word.lstrip('-').split('=')[0] == 'config' for word in argv):
    sys.exit('error: --fast and --config are both given: choose one.')
  return command_line.parser(DEFAULT + ':fast' * fast)(argv)


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  app.run(main, flags_parser=_parse)
