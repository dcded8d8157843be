"""Finds config files by name or path, loads them, and resolves dotted names.

The configs of this package are the top-level `configs/` of the repository; an
installed package has them as `sleep_jax/configs`. A config file may say
`from configs import base`: while it runs, `configs` is this package's folder,
whatever else is named so in the current folder or on the path.
"""

import contextlib
import difflib
import inspect
import pathlib
import re
import runpy
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from typing import Any

from sleep_jax import errors

# Keys of version 0.1 and what they are called now.
RENAMED = {
  'birth': 'pretrain',
  'host': 'base_model',
  'world': 'dataset',
  'stems': 'templates',
  'tether': 'kl_penalty',
  'stem_share': 'template_share',
  'birth_share': 'pretrain_share',
  'block_words': 'block_vocab',
  'num_birth': 'num_pretrain',
  'birth_classes': 'pretrain_classes',
}
# Keys that configs of earlier versions have, such as the config.py of a run
# that has grown.
_REMOVED = ('router_spread', 'average_decay')
# Top-level sections that a config need not have.
OPTIONAL_SECTIONS = ('ability', 'compare', 'questions')
_FOLDERS = ('compare/', 'paper/', 'small/')  # Of configs; part of their names.
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def folder() -> pathlib.Path:
  """Returns the folder that holds the configs of this package."""
  installed = _PACKAGE / 'configs'
  return installed if installed.is_dir() else _PACKAGE.parent / 'configs'


def names() -> list[str]:
  """Returns the names that `--config` accepts, sorted."""
  return sorted(
    p.relative_to(folder()).with_suffix('').as_posix()
    for inner in ('', *_FOLDERS)
    for p in folder().glob(f'{inner}*.py')
    if p.stem != '__init__'
  )


def resolve(name: str) -> str:
  """Returns the path of a config file, with its argument if it has one.

  Args:
    name: name of a config ('smoke', 'small/agent'), or path of a file
      ('mine.py', 'studies/mine.py'); either with ':ARGUMENT' for `get_config`.

  Raises:
    MissingFileError: there is no such config; names the nearest one and all.
  """
  name, colon, argument = name.partition(':')
  by_path = name.endswith('.py') or (
    not name.startswith(_FOLDERS) and ('/' in name or '\\' in name)
  )
  path = pathlib.Path(name) if by_path else folder() / f'{name}.py'
  if path.is_file():
    return f'{path}{colon}{argument}'
  if not by_path:
    raise errors.MissingFileError(
      f'--config={name}: no config has this name{_nearest(name, names())}. '
      f'Known names: {", ".join(names())}. A path to a file of your own ends '
      'in .py.'
    )
  if path.is_dir():
    raise errors.MissingFileError(
      f'--config={name} is a folder: name a file that ends in .py.'
    )
  others = sorted(p.name for p in path.parent.glob('*.py'))
  message = f'--config={name}: this file does not exist'
  message += f'{_nearest(path.name, others)}.'
  if others:
    message += f' {path.parent.resolve()} contains: {", ".join(others)}.'
  if path.stem in names():
    message += f' To use the config of this package: --config={path.stem}.'
  raise errors.MissingFileError(message)


def load(name: str) -> Any:
  """Returns the config of a file, before any override.

  Args:
    name: see `resolve`.

  Raises:
    MissingFileError: see `resolve`.
    ConfigError: the file defines no `get_config`, or has a fault; names its
      line.
  """
  path, *argument = resolve(name).split(':', 1)
  with package_configs(), _explained(path):
    defined = runpy.run_path(path)
    if 'get_config' not in defined:
      raise errors.ConfigError(
        f'{path} defines no function get_config: a config file must define '
        'get_config() and return a ConfigDict, as configs/smoke.py does.'
      )
    get_config = defined['get_config']
    if argument and not inspect.signature(get_config).parameters:
      raise errors.ConfigError(
        f'--config={name}: {path} takes no argument; leave out :{argument[0]}.'
      )
    config = get_config(*argument)
  if not hasattr(config, 'to_dict'):
    raise errors.ConfigError(
      f'{path}: get_config() returned {config!r}: expected a ConfigDict, as '
      'configs/smoke.py returns.'
    )
  return config


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
  """Names the line of a config file in which an error was raised.

  Values that a config of this package refuses have messages of their own.
  """
  try:
    yield
  except errors.SleepJaxError:
    raise
  except Exception as error:
    is_ours = pathlib.Path(path).resolve().is_relative_to(folder())
    if is_ours and isinstance(error, ValueError):
      raise
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == path
    ]
    if isinstance(error, SyntaxError) and error.filename == path:
      lines.append(error.lineno)
    line = f':{lines[-1]}' if lines else ''
    what = f'{type(error).__name__}: {error}'
    raise errors.ConfigError(
      f'{path}{line}: {what}. Correct the config file.'
    ) from error


