"""TODO: runs.command_line (from main)."""

import re
import sys

from absl import app, logging
from ml_collections import config_flags


def define_config(default: str | None, purpose: str):
  """Defines the flag --config; returns its holder."""
  return config_flags.DEFINE_config_file(
    'config', default, f'{purpose} See configs/; fields can be overridden, '
    'for example --config.wake.steps=60.', lock_config=True,
  )  # fmt: skip


def parse(argv):
  """Parses flags; what is wrong with the config is said in our own words."""
  try:
    check_overrides(argv)
  except (ValueError, OSError) as error:
    exit_with_error(error)
  return app.parse_flags_with_usage(argv)


def check_overrides(argv):
  """Whether the config file and every --config.x.y are there."""
  path = re.search(r'^--?config[=\n]([^\n]+)', '\n'.join(argv), re.MULTILINE)
  if path is None:
    return  # The parser says so.
  from sleep_jax.config import files

  config = files.load(path[1])
  for argument in argv[1:]:
    name = re.match(r'--?config\.([^=]+)', argument)
    if name:
      files.find(config, name[1])


def exit_with_error(error):
  print(f'error: {error}', file=sys.stderr)
  if logging.level_debug():
    raise error
  if 'jax' in sys.modules:
    from sleep_jax.runtime import processes

    processes.leave(1)
  sys.exit(1)
