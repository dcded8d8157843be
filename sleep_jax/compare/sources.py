"""The revision of the source files that a unit runs, as one hash.

A git revision changes with every note in the documentation. The hash changes
with the modules that a unit imports, and with nothing else: not with other
strategies, and not with the page of the comparison. Pages and tables of a
study (`report`) are imported too, and left out, because no number depends on
them.
"""

import ast
import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Iterable, Mapping

from sleep_jax import errors

PACKAGE = 'sleep_jax'
# What a unit runs; strategies are found by their names.
ENTRY = f'{PACKAGE}.runs.study'
_LEFT_OUT = (f'{PACKAGE}.report',)


def revision(strategy: str | None = None) -> str:
  """Returns a short hash of the modules that a unit of a strategy runs.

  Args:
    strategy: name of its module in `strategies`; None: of the initial model.
  """
  sources = read(pathlib.Path(importlib.util.find_spec(PACKAGE).origin).parent)
  entries = [ENTRY]
  if strategy is not None:
    entries.append(module_of(strategy, sources))
  found = hashlib.sha256()
  for module in sorted(closure(entries, sources)):
    found.update(f'{module}\n{sources[module]}\n'.encode())
  return found.hexdigest()[:10]


def module_of(strategy: str, sources: Mapping[str, str]) -> str:
  """Returns the module that defines a strategy: the one with its NAME.

  Args:
    strategy: as `config.strategies` names it.
    sources: module -> its text.

  Raises:
    ConfigError: no module defines it.
  """
  package = f'{PACKAGE}.strategies.'
  for module, source in sources.items():
    if module.startswith(package) and _parse(source)[1] == strategy:
      return module
  raise errors.ConfigError(
    f'Strategy {strategy!r}: no module of {package[:-1]} has the line '
    f"NAME = '{strategy}': write it as a constant."
  )


def read(package: pathlib.Path) -> dict[str, str]:
  """Returns module -> text of all modules in the folder of a package."""
  found = {}
  for path in sorted(package.rglob('*.py')):
    parts = (package.name, *path.relative_to(package).with_suffix('').parts)
    name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
    found[name] = path.read_text(encoding='utf-8')
  return found


def closure(entries: Iterable[str], sources: Mapping[str, str]) -> set[str]:
  """Returns the modules that some modules import, and these themselves.

  Args:
    entries: where to begin.
    sources: module -> its text, of one package.
  """
  found: set[str] = set()
  ahead = [*entries]
  while ahead:
    module = ahead.pop()
    if module in found or module.startswith(_LEFT_OUT):
      continue
    found.add(module)
    ahead += _imports(sources[module], sources)
  return found


def _imports(source: str, sources: Mapping[str, str]) -> set[str]:
  """Returns the modules of the package that a source imports, anywhere."""
  found = set()
  for module, name in _parse(source)[0]:
    full = f'{module}.{name}'
    found.add(full if full in sources else module)
  return {name for name in found if name in sources}


@functools.cache
def _parse(source: str) -> tuple[tuple[tuple[str, str], ...], str]:
  """Returns (module, name) of each import, and the value of NAME or ''."""
  imported, defined = [], ''
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      imported += [(alias.name, '') for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      imported += [(node.module, alias.name) for alias in node.names]
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
      if [ast.unparse(target) for target in node.targets] == ['NAME']:
        defined = str(node.value.value)
  return tuple(imported), defined
