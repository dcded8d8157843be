"""Compare strategies over seeds and orders, and write one page.

sleep-jax compare --config=compare/facts

Units (strategy, seed, order) run side by side, one per free core or GPU, and as
many as fit in memory. The same command continues a comparison that was stopped
and skips what is finished.
"""

import json
import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line
from sleep_jax.runtime import signals

_CONFIG = command_line.define_config('What is compared.')
_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'Folder of results and page; an existing one is continued. '
  "Default: runs/ and the config's name.",
)  # fmt: skip
_UNITS = flags.DEFINE_string(
  'units', '', 'Units to run, as in sleep:0:0,er:0:0 (STRATEGY:SEED:ORDER); '
  'default: all.',
)  # fmt: skip
_JOBS = flags.DEFINE_integer(
  'jobs', 0, 'Most units at once; 0: one per free core or GPU.', 0
)
flags.DEFINE_bool(
  'fast', False, 'A short trial: the config NAME:fast, with one seed and fewer '
  'days; choose units with --units.',
)  # fmt: skip


def main(argv):
  del argv
  if not flags.FLAGS['verbosity'].present:
    command_line.suppress_library_warnings()
  stopped: list[int] = []
  try:
    with signals.listen(stopped, 0):
      done = _run(lambda: bool(stopped))
  except (errors.SleepJaxError, ValueError, OSError) as error:
    command_line.exit_with_error(error)
  if not done:
    print('stopped: the same command continues', file=sys.stderr)
    sys.exit(128 + stopped[0])


def _run(stop) -> bool:
  from sleep_jax.compare import machine, pool, runner, settings, units
  from sleep_jax.report import comparison as page
  from sleep_jax.storage import lock, workdir

  plain = json.loads(_CONFIG.value.to_json_best_effort())
  folder = workdir.path(_WORKDIR.value or f'runs/{plain["name"]}')
  if workdir.in_bucket(folder):
    raise errors.ConfigError(
      f'--workdir={folder} is in a bucket: name a folder on a disk of this '
      'machine, where the units share files.'
    )
  planned = units.plan(
    plain['strategies'], plain['seeds'], settings.options(plain)['orders']
  )
  chosen = units.select(planned, _UNITS.value)
  say = lambda line: print(line, flush=True)
  with lock.hold(folder):
    made = runner.Comparison(plain, folder, say=say)

    def write() -> None:
      page.write(
        folder, made.results.values(), plain, num_planned=len(made.units)
      )

    write()
    say(f'{len(made.results)} of {len(made.units)} units have results')
    done = made.run(
      chosen,
      lambda **options: pool.Pool(
        machine.slots(_JOBS.value), stop=stop, **options
      ),
      on_result=write,
    )
    write()
  say(f'page: {folder}/page.html, table: {folder}/table.md')
  return done


def _parse(argv: list[str]) -> list[str]:
  """Parses flags; --fast adds its argument to the name of the config."""
  if any(word in ('--fast', '-fast', '--fast=true') for word in argv):
    argv = [*argv]
    for place, word in enumerate(argv):
      if word.lstrip('-') == 'config' and place + 1 < len(argv):
        argv[place + 1] += ':fast'
      elif word.lstrip('-').startswith('config='):
        argv[place] += ':fast'
  return command_line.parser()(argv)


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  flags.mark_flags_as_required(['config'])
  app.run(main, flags_parser=_parse)
