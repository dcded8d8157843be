"""Entry: python -m sleep_jax.main --config=configs/smoke.py --workdir=x."""

import logging as standard_logging
import signal
import sys
import traceback
import warnings

from absl import app, flags, logging

from sleep_jax.runs import command_line
from sleep_jax.runtime import signals

_CONFIG = command_line.define_config('What to run.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where everything is written; the same one resumes.'
)
_RESTORE_CYCLE = flags.DEFINE_integer(
  'restore_cycle', None, 'Go back to the end of this cycle and on from there; '
  'later cycles are deleted.', lower_bound=1,
)  # fmt: skip
_PROFILE = flags.DEFINE_integer(
  'profile', 0, 'Traces so many wake steps, and rounds of a night, into '
  'profile/ of the work directory; read them with xprof or Perfetto.', 0,
)  # fmt: skip
_COORDINATOR = flags.DEFINE_string(
  'coordinator', '', 'Of several processes: HOST:PORT of the first, or auto '
  '(TPU pods, Slurm). Or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
  'JAX_PROCESS_ID.',
)  # fmt: skip
_PROCESSES = flags.DEFINE_integer('processes', None, 'How many.', 1)
_PROCESS = flags.DEFINE_integer('process', None, 'Which, from 0.', 0)
_TIMEOUT = flags.DEFINE_integer(
  'coordinator_timeout', 300, 'Seconds to wait for the others.', 1
)
_GRACE = flags.DEFINE_float(
  'grace', 0, 'Seconds to save in after SIGTERM or SIGINT; then it ends, and '
  'goes on from what was saved before. 0: as many as it takes.', 0,
)  # fmt: skip


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  if not flags.FLAGS['verbosity'].present:
    _hush()
  from sleep_jax.runs import loop
  from sleep_jax.runtime import processes

  stopped: list[int] = []
  try:
    processes.start(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value,
      timeout=_TIMEOUT.value,
    )  # fmt: skip
    # After jax, which listens for SIGTERM too.
    with signals.listen(stopped, _GRACE.value):
      _run(lambda: bool(stopped))
  except loop.Interrupted as reason:
    print(reason, file=sys.stderr)
    if _RESTORE_CYCLE.value is not None:
      print('Go on without --restore_cycle.', file=sys.stderr)
    # Another process may have been told.
    sys.exit(128 + (stopped or [signal.SIGTERM])[0])
  except (ValueError, OSError, ImportError) as error:
    command_line.exit_with_error(error)
  except RuntimeError as error:
    if not processes.is_distributed():
      raise
    if 'RESOURCE_EXHAUSTED' in str(error):
      command_line.exit_with_error(error)
    command_line.exit_with_error(
      ConnectionError(
        'This process cannot go on without the others: one of them was lost, '
        'or did not keep up. See their logs; the same command, for all of '
        f'them, goes on from what was saved last. ({str(error)[:200]})'
      )
    )

  except Exception:
    if not processes.is_distributed():
      raise
    # Those who are left would wait for us, and we for them.
    traceback.print_exc()
    processes.exit_now(1)


def _run(stop):
  import jax

  from sleep_jax.runs import study

  config = _CONFIG.value
  if config.compile_cache:
    jax.config.update('jax_compilation_cache_dir', config.compile_cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  study.Study(
    config, _WORKDIR.value, stop=stop, restore_cycle=_RESTORE_CYCLE.value,
    profile=_PROFILE.value,
  ).run()  # fmt: skip


def _hush():
  """Keeps others' tracebacks from drowning the message that follows them."""
  logging.set_verbosity(logging.FATAL)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.CRITICAL)
  # A night gives away what it does not keep: that is meant.
  warnings.filterwarnings('ignore', 'Some donated buffers were not usable')


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=command_line.parser())
