"""Entry: python -m sleep_jax.main --config=configs/smoke.py --workdir=x."""

import contextlib
import logging as standard_logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings

from absl import app, flags, logging
from ml_collections import config_flags

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
_SAVING = '\nstopping: the moment is saved first'
_LATE = (
  'ended: not saved within --grace={:g} seconds; the same command goes on from '
  'what was saved before'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  if not flags.FLAGS['verbosity'].present:
    _hush()
  from sleep_jax import lifecycle, processes

  stopped: list[int] = []
  try:
    processes.start(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value,
      timeout=_TIMEOUT.value,
    )  # fmt: skip
    # After jax, which listens for SIGTERM too.
    with _listening(stopped, _GRACE.value):
      _run(lambda: bool(stopped))
  except lifecycle.Interrupted as reason:
    print(reason, file=sys.stderr)
    if _RESTORE_CYCLE.value is not None:
      print('Go on without --restore_cycle.', file=sys.stderr)
    # Another process may have been told.
    sys.exit(128 + (stopped or [signal.SIGTERM])[0])
  except (ValueError, OSError, ImportError) as error:
    _fail(error)
  except RuntimeError as error:
    if not processes.joined():
      raise
    if 'RESOURCE_EXHAUSTED' in str(error):
      _fail(error)
    _fail(
      ConnectionError(
        'This process cannot go on without the others: one of them was lost, '
        'or did not keep up. See their logs; the same command, for all of '
        f'them, goes on from what was saved last. ({str(error)[:200]})'
      )
    )

  except Exception:
    if not processes.joined():
      raise
    # Those who are left would wait for us, and we for them.
    traceback.print_exc()
    processes.leave(1)


@contextlib.contextmanager
def _listening(stopped, grace):
  """Notes signals that ask us to stop; ends us if that takes too long.

  Python's own handlers wait for the compiler and for devices. A thread does
  not.
  """
  told, tell = os.pipe()
  os.set_blocking(tell, False)

  def watch():
    while number := os.read(told, 1):
      print(_SAVING, file=sys.stderr, flush=True)
      if grace and not stopped:
        timer = threading.Timer(grace, end, [number[0]])
        timer.daemon = True
        timer.start()
      stopped.append(number[0])
    os.close(told)

  def end(number):
    print(_LATE.format(grace), file=sys.stderr, flush=True)
    os._exit(128 + number)

  before = signal.set_wakeup_fd(tell)
  handlers = {
    number: signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  threading.Thread(target=watch, daemon=True).start()
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(before)
    os.close(tell)  # Which ends the thread.


def parse(argv):
  """Parses flags; what is wrong with the config is said in our own words."""
  try:
    _check_overrides(argv)
  except (ValueError, OSError) as error:
    _fail(error)
  return app.parse_flags_with_usage(argv)


def _run(stop):
  import jax

  from sleep_jax import study

  config = _CONFIG.value
  if config.compile_cache:
    jax.config.update('jax_compilation_cache_dir', config.compile_cache)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
  study.Study(
    config, _WORKDIR.value, stop=stop, restore_cycle=_RESTORE_CYCLE.value,
    profile=_PROFILE.value,
  ).run()  # fmt: skip


def _check_overrides(argv):
  """Whether the config file and every --config.x.y are there."""
  path = re.search(r'^--?config[=\n]([^\n]+)', '\n'.join(argv), re.MULTILINE)
  if path is None:
    return  # The parser says so.
  from sleep_jax import settings

  config = settings.load(path[1])
  for argument in argv[1:]:
    name = re.match(r'--?config\.([^=]+)', argument)
    if name:
      settings.find(config, name[1])


def _hush():
  """Keeps others' tracebacks from drowning the message that follows them."""
  logging.set_verbosity(logging.FATAL)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.CRITICAL)
  # A night gives away what it does not keep: that is meant.
  warnings.filterwarnings('ignore', 'Some donated buffers were not usable')


def _fail(error):
  print(f'error: {error}', file=sys.stderr)
  if logging.level_debug():
    raise error
  if 'jax' in sys.modules:
    from sleep_jax import processes

    processes.leave(1)
  sys.exit(1)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=parse)
