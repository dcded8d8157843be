"""Teaches a learner three days, in a process of its own.

The same command continues: days that the learner has are not taught again.
"""

import sys

from absl import app, flags

from benchmarks.fault_cases import scenarios
from benchmarks.fault_cases.configs import talk
from sleep_jax import api, errors
from sleep_jax.runs import command_line

_MODEL = flags.DEFINE_string('model', None, 'Pretrained model.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the session.')


def main(argv):
  del argv
  command_line.suppress_library_warnings()  # As the commands do.
  try:
    _teach()
  except errors.SleepJaxError as error:
    sys.exit(f'error: {error}')


def _teach():
  learner = api.load(_MODEL.value, _WORKDIR.value, config=talk.get_config())
  for number, rows in enumerate(scenarios.DAYS.values()):
    if number >= len(learner.session.days):
      learner.wake(rows)
    if learner.session.needs_night():
      learner.sleep()
  print(learner.answer('Ann has a', max_new=8))


if __name__ == '__main__':
  sys.exit(app.run(main))
