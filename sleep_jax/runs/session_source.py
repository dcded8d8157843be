"""What a session can start from: a model, a finished run or a session."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.interop import (
  gguf_model,
  hf_checkpoint,
  open_model,
  weight_files,
)
from sleep_jax.objectives import judges
from sleep_jax.runs import day_records
from sleep_jax.storage import known_models, lock, workdir

STRATEGY = 'sleep'
RUN = 'run'  # Folder of a session with the work directory of its run.
_DEFAULT_CONFIG = 'chat'  # Of a pretrained model: documents, read overnight.


@dataclasses.dataclass(frozen=True)
class Source:
  """What a session starts from.

  Attributes:
    path: of the folder.
    kind: 'model', 'run' or 'session'.
    config: its config.json; empty for a session.
  """

  path: pathlib.Path
  kind: str
  config: Mapping[str, Any]


def kept_seed(folder: pathlib.Path, seed: int) -> int:
  """Returns the seed of a session.

  Args:
    folder: of the session. If it was begun, its run has a seed.
    seed: of a new session.
  """
  kept = workdir.read_config(folder / RUN)
  return seed if kept is None else int(kept['seeds'][0])


def make_config(
  source: Source,
  given: ml_collections.ConfigDict | str | None,
  *,
  folder: pathlib.Path,
  strategy: str,
  seed: int,
) -> ml_collections.ConfigDict:
  """Returns the config of a session's run, without the place of its days.

  Args:
    source: what the session starts from.
    given: by the user, or its name; None: that of the folder, else that of the
      source.
    folder: of the session.
    strategy, seed: of the run.

  Raises:
    ConfigError: a value that was given is wrong.
    UsageError: the config of a folder would run code.
  """
  kept = workdir.read_config(folder / RUN)
  if given is not None:
    named = files.load(given) if isinstance(given, str) else given
    config = named.copy_and_resolve_references()
  elif kept is not None:
    config = ml_collections.ConfigDict(kept)
  elif source.kind == 'model':
    config = files.load(_DEFAULT_CONFIG)
  else:
    config = ml_collections.ConfigDict(source.config)
  with config.unlocked():
    if given is None:
      # The folder may be from somebody else.
      refuse_code(config, source.path)
      config.writers = ()  # They may send what is said to another machine.
    config.strategies = (strategy,)
    config.seeds = (seed,)
    if source.kind == 'model':
      config.pretrain.base_model = str(source.path)
  if given is not None:
    from sleep_jax.config import checks  # With the imports of learning.

    checks.check(json.loads(config.to_json_best_effort()))
  return config


def refuse_code(config: Mapping[str, Any], folder: pathlib.Path) -> None:
  """Refuses a config that a folder brings and that would run code.

  Whoever wrote the folder could name any function of any installed module.

  Args:
    config: of the folder.
    folder: for the message.

  Raises:
    UsageError: its judge is a Python function.
  """
  imitation = (config.get('consolidate') or {}).get('imitation') or {}
  judge = imitation.get('judge', '')
  kind, colon, _ = str(judge).partition(':')
  if colon and kind != judges.ENCODER:
    raise errors.UsageError(
      f'{folder}: its config names the Python function {judge!r} '
      '(consolidate.imitation.judge), which is not called because the folder '
      'may be from somebody else. If you trust it, pass the config yourself: '
      'load(..., config=...) or --config.'
    )


def find(source: str, strategy: str = STRATEGY) -> Source:
  """Finds what `source` is.

  Args:
    source: path, or name of a fetched model.
    strategy: of the run, if it is one.

  Raises:
    MissingFileError: it is nothing that can be loaded.
    UsageError: it is a run of a strategy that trains no weights.
    WorkdirError: see `workdir.of_this_version`.
  """
  path = known_models.locate(source)
  if gguf_model.is_file(path):
    return Source(path, 'model', hf_checkpoint.read_config(path))
  if (path / RUN / 'config.json').is_file():
    return Source(path, 'session', {})
  if (path / 'config.json').is_file():
    config = hf_checkpoint.read_config(path)
    if 'strategies' not in config:
      return Source(path, 'model', config)
    config = workdir.of_this_version(path, config)
    _check_trained(path, config, strategy)
    return Source(path, 'run', config)
  weight_files.refuse_adapter(path)
  if not path.exists():
    found = 'it does not exist'
  elif not path.is_dir():
    found = 'it is a file'
  else:
    names: Sequence[str] = sorted(p.name for p in path.iterdir())
    shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
    found = f'it contains {shown or "nothing"}'
  raise errors.MissingFileError(
    f'{path} is neither a model nor a run: {found}. Expected a Hugging Face '
    'model directory (config.json, *.safetensors, tokenizer.json), a .gguf '
    'file, the work directory of a run (config.json, seed_0/), or a folder '
    'written by Learner.save or the chat (days/, run/), or the name of a model '
    f'that was fetched: {", ".join(known_models.nearest(source))}.'
  )


def _check_trained(path, config, strategy: str) -> None:
  """Refuses a run whose model is the initial one, as that of `rag`."""
  if strategy == STRATEGY:
    return
  from sleep_jax.strategies import registry  # With the imports of learning.

  if strategy not in registry.names():
    return  # One of several runs of a strategy, as 'joint_night'.
  made, *_ = registry.make(strategy, num_levels=len(config['levels']))
  if not made.owners and not made.edits:
    raise errors.UsageError(
      f'{path}: strategy {strategy!r} trains no weights, so its model is the '
      'initial one and would answer without what a run was given. The results '
      f'of such a run are in seed_*/{strategy}/metrics.jsonl; to load a model, '
      'name another strategy.'
    )


def refuse_home(source: Source, home: pathlib.Path) -> None:
  """Refuses to keep a session in the folder of the model that it starts from.

  Raises:
    UsageError: it would be.
  """
  if source.kind != 'session' and home.resolve() == source.path.resolve():
    raise errors.UsageError(
      f'{home} is the {source.kind} that is to be taught, which is never '
      'changed: name another folder for the days and what is learned of them.'
    )


def begin(source: Source, home: pathlib.Path) -> None:
  """Copies a saved session to the folder in which it is continued.

  A session that is there already is continued, as it is.

  Raises:
    ExistsError: the folder has something else in it.
  """
  if source.kind == 'session' and not (home / RUN / 'config.json').is_file():
    copy(source.path, home)


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a session, whole or not at all.

  Raises:
    ExistsError: the target is not empty.
  """
  if target.exists() and any(target.iterdir()):
    raise errors.ExistsError(f'{target} is not empty: name a new folder.')
  ignored = shutil.ignore_patterns(lock.FILE)
  with workdir.make_whole(target) as part:
    shutil.copytree(source, part, ignore=ignored, dirs_exist_ok=True)


def copy_run(
  source: pathlib.Path, target: pathlib.Path, *, seed: int, strategy: str
) -> None:
  """Copies one run of a work directory, with its initial model and its days.

  The config is not copied.

  Raises:
    MissingFileError: the run has no checkpoint.
  """
  open_model.existing_run(source, strategy, seed)
  for name in ('tokenizer', 'pretrain', 'ability', strategy):
    folder = f'seed_{seed}/{name}'
    if (source / folder).exists():
      shutil.copytree(source / folder, target / folder)
  records = day_records.read(source / f'seed_{seed}')
  if records:
    day_records.write(target / f'seed_{seed}', records)
