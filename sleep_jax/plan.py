"""Memory and time that a config needs on TPUs or on one GPU.

sleep-jax plan --config=scale:llama3-8b --topology=v5e:4x4
sleep-jax plan --config=gpu:llama3-1b --topology=gpu:8GB

Prints bytes per device by kind, awake and asleep; with libtpu, also the peak
that the TPU compiler reports; the shortest time per step, of a GPU also an
estimate; and which fields to change if it does not fit.
"""

import os
import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.planning import gpu, plan, text, tpu_topology
from sleep_jax.runs import command_line

# Before JAX is imported.
os.environ.update(tpu_topology.COMPILE_ONLY_ENV)
_CONFIG = command_line.define_config('What to plan.')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, "TPU chips: 'v5e:4x4', or several slices: '2*v5e:4x4'; or "
  "one GPU: 'gpu:24GB', 'gpu:rtx-4090'.",
)  # fmt: skip
_COMPILE = flags.DEFINE_list(
  'compile', [*plan.PROGRAMS], 'Programs that are compiled for their peak, if '
  'libtpu is installed; it takes minutes. Empty: none.',
)  # fmt: skip


def main(argv):
  del argv  # The parser refuses words that are no flags.
  try:
    topology = gpu.find(_TOPOLOGY.value)
    unknown = set(_COMPILE.value) - {*plan.PROGRAMS, ''}
    if unknown:
      raise errors.ConfigError(
        f'--compile: {sorted(unknown)} is not a program: expected some of '
        f'{plan.PROGRAMS}.'
      )
    unavailable = tpu_topology.unavailable_reason()
    if isinstance(topology, gpu.Gpu):
      unavailable = gpu.NOT_COMPILED
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
