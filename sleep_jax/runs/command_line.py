"""Flags that all commands share: --config by name or path, and its overrides.

Everything that can be wrong with a config file or an override is checked before
absl parses the flags, so that the user reads one message and no traceback.
"""

import itertools
import logging as standard_logging
import math
import re
import sys
import warnings
from typing import NoReturn

from absl import flags, logging
from ml_collections import config_flags

from sleep_jax import errors
from sleep_jax.config import files

# What `config_flags` reads instead of sys.argv: there the path of the config
# stands in place of its name.
_ARGV: list[str] = []
_format_warning = warnings.formatwarning


def define_config(purpose: str):
  """Defines the flag --config; returns its holder."""
  return config_flags.DEFINE_config_file(
    'config', None, f'{purpose} A name (smoke) or a path (mine.py). Fields can '
    'be overridden: --config.wake.steps=60, '
    '--config.consolidate.teachers[0].draws=96 (entries count from 0).',
    lock_config=True, sys_argv=_ARGV,
  )  # fmt: skip


def parser(default: str | None = None, *, takes_words: bool = False):
  """Returns a `flags_parser` for `app.run`.

  Args:
    default: name of the config that is used where --config is not given.
    takes_words: whether the command takes words that are no flags.
  """

  def parse(argv: list[str]) -> list[str]:
    try:
      _ARGV[:] = _resolve_config(argv, default)
    except (errors.SleepJaxError, ValueError, OSError) as error:
      exit_with_error(error)
    with files.package_configs():
      try:
        rest = flags.FLAGS(list(_ARGV))
      except flags.Error as error:
        # A flag may be missing because its value stands alone.
        words = [] if takes_words else _words(_ARGV)
        message = _refuse(words) if words else _explain(str(error))
        exit_with_error(errors.UsageError(message))
      if rest[1:] and not takes_words:
        exit_with_error(errors.UsageError(_refuse(rest[1:])))
      _check_finite()
      return rest

  return parse


def _check_finite() -> None:
  """Refuses nan and inf, which bounds of absl let through."""
  for name in flags.FLAGS:
    value = flags.FLAGS[name].value
    if isinstance(value, float) and not math.isfinite(value):
      message = f'--{name} is {value}: expected a finite number.'
      exit_with_error(errors.UsageError(message))


def _words(argv: list[str]) -> list[str]:
  """Returns the words that are neither flags nor values of flags."""
  return [
    word
    for before, word in itertools.pairwise(argv)
    if not word.startswith('-')
    and ('=' in before or not before.startswith('-'))
  ]


def _refuse(words: list[str]) -> str:
  """Returns the message for words that a command would ignore."""
  word = words[0]
  is_config = word.endswith('.py') or word.partition(':')[0] in files.names()
  likely = f'did you mean --config={word}?' if is_config else (
    'values belong to a flag, as in --flag=VALUE; --help lists all flags.'
  )  # fmt: skip
  return f'Unexpected argument {word!r}: {likely}'


def _explain(message: str) -> str:
  """Returns what absl says of a flag, in the words of our other errors."""
  missing = re.match(r'flag --(\w+)=None: ', message)
  if missing:
    purpose = ' '.join(str(flags.FLAGS[missing[1]].help).split())
    return (
      f'--{missing[1]} is missing: {purpose.partition(".")[0]}. '
      '--help lists all flags.'
    )
  message = re.sub(
    r"invalid literal for int\(\) with base 10: ('.*')",
    r'\1 is not a whole number', message,
  )  # fmt: skip
  message = re.sub(
    r"could not convert string to float: ('.*')", r'\1 is not a number', message
  )
  return (
    f'{message.removeprefix("flag ").rstrip("? .")}. --help lists all flags.'
  )


def _format(message, category, *where, **options) -> str:
  """Formats a warning of this package as one line, without its place."""
  if issubclass(category, errors.SleepJaxError):
    return f'warning: {message}\n'
  return _format_warning(message, category, *where, **options)


# Only commands import this module.
warnings.formatwarning = _format


def exit_with_error(error: Exception) -> NoReturn:
  """Prints an error as one message and exits with status 1.

  Raises:
    Exception: `error` itself, with its traceback, at --verbosity=1.
  """
  print(f'error: {error}', file=sys.stderr)
  if logging.level_debug():
    raise error
  if 'jax' in sys.modules:
    from sleep_jax.runtime import processes

    processes.exit_now(1)
  sys.exit(1)


def show_errors_only() -> None:
  """Hides all log messages but errors, unless --verbosity is given."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)


def suppress_library_warnings() -> None:
  """Silences warnings and tracebacks that would hide our own messages."""
  logging.set_verbosity(logging.FATAL)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.CRITICAL)
  for message in (
    # A night donates the buffers of what it replaces; some are not reused.
    'Some donated buffers were not usable',
    # When a disk is full, Orbax leaves other writes of a checkpoint unfinished.
    'coroutine .* was never awaited',
  ):
    warnings.filterwarnings('ignore', message)
  show = sys.unraisablehook

  def show_ours(unraisable):
    # tensorstore reports the unfinished writes here, one by one.
    if str(unraisable.exc_value) != 'Event loop is closed':
      show(unraisable)

  sys.unraisablehook = show_ours


def _resolve_config(argv: list[str], default: str | None) -> list[str]:
  """Replaces a config's name by its path; checks that overrides exist."""
  argv = list(argv)
  given = [
    n for n, word in enumerate(argv) if re.match(r'--?config(=|$)', word)
  ]
  if not given:
    if default is None:
      for word in argv[1:]:
        if re.match(r'--?config\.', word):
          raise errors.UsageError(
            f'{word} changes a field of a config, and --config is missing: '
            'name the config too, as in --config=chat.'
          )
      return argv  # absl reports that the flag is missing.
    argv.insert(1, f'--config={default}')
    given = [1]
  if len(given) > 1:
    found = ' and '.join(argv[n] for n in given)
    raise errors.ConfigError(
      f'Found {found}: the overrides would belong to one of them only. Give '
      '--config once.'
    )
  (place,) = given
  if '=' not in argv[place]:
    value = argv[place + 1 : place + 2]
    if not value or value[0].startswith('-'):
      raise errors.UsageError('--config needs a value, as in --config=smoke.')
    argv[place : place + 2] = ['='.join(argv[place : place + 2])]
  name = argv[place].partition('=')[2]
  argv[place] = f'--config={files.resolve(name)}'
  config = files.load(name)
  for section in files.load('base'):
    if section not in config and section not in files.OPTIONAL_SECTIONS:
      raise errors.ConfigError(
        f'config.{section} is missing in {name}: set it, or start from '
        'configs/base.py.'
      )
  for word in argv[1:]:
    override = re.match(r'--?config\.([^=]+)', word)
    if override:
      files.find(config, override[1])
  return argv
