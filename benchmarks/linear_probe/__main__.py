"""How much of `images` can a linear classifier of the pixels tell?

    python -m benchmarks.linear_probe --config=small/images [--out=FILE]

Fits ridge regression on one-hot labels in closed form, on all rows of
pretraining and of all days together, and scores the dataset's own questions
among all labels. A pixel is a one-hot vector of its grey level. The strength of
the penalty is the one that does best on these questions, which favours the
probe. So `days` stands beside ACC and `pretrain` beside the prior accuracy of a
run. Prints JSON, and writes it to --out.
"""

import json
import sys

from absl import app, flags

from benchmarks.linear_probe import probe
from sleep_jax import errors
from sleep_jax.runs import command_line
from sleep_jax.storage import workdir

_CONFIG = command_line.define_config(f'Of the study; default: {probe.DEFAULT}.')
_OUT = flags.DEFINE_string('out', '', 'File of the results.')


def main(argv):
  del argv
  command_line.suppress_library_warnings()
  try:
    found = probe.run(_CONFIG.value)
    if _OUT.value:
      workdir.write_json(workdir.path(_OUT.value), found)
    print(json.dumps(found, indent=1))
  except errors.SleepJaxError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  app.run(main, flags_parser=command_line.parser(probe.DEFAULT))
