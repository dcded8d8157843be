"""Run a study: strategies and seeds of one config, in one work directory.

sleep-jax run --config=smoke --workdir=runs/smoke

The same command continues a study that was interrupted.
"""

import signal
import sys
import traceback

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line
from sleep_jax.runtime import signals

_CONFIG = command_line.define_config('What to run.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of all results; an existing one is continued.'
)
_RESTORE_CYCLE = flags.DEFINE_integer(
  'restore_cycle', None, 'Go back to the end of this cycle and continue there; '
  'later cycles are deleted.', lower_bound=1,
)  # fmt: skip
_ACCEPT = flags.DEFINE_bool(
  'accept_changed_days', False, 'Continue although days that were learned have '
  'changed or are missing; what was learned of them stays.',
)  # fmt: skip
_ACCEPT_RATES = flags.DEFINE_bool(
  'accept_changed_rates', False, 'Continue with learning rates, warm-ups or '
  'clips other than those of the work directory, from the last checkpoint on.',
)  # fmt: skip
_WATCH = flags.DEFINE_string(
  'watch', '', 'Folder in which each new file is a day, followed by its nights.'
)
_WATCH_EVERY = flags.DEFINE_float(
  'watch_every', 30, 'Seconds between two looks at --watch; 0: one look.', 0
)
_PROFILE = flags.DEFINE_integer(
  'profile', 0, 'Number of wake steps, and of rounds of a night, to trace into '
  'profile/ of the work directory; view the traces with xprof or Perfetto.', 0,
)  # fmt: skip
_COORDINATOR = flags.DEFINE_string(
  'coordinator', '', 'With several processes: HOST:PORT of the first, or auto '
  '(TPU pods, Slurm). Or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and '
  'JAX_PROCESS_ID.',
)  # fmt: skip
_PROCESSES = flags.DEFINE_integer('processes', None, 'Number of processes.', 1)
_PROCESS = flags.DEFINE_integer(
  'process', None, 'Index of this process, from 0.', 0
)
_TIMEOUT = flags.DEFINE_integer(
  'coordinator_timeout', 300, 'Seconds to wait for the other processes.', 1
)
_GRACE = flags.DEFINE_float(
  'grace', 0, 'Maximum seconds to save after SIGTERM or SIGINT. Then the '
  'process ends, and the next start continues from the last checkpoint. 0: no '
  'limit.', 0,
)  # fmt: skip


def main(argv):
  del argv  # The parser refuses words that are no flags.
  if not flags.FLAGS['verbosity'].present:
    command_line.suppress_library_warnings()
  # Until `signals.listen` there is nothing to save: SIGINT ends the process.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  from sleep_jax.runs import context
  from sleep_jax.runtime import processes

  stopped: list[int] = []
  try:
    processes.start(
      _COORDINATOR.value, _PROCESSES.value, _PROCESS.value,
      timeout=_TIMEOUT.value,
    )  # fmt: skip
    # After JAX has started, which handles SIGTERM too.
    with signals.listen(stopped, _GRACE.value):
      _run(lambda: bool(stopped))
  except context.Interrupted as reason:
    print(reason, file=sys.stderr)
    if _RESTORE_CYCLE.value is not None:
      print('Continue without --restore_cycle.', file=sys.stderr)
    # The signal may have reached another process only.
    sys.exit(128 + (stopped or [signal.SIGTERM])[0])
  except (errors.SleepJaxError, ValueError, OSError, ImportError) as error:
    command_line.exit_with_error(error)
  except MemoryError as error:
    command_line.exit_with_error(_out_of_memory(error))
  except RuntimeError as error:
    if 'RESOURCE_EXHAUSTED' in str(error):
      command_line.exit_with_error(_out_of_memory(error))
    if not processes.is_distributed():
      raise
    command_line.exit_with_error(
      errors.LostProcessError(
        'This process cannot continue without the others: one of them was '
        'lost, or did not answer in time. See their logs; the same command, '
        'for all of them, continues from what was saved last. '
        f'({str(error)[:200]})'
      )
    )
  except Exception:
    if not processes.is_distributed():
      raise
    # The other processes would wait for this one, and this one for them.
    traceback.print_exc()
    processes.exit_now(1)


def _out_of_memory(error: Exception) -> errors.OutOfMemoryError:
  return errors.OutOfMemoryError(
    'The memory of a device or of this machine is full. Lower '
    'config.data.batch_size, .context or config.consolidate.teachers[*].draws, '
    'raise config.wake.micro_batches and config.consolidate.micro_batches, or '
    "set config.model.remat='full'; sleep-jax plan says what a config needs. "
    f'Then the same command continues. ({str(error)[:300]})'
  )


def _run(stop):
  from sleep_jax.datasets import jsonl
  from sleep_jax.report import report
  from sleep_jax.runs import study, watching
  from sleep_jax.runtime import host_memory, processes
  from sleep_jax.storage import compile_cache, workdir

  config = _CONFIG.value
  host_memory.configure(keep_freed_blocks=not config.pretrain.base_model)
  compile_cache.start(config.compile_cache)

  cycles = [_RESTORE_CYCLE.value]  # Files that come later must not go back too.

  def learn(days=None):
    made = study.Study(
      config, _WORKDIR.value, stop=stop,
      restore_cycle=cycles.pop() if cycles else None,
      profile=_PROFILE.value, accept_changed_days=_ACCEPT.value,
      accept_changed_rates=_ACCEPT_RATES.value, days=days,
    )  # fmt: skip
    runs = made.run()
    if processes.is_first():
      print(report.table(runs), flush=True)
      print(f'report: {_WORKDIR.value.rstrip("/")}/report.html', flush=True)

  if not _WATCH.value:
    return learn()
  record = workdir.path(_WORKDIR.value) / watching.FILE
  other = [
    file for name in ('probes', 'pretrain')
    if (part := config.data.settings.get(name))
    for file in jsonl.find_files(part)
  ]  # fmt: skip
  watch = watching.Watch(_WATCH.value, record, learn, other=other)
  watch.run(_WATCH_EVERY.value, stop)


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=command_line.parser())
