"""The console command `sleep-jax COMMAND [flags]`.

Each command is a module that also runs as `python -m sleep_jax.MODULE`.
"""

import difflib
import runpy
import sys

# Command -> (module, what it does).
COMMANDS = {
  'run': ('main', 'Run a study: strategies and seeds of one config.'),
  'compare': ('compare.__main__', 'Compare strategies over seeds and orders.'),
  'chat': ('chat', 'Talk to a model that learns overnight what was said.'),
  'generate': ('generate', 'Continue prompts with a run or a checkpoint.'),
  'check-data': ('runs.check_data', 'Read data and list all its faults.'),
  'convert': ('convert', 'Inspect, import, export and grow checkpoints.'),
  'trace': ('runs.trace', 'List what a work directory holds of a text.'),
  'plan': ('plan', 'Memory and time that a config needs on TPUs or a GPU.'),
}
_USAGE = 'usage: sleep-jax COMMAND [flags]; sleep-jax COMMAND --help\n\n'


def main() -> None:
  """Runs the command that the first argument names; exits 2 if there is none.

  The module runs as `__main__`, so that --help shows its text and its flags.
  """
  name = sys.argv[1] if len(sys.argv) > 1 else '--help'
  if name in ('-h', '--help', 'help'):
    print(_usage(), end='')
    sys.exit(0 if len(sys.argv) > 1 else 2)
  if name not in COMMANDS:
    near = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f' The nearest is {near[0]}.' if near else ''
    print(
      f'error: {name} is not a command of sleep-jax.{hint}\n\n{_usage()}',
      end='', file=sys.stderr,
    )  # fmt: skip
    sys.exit(2)
  del sys.argv[1]
  runpy.run_module(
    f'sleep_jax.{COMMANDS[name][0]}', run_name='__main__', alter_sys=True
  )


def _usage() -> str:
  rows = [f'  {name:<12}{text}\n' for name, (_, text) in COMMANDS.items()]
  return _USAGE + ''.join(rows)


if __name__ == '__main__':
  main()
