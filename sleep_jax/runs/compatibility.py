"""What of a config a checkpoint, a newborn and a work directory depend on."""

from typing import Any

from sleep_jax.config import files
from sleep_jax.model import config as config_lib
from sleep_jax.storage import workdir

# What may differ between two parts of one run.
FREE = (
  'strategies', 'seeds', 'checkpoint', 'writers', 'compile_cache', 'mesh'
)  # fmt: skip
# What a newborn depends on.
_BORN_OF = ('data', 'tokenizer', 'model', 'levels', 'pretrain', 'replay')
# What a newborn of another run must have in common with us: its arrays'
# shapes, and how they are read,
_FITS = ('model', 'levels', 'replay.pretrain', 'data.max_prompt')
# but not how experts are chosen, of which it has none on, or its days.
_LATER = (
  'router', 'router_spread', 'top_k', 'gate_bias', *config_lib.COMPUTED,
  'update_period', 'sleep_period', 'context_sleep_period',
)  # fmt: skip


def kept(config: dict[str, Any], *, born: bool) -> dict[str, Any]:
  """The part of a config that a checkpoint depends on.

  Args:
    config: resolved, as JSON gives it back.
    born: whether the checkpoint is of a birth.
  """
  if not born:
    return {k: v for k, v in config.items() if k not in FREE}
  found = {k: config[k] for k in _BORN_OF}
  found['pretrain'] = {
    k: v for k, v in found['pretrain'].items() if k != 'restore'
  }
  return found


def check_fits(home: workdir.Folder, config: dict[str, Any]) -> dict[str, Any]:
  """The config of another run, whose newborn a config may live on with.

  Args:
    home: one seed's folder in that run's work directory.
    config: ours, as JSON gives it back.

  Raises:
    FileNotFoundError: it holds no finished birth.
    ValueError: its newborn does not fit; names what differs.
  """
  theirs = workdir.read_config(home.parent)
  born = home / 'pretrain' / 'checkpoints' / 'cycles' / 'cycle_0'
  if theirs is None or not born.exists():
    raise FileNotFoundError(
      f'config.pretrain.restore: {home} holds no finished birth. Name the work '
      f'directory of a run that was born with seed {home.name[5:]}.'
    )
  found = [
    line
    for name in _FITS
    for line in workdir.differences(
      _born(files.find(theirs, name)), _born(files.find(config, name)),
      f'config.{name}',
    )
  ]  # fmt: skip
  if found:
    raise ValueError(
      f'config.pretrain.restore: the newborn of {home} does not fit:\n  '
      + '\n  '.join(found)
      + '\nMake these agree, or leave config.pretrain.restore out.'
    )
  return theirs


def _born(value: Any) -> Any:
  """A part of a config without what comes after birth."""
  if isinstance(value, dict):
    return {
      k: _born(v)
      for k, v in value.items()
      if k not in _LATER and (k, v) != ('layer_levels', [])
    }
  if isinstance(value, (list, tuple)):
    return [_born(item) for item in value]
  return value
