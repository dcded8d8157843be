"""TODO: plan (from plan)."""

import os
import sys

from absl import app, flags

from sleep_jax.planning import plan, text, tpu_topology
from sleep_jax.runs import command_line

os.environ.update(tpu_topology.COMPILE_ONLY_ENV)  # Before JAX is imported, below.
_CONFIG = command_line.define_config('What to plan.')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, "Of which TPUs: 'v5e:4x4', or slices as '2*v5e:4x4'."
)
_COMPILE = flags.DEFINE_list(
  'compile', [*plan.PROGRAMS], "Whose peak the compiler is asked for, if there "
  "is 'libtpu'; it takes minutes. Empty: it is not asked.",
)  # fmt: skip


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  config = _CONFIG.value
  try:
    topology = tpu_topology.parse(_TOPOLOGY.value)
    unknown = set(_COMPILE.value) - {*plan.PROGRAMS, ''}
    if unknown:
      raise ValueError(
        f'--compile: {sorted(unknown)} is no program: expected some of '
        f'{plan.PROGRAMS}.'
      )
    ahead = () if tpu_topology.unavailable_reason() else tuple(_COMPILE.value)
    found = plan.plan(config, topology, ahead=ahead)
  except (ValueError, OSError, ImportError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  print(text.format_plan(found))
  if not ahead:
    print(f'Not compiled: {tpu_topology.unavailable_reason() or "--compile is empty"}.')
  sys.exit(bool(found['too_much']))


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'topology'])
  app.run(main, flags_parser=command_line.parser())