@contextlib.contextmanager
def package_configs() -> Iterator[None]:
  """Makes `import configs` find this package's configs, and nothing else."""

  def take_out() -> dict[str, types.ModuleType]:
    mine = [n for n in sys.modules if n.split('.')[0] == 'configs']
    return {name: sys.modules.pop(name) for name in mine}

  before = take_out()
  package = types.ModuleType('configs')
  package.__path__ = [str(folder())]
  sys.modules['configs'] = package
  try:
    yield
  finally:
    take_out()
    sys.modules.update(before)


def find(config: Any, name: str) -> Any:
  """Returns the value at a dotted name such as `levels[0].slots`.

  Entries of tuples are counted from 0, in overrides and in errors alike.

  Raises:
    ConfigError: nothing has this name; says what the place holds instead.
  """
  value, place = config, 'config'
  for part in re.findall(r'[^.\[\]]+|\[[^\]]*\]', name):
    if part.startswith('['):
      value = _entry(value, part, place)
      place += part
      continue
    if not hasattr(value, 'keys'):
      raise errors.ConfigError(f'{place} is {value!r}: it has no key {part!r}.')
    if part not in value:
      raise errors.ConfigError(_missing_key(place, part, value.keys()))
    value, place = value[part], f'{place}.{part}'
  return value


def unknown_key(place: str, key: str, known: Iterable[str]) -> str:
  """Returns the message for a key that is not part of a config."""
  known = list(known)
  new = RENAMED.get(key)
  if new in known:
    return f'{place}.{key} was renamed: use {place}.{new}.'
  if key in _REMOVED:
    return f'{place}.{key} was removed after revision a95966f: leave it out.'
  near = difflib.get_close_matches(key, known, 1, 0.0)
  hint = f'the nearest known key is {place}.{near[0]}' if near else (
    'the config file sets nothing there; set all of it at once, as in '
    f'--{place}="{{{key!r}: ...}}", or in a config file of your own'
  )  # fmt: skip
  return f'{place}.{key} is not a key of a config: {hint}.'


def _entry(value: Any, part: str, place: str) -> Any:
  """Returns the entry of a tuple that `part`, such as '[1]', names."""
  if not isinstance(value, (list, tuple)):
    raise errors.ConfigError(
      f'{place} is {value!r}: it has no entries, so that {place}{part} names '
      'nothing.'
    )
  number = part[1:-1]
  if number.isdigit() and int(number) < len(value):
    return value[int(number)]
  allowed = f'[0] to [{len(value) - 1}]' if value else 'none'
  raise errors.ConfigError(
    f'{place}{part} does not exist: {place} has {len(value)} entries, counted '
    f'from 0. Allowed: {allowed}.'
  )


def _missing_key(place: str, key: str, keys: Iterable[str]) -> str:
  keys = list(keys)
  misspelled = difflib.get_close_matches(key, keys, 1, 0.8)
  if place.endswith(']') and RENAMED.get(key) not in keys and not misspelled:
    # An entry holds only what it sets: a known key may be missing.
    return (
      f'{place}.{key} is not set in the config file, and an override can only '
      f'change what is set there ({", ".join(keys)}). Check the spelling, or '
      'set it in a config file of your own.'
    )
  return unknown_key(place, key, keys)


def _nearest(name: str, known: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, list(known), 1)
  return f'; the nearest is {near[0]}' if near else ''
