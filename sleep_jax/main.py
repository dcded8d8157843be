"""Entry: python -m sleep_jax.main --config=configs/smoke.py --workdir=runs/x."""

import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from sleep_jax import lifecycle

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'What to run; see configs/. Fields can be overridden: '
  '--config.wake.steps=60.', lock_config=True,
)  # fmt: skip
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything is written; the same one resumes.'
)
_RESTORE_CYCLE = flags.DEFINE_integer(
  'restore_cycle', None, 'Go back to the end of this cycle and on from there; '
  'later cycles are deleted.', lower_bound=1,
)  # fmt: skip


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  logging.set_verbosity(logging.ERROR)
  import jax

  from sleep_jax import study

  config = _CONFIG.value
  if config.compile_cache:
    jax.config.update('jax_compilation_cache_dir', config.compile_cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  stopped: list[int] = []
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: stopped.append(number))
  try:
    study.Study(
      config, _WORKDIR.value, stop=lambda: bool(stopped),
      restore_cycle=_RESTORE_CYCLE.value,
    ).run()  # fmt: skip
  except lifecycle.Interrupted as reason:
    print(reason, file=sys.stderr)
    sys.exit(128 + stopped[0])
  except (ValueError, OSError, ImportError) as error:
    print(f'error: {error}', file=sys.stderr)
    if logging.get_verbosity() >= logging.DEBUG:
      raise
    sys.exit(1)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main)
