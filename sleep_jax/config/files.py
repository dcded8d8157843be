"""TODO: config.files (from settings)."""

import difflib
import pathlib
import re
import runpy
from typing import Any


def load(path: str) -> Any:
  """The config of a file, before any override.

  Args:
    path: of the file; after a colon, if there is one, its argument.

  Raises:
    FileNotFoundError: there is no such file; lists those beside it.
  """
  path, *argument = path.split(':', 1)
  file = pathlib.Path(path)
  if not file.is_file():
    beside = ', '.join(sorted(p.name for p in file.parent.glob('*.py')))
    raise FileNotFoundError(
      f'--config={path}: there is no such file. In {file.parent} there are: '
      f'{beside or "no configs"}.'
    )
  return runpy.run_path(path)['get_config'](*argument)


def find(config: Any, name: str) -> Any:
  """What stands at a dotted name such as `levels[0].slots`.

  Raises:
    ValueError: it names nothing; says the nearest name that is known.
  """
  here, place = config, 'config'
  for part in re.findall(r'[^.\[\]]+|\[\d+\]', name):
    if part.startswith('['):
      number = int(part[1:-1])
      if not isinstance(here, (list, tuple)):
        raise ValueError(f'{place} is no list: {place}{part} is nothing.')
      if number >= len(here):
        raise ValueError(f'{place} has {len(here)} entries, from [0].')
      here, place = here[number], place + part
      continue
    if not hasattr(here, 'keys'):
      raise ValueError(f'{place} is {here!r}: it has no key {part!r}.')
    if part not in here:
      raise ValueError(unknown_key(place, part, here.keys()))
    here, place = here[part], f'{place}.{part}'
  return here


def unknown_key(place, key, known):
  near = difflib.get_close_matches(key, list(known), 1, 0.0)
  hint = f'the nearest that is known is {place}.{near[0]}' if near else (
    'nothing can be set there'
  )  # fmt: skip
  return f'{place}.{key} is no key of a config: {hint}.'
