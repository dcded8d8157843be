"""Memory and time that a config needs on a TPU topology.

sleep-jax plan --config=scale:llama3-8b --topology=v5e:4x4

Prints bytes per device by kind, awake and asleep; with libtpu, also the peak
that the compiler reports; the shortest time per step; and which fields to
change if it does not fit.
"""

import os
import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.planning import plan, text, tpu_topology
from sleep_jax.runs import command_line

# Before JAX is imported.
os.environ.update(tpu_topology.COMPILE_ONLY_ENV)
_CONFIG = command_line.define_config('What to plan.')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, "TPU chips: 'v5e:4x4', or several slices: '2*v5e:4x4'."
)
_COMPILE = flags.DEFINE_list(
  'compile', [*plan.PROGRAMS], 'Programs that are compiled for their peak, if '
  'libtpu is installed; it takes minutes. Empty: none.',
)  # fmt: skip


def main(argv):
  del argv  # The parser refuses words that are no flags.
  try:
    topology = tpu_topology.parse(_TOPOLOGY.value)
    unknown = set(_COMPILE.value) - {*plan.PROGRAMS, ''}
    if unknown:
      raise errors.ConfigError(
        f'--compile: {sorted(unknown)} is not a program: expected some of '
        f'{plan.PROGRAMS}.'
      )
    unavailable = tpu_topology.unavailable_reason()
    to_compile = () if unavailable else tuple(_COMPILE.value)
    found = plan.plan(_CONFIG.value, topology, to_compile=to_compile)
  except (errors.SleepJaxError, ValueError, OSError, ImportError) as error:
    command_line.exit_with_error(error)
  print(text.format_plan(found))
  if not to_compile:
    print(f'Not compiled: {unavailable or "--compile is empty"}.')
  sys.exit(bool(found['too_much']))


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  flags.mark_flags_as_required(['config', 'topology'])
  app.run(main, flags_parser=command_line.parser())
