"""Which parts of a config must be equal to continue or reuse a run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.model import config as config_lib
from sleep_jax.storage import workdir
from sleep_jax.strategies import registry

# Keys that may differ between two parts of one run. A day that was learned has
# no row that is too long, or is refused unless 'skip' stays.
FREE = (
  'strategies', 'seeds', 'checkpoint', 'writers', 'compile_cache', 'mesh',
  'data.extra_days', 'data.growing', 'data.too_long', 'compare', 'questions',
  *registry.settings(),
)  # fmt: skip
# How the folder of a trial of a rate begins; it is in one of its strategy.
TRIAL = 'rate_'
# Keys that may also differ if the user accepts it.
_RATES = ('learning_rate', 'learning_rates', 'warmup', 'clip')
# What an initial model depends on.
_PRETRAINED_WITH = (
  'data', 'tokenizer', 'model', 'levels', 'pretrain', 'replay'
)  # fmt: skip
# What must be equal to use the initial model of another run: shapes of arrays,
# and how they are read,
_MUST_FIT = ('model', 'levels', 'data.max_prompt')
# of its replay buffer, if it is used too, and of the answers in it.
_REPLAY_MUST_FIT = ('replay.pretrain', 'replay.store')
_ANSWERS_MUST_FIT = ('consolidate.max_new',)
# except how experts are chosen (an initial model has no active ones), how
# programs are compiled, and when levels are updated.
_MAY_DIFFER = (
  'router', 'top_k', 'gate_bias', 'gated_experts',
  *config_lib.EXECUTION_FIELDS,
  'update_period', 'sleep_period', 'context_sleep_period',
)  # fmt: skip


def bound(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the part of a config that a work directory is bound to.

  Args:
    config: resolved, as JSON returns it.
  """
  found = workdir.without(config, FREE)
  # Work directories of earlier versions have no `epochs`: days are in steps.
  if not found.get('data', {}).get('order'):
    found = workdir.without(found, ('data.order',))
  if not found.get('replay', {}).get('about_people'):
    found = workdir.without(found, ('replay.about_people',))
  if not found.get('wake', {}).get('epochs'):
    found = workdir.without(found, ('wake.epochs',))
  if not found.get('consolidate', {}).get('adaptive', {}).get('on'):
    found = workdir.without(found, ('consolidate.adaptive',))
  if not found.get('wake', {}).get('second_kl_penalty', {}).get('weight'):
    found = workdir.without(found, ('wake.second_kl_penalty',))
  ability = found.get('ability', {})
  if not any(ability.get(part) for part in ('text', 'reading', 'prompts')):
    found = workdir.without(found, ('ability',))
  return found


def check_workdir(
  folder: workdir.Folder, config: dict[str, Any], *, accept_rates: bool
) -> list[str]:
  """Checks that a config may use a work directory; creates it if missing.

  Args:
    folder: the work directory.
    config: of the study, as JSON returns it.
    accept_rates: whether rates, warm-ups and clips may differ.

  Returns:
    A line for each difference that is accepted.

  Raises:
    WorkdirError: the folder belongs to another config; lists the differences.
    StorageError: the folder cannot be written to.
  """
  workdir.check_writable(folder)
  old = workdir.read_config(folder)
  if old is None:
    return []
  found = [*workdir.differences(bound(old), bound(config))]
  if without_rates(bound(old)) != without_rates(bound(config)):
    workdir.check_config(folder, config, bound=bound)
  elif found and not accept_rates:
    raise errors.WorkdirError(
      f'The work directory {folder} has other rates:\n  '
      + '\n  '.join(found)
      + '\nTo continue with these from the last checkpoint on, add '
      '--accept_changed_rates. Or choose another --workdir, or run with the '
      'config in its config.json.'
    )
  return found


def with_changes(
  folder: workdir.Folder, about: dict[str, Any], changes: Sequence[str]
) -> dict[str, Any]:
  """Returns the provenance of a study, with all changes that were accepted.

  Args:
    folder: work directory, whose `about.json` holds earlier changes.
    about: provenance of this start.
    changes: that were accepted at this start.
  """
  file = folder / 'about.json'
  earlier = json.loads(file.read_text()) if file.exists() else {}
  found = [*earlier.get('accepted', ()), *changes]
  return {**about, 'accepted': found} if found else about


def without_rates(config: Any) -> Any:
  """Returns a part of a config without what may be lowered after a divergence.

  The state of an optimizer does not depend on these settings.
  """
  if isinstance(config, Mapping):
    return {k: without_rates(v) for k, v in config.items() if k not in _RATES}
  if isinstance(config, (list, tuple)):
    return [without_rates(item) for item in config]
  return config


def section(folder: workdir.Folder) -> str:
  """Returns the section of the config that only a run in a folder depends on.

  Runs are in a folder of their strategy's name, and so are trials of rates.
  """
  is_trial = folder.name.startswith(TRIAL)
  return folder.parent.name if is_trial else folder.name


def kept(
  config: Mapping[str, Any], *, pretraining: bool, section: str = ''
) -> dict[str, Any]:
  """Returns the part of a config that a checkpoint depends on.

  Args:
    config: resolved, as JSON returns it.
    pretraining: whether the checkpoint is of pretraining.
    section: name of a section that only this checkpoint depends on, if the
      config has it: a strategy's own.
  """
  found = bound(config)
  if section in config:
    found[section] = config[section]
  if not pretraining:
    return found
  found = {k: found[k] for k in _PRETRAINED_WITH}
  found['pretrain'] = {
    k: v for k, v in found['pretrain'].items() if k != 'restore'
  }
  return found


def check_fits(
  home: workdir.Folder, config: dict[str, Any], *, with_replay: bool = True
) -> dict[str, Any]:
  """Returns the config of another run whose initial model can be used.

  Args:
    home: folder of one seed in that run's work directory.
    config: of the new run, as JSON returns it.
    with_replay: whether its replay buffer is used too.

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
  names: tuple[str, ...] = _MUST_FIT
  if with_replay:
    names += _REPLAY_MUST_FIT
    if config['replay']['store'] == 'rows':
      names += _ANSWERS_MUST_FIT
  found = [
    line
    for name in names
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
