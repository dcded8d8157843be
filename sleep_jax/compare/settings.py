"""Derives the config of each part of a comparison, and the key of its results.

A key is a hash of every value that the numbers of a unit depend on, and of the
content of its data. Which strategies, seeds and orders are compared, where the
data is on this machine, and how checkpoints are kept, is not part of it.
"""

import copy
import glob
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.compare import units
from sleep_jax.runs import compatibility
from sleep_jax.storage import workdir

SECTION = 'compare'
_PLACES = ('data.path', 'pretrain.restore')
# A run may go on with others; two units that are compared may not differ.
_OF_DATA = ('extra_days', 'growing', 'too_long')
_SECTIONS = ('questions',)


def options(plain: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the section `compare` of a config, with all its values.

  Args:
    plain: the config, as JSON returns it.

  Raises:
    ConfigError: seeds, orders or strategies are missing or repeated.
  """
  found = {'orders': [0], 'memory_gib': 0.0} | dict(plain.get(SECTION) or {})
  for name, values in (
    ('seeds', plain['seeds']),
    ('strategies', plain['strategies']),
    (f'{SECTION}.orders', found['orders']),
  ):
    if not values or len(set(values)) < len(values):
      raise errors.ConfigError(
        f'config.{name} is {tuple(values)!r}: expected one or more different '
        'values.'
      )
  return found


def of_study(
  plain: Mapping[str, Any],
  *,
  seed: int,
  strategy: str,
  order: int = 0,
  restore: str = '',
) -> dict[str, Any]:
  """Returns the config of the study that runs one unit or prepares it.

  Args:
    plain: config of the comparison.
    seed, strategy, order: of the unit.
    restore: work directory with the initial model; '' leaves it as it is.
  """
  config = copy.deepcopy({k: v for k, v in plain.items() if k != SECTION})
  config['seeds'], config['strategies'] = [seed], [strategy]
  if order:
    config['data']['order'] = order
  if restore:
    config['pretrain']['restore'] = restore
  return config


def shares_initial_model(plain: Mapping[str, Any]) -> bool:
  """Whether the comparison itself makes the initial model of each seed.

  A base model, or that of another run, is read by each unit.
  """
  pretrain = plain['pretrain']
  return not pretrain['restore'] and not pretrain['base_model']


def data_digest(plain: Mapping[str, Any]) -> str:
  """Returns a hash of the names and bytes of the files of `data.path`.

  It is '' for generated data, and if there are no files: reading them says so.

  Args:
    plain: config of the comparison.
  """
  path = plain['data'].get('path', '')
  files: list[tuple[str, pathlib.Path]] = []
  for name in [path] if os.path.exists(path) else sorted(glob.glob(path)):
    root = pathlib.Path(name)
    if root.is_file():
      files.append((root.name, root))
    else:
      found = [file for file in sorted(root.rglob('*')) if file.is_file()]
      files += [(str(file.relative_to(root)), file) for file in found]
  made = hashlib.sha256()
  for name, file in files:
    with file.open('rb') as opened:  # It may be larger than the memory.
      content = hashlib.file_digest(opened, 'sha256').hexdigest()
    made.update(f'{name} {content}\n'.encode())
  return made.hexdigest()[:10] if files else ''


def dependent(
  plain: Mapping[str, Any], unit: units.Unit, *, tuned: bool, data: str = ''
) -> dict[str, Any]:
  """Returns the values that the numbers of a unit depend on.

  Args:
    plain: config of the comparison.
    unit: whose numbers they are.
    tuned: whether its learning rate is tuned, which is done with the first
      seed.
    data: see `data_digest`.
  """
  config = of_study(
    plain, seed=unit.seed, strategy=unit.strategy, order=unit.order
  )
  found = compatibility.kept(config, pretraining=False, section=unit.strategy)
  if not plain['pretrain']['restore']:
    found = workdir.without(found, _PLACES)
  found = workdir.without(found, _PLACES[:1])
  found['data'] |= {name: plain['data'].get(name) for name in _OF_DATA}
  if data:
    found['data']['files'] = data
  found |= {name: plain[name] for name in _SECTIONS if name in plain}
  if tuned:
    found['tuned_with_seed'] = plain['seeds'][0]
  return found


def key(values: Any) -> str:
  """Returns a short hash of values that JSON can express."""
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def pretrained_with(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values that an initial model depends on.

  Args:
    config: of one study, with its seed.
  """
  found = compatibility.kept(config, pretraining=True)
  return workdir.without(found, _PLACES) | {'seeds': config['seeds']}
