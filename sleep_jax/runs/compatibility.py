"""Which parts of a config must be equal to continue or reuse a run."""

from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.model import config as config_lib
from sleep_jax.storage import workdir

# Keys that may differ between two parts of one run. A day that was learned has
# no row that is too long, or is refused unless 'skip' stays.
FREE = (
  'strategies', 'seeds', 'checkpoint', 'writers', 'compile_cache', 'mesh',
  'data.extra_days', 'data.growing', 'data.too_long',
)  # fmt: skip
# What an initial model depends on.
_PRETRAINED_WITH = (
  'data', 'tokenizer', 'model', 'levels', 'pretrain', 'replay'
)  # fmt: skip
# What must be equal to use the initial model of another run: shapes of arrays,
# and how they are read,
_MUST_FIT = ('model', 'levels', 'replay.pretrain', 'data.max_prompt')
# except how experts are chosen (an initial model has no active ones), how
# programs are compiled, and when levels are updated.
_MAY_DIFFER = (
  'router', 'router_spread', 'top_k', 'gate_bias', *config_lib.EXECUTION_FIELDS,
  'update_period', 'sleep_period', 'context_sleep_period',
)  # fmt: skip


def bound(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the part of a config that a work directory is bound to.

  Args:
    config: resolved, as JSON returns it.
  """
  found = workdir.without(config, FREE)
  # Work directories of earlier versions have no `epochs`: days are in steps.
  if not found.get('wake', {}).get('epochs'):
    found = workdir.without(found, ('wake.epochs',))
  return found


def kept(config: Mapping[str, Any], *, pretraining: bool) -> dict[str, Any]:
  """Returns the part of a config that a checkpoint depends on.

  Args:
    config: resolved, as JSON returns it.
    pretraining: whether the checkpoint is of pretraining.
  """
  found = bound(config)
  if not pretraining:
    return found
  found = {k: found[k] for k in _PRETRAINED_WITH}
  found['pretrain'] = {
    k: v for k, v in found['pretrain'].items() if k != 'restore'
  }
  return found


def check_fits(home: workdir.Folder, config: dict[str, Any]) -> dict[str, Any]:
  """Returns the config of another run whose initial model can be used.

  Args:
    home: folder of one seed in that run's work directory.
    config: of the new run, as JSON returns it.

  Raises:
    MissingFileError: there is no finished pretraining.
    WorkdirError: the initial model does not fit; names what differs.
  """
  theirs = workdir.read_config(home.parent)
  saved = home / 'pretrain' / 'checkpoints' / 'cycles' / 'cycle_0'
  if theirs is None or not saved.exists():
    raise errors.MissingFileError(
      f'config.pretrain.restore: {home} holds no finished pretraining. Name '
      f'the work directory of a run that pretrained seed {home.name[5:]}.'
    )
  found = [
    line
    for name in _MUST_FIT
    for line in workdir.differences(
      _relevant(files.find(theirs, name)),
      _relevant(files.find(config, name)),
      f'config.{name}',
    )
  ]
  if found:
    raise errors.WorkdirError(
      f'config.pretrain.restore: the initial model in {home} does not fit:\n  '
      + '\n  '.join(found)
      + '\nMake these equal, or leave config.pretrain.restore out.'
    )
  return theirs


def _relevant(value: Any) -> Any:
  """Returns a part of a config without what may differ."""
  if isinstance(value, dict):
    return {
      k: _relevant(v)
      for k, v in value.items()
      if k not in _MAY_DIFFER and (k, v) != ('layer_levels', [])
    }
  if isinstance(value, (list, tuple)):
    return [_relevant(item) for item in value]
  return value
