"""Finds strategies by the names that `config.strategies` gives.

A strategy is a module of `sleep_jax.strategies` that defines `NAME`. It also
defines `make(num_levels)`, which returns a `Strategy` or a tuple of them, each
of which is a run of its own. A new strategy is a new file: nothing has to be
registered.
"""

import functools
import importlib
import pkgutil
import types
from collections.abc import Mapping

from sleep_jax import errors, strategies
from sleep_jax.strategies import strategy

# Reports list these first; other strategies follow in alphabetical order.
_ORDER = ('sleep', 'hope', 'sft', 'er', 'lora', 'joint', 'seal')


def names() -> tuple[str, ...]:
  """Returns the names of all strategies, in the order of reports."""
  return tuple(_modules())


def make(name: str, *, num_levels: int) -> tuple[strategy.Strategy, ...]:
  """Returns the strategies that a name of `config.strategies` stands for.

  Args:
    name: one of `names()`.
    num_levels: number of the model's levels.

  Raises:
    ConfigError: there is no strategy of that name.
  """
  modules = _modules()
  if name not in modules:
    raise errors.ConfigError(
      f'Unknown strategy {name!r}: expected one of {tuple(modules)}.'
    )
  made = modules[name].make(num_levels)
  return made if isinstance(made, tuple) else (made,)


def settings() -> dict[str, type]:
  """Returns the class of the settings of each strategy that has its own.

  It is the class `Settings` of the module; `config.NAME` has its arguments.
  """
  return {
    name: module.Settings
    for name, module in _modules().items()
    if hasattr(module, 'Settings')
  }


def _modules() -> Mapping[str, types.ModuleType]:
  """Returns the module of each strategy, by name, in the order of reports.

  Raises:
    ConfigError: two modules have the same name.
  """
  return _modules_in(tuple(strategies.__path__))


@functools.cache  # Opening a study asks hundreds of times.
def _modules_in(paths: tuple[str, ...]) -> Mapping[str, types.ModuleType]:
  """Returns what `_modules` does, of the modules in some folders."""
  found: dict[str, types.ModuleType] = {}
  for entry in pkgutil.iter_modules(paths):
    module = importlib.import_module(f'{strategies.__name__}.{entry.name}')
    name = getattr(module, 'NAME', None)
    if name is None:  # A helper module.
      continue
    if name in found:
      raise errors.ConfigError(
        f'{module.__name__} and {found[name].__name__} both have NAME {name!r}:'
        ' give one of them another name.'
      )
    found[name] = module
  rank = lambda name: (
    _ORDER.index(name) if name in _ORDER else len(_ORDER),
    name,
  )
  return {name: found[name] for name in sorted(found, key=rank)}
