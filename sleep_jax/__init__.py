"""Language models that learn while awake and consolidate it in sleep.

    import sleep_jax
    learner = sleep_jax.load('runs/smoke')

Imported lazily, so that `import sleep_jax` does not import JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from sleep_jax.api import Learner, load

__all__ = ['Learner', 'load']


def __getattr__(name: str) -> Any:
  if name in __all__:
    return getattr(importlib.import_module('sleep_jax.api'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
