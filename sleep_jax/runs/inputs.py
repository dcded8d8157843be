"""Builds what the runs of one seed have in common: data, tokenizer, model.

Built again at each start, with the same result; nothing is trained here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence

import ml_collections

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.config import schema
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import day_files, jsonl, orders
from sleep_jax.evaluate import ability_evaluator
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.evaluate import own_texts as own_texts_lib
from sleep_jax.interop import (
  chat_format,
  hf_checkpoint,
  hf_tokenizer,
  open_model,
)  # fmt: skip
from sleep_jax.model import transformer
from sleep_jax.runs import day_records, stdin_days
from sleep_jax.storage import workdir

# Fields of `config.data` that are not arguments of `stream.build`.
NOT_OF_STREAM = (
  'dataset', 'path', 'extra_days', 'growing', 'order', 'settings'
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunInputs:
  """What the runs of one seed have in common.

  Attributes:
    seed: of the runs.
    stream: what they learn, as tokens.
    model: the network.
    base_model: pretrained checkpoint they start from; None if pretrained here.
    initial_model: set once it is pretrained or loaded.
    evaluator: set once there is an initial model to compare with; during
      pretraining a `HeldOutEvaluator`.
    ability: measures the model every morning, or None.
    own_texts: the guard's texts of a pretrained model, or None.
  """

  seed: int
  stream: stream_lib.Stream
  model: transformer.Transformer
  base_model: hf_checkpoint.HfCheckpoint | None = None
  initial_model: state_lib.InitialModel | None = None
  evaluator: evaluator_lib.Evaluator | evaluator_lib.HeldOutEvaluator | None = (
    None
  )
  ability: ability_evaluator.AbilityEvaluator | None = None
  own_texts: own_texts_lib.OwnTexts | None = None


def read_dataset(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  *,
  validation: bool = False,
  ends: Mapping[str, Sequence[int]] | None = None,
  days: Sequence[str] | None = None,
) -> dataset_lib.Dataset:
  """Reads the texts of a seed: the dataset, and the days that follow it.

  Args:
    config: of the study.
    folder: its work directory, with the days that came on standard input.
    seed: of the run.
    validation: use the stream on which learning rates are tuned, and which no
      strategy is evaluated on.
    ends: where growing files are cut into days, see `day_files.cut`.
    days: files of the days after those of the dataset; None: those that
      `data.extra_days` names.

  Raises:
    MissingFileError, DataError, StorageError: a file cannot be used.
    ConfigError: `data.order` is set for files that grow.
  """
  name, settings = config.data.dataset, config.data.settings.to_dict()
  path = stdin_days.resolve(config.data.path, folder)
  if days is None:
    days = stdin_days.resolve(config.data.get('extra_days', ''), folder)
  scratch = None if workdir.in_bucket(folder) else str(folder)
  if name == 'jsonl':
    if not path:
      path, days = days, ()
    # Rows on which nothing is measured are learned.
    holds_out = config.evaluate.held_out_batches > 0
    settings |= {'ends': ends, 'scratch': scratch, 'holds_out': holds_out}
  if 'path' in inspect.signature(schema.DATASETS[name].make).parameters:
    settings['path'] = path
  if validation:
    settings['stream_seed'] = seed + 1
  dataset = schema.DATASETS[name].make(seed=seed, **settings)
  if not validation:
    dataset = orders.reorder(dataset, _order(config), seed)
  if not days:
    return dataset
  # The dataset's templates ask about subjects of its own kind.
  groups = jsonl.read_experiences(days, subjects=False, scratch=scratch)
  whole, parts = day_files.cut(groups, ends or {})
  for name, _ in dataset.experiences:
    if name in whole:
      raise errors.DataError(
        f'config.data.extra_days: {day_records.file_name(whole[name])} has the '
        f'name of a day of the dataset, {name}: rename the file.'
      )
  return dataclasses.replace(
    dataset,
    experiences=[*dataset.experiences, *whole.items()],
    parts={**dataset.parts, **parts},
  )


def _order(config: ml_collections.ConfigDict) -> int:
  """Returns the order of the dataset's experiences."""
  order = config.data.get('order', 0)
  if order and config.data.get('growing'):
    raise errors.ConfigError(
      f'config.data.order is {order}, but the parts of a file that grows '
      '(config.data.growing) have one order: set data.order to 0.'
    )
  return order


def make(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  dataset: dataset_lib.Dataset,
) -> RunInputs:
  """Returns data, tokenizer and model of a seed.

  Args:
    config: of the study.
    folder: its work directory; tokens are cached there.
    seed: of the run.
    dataset: see `read_dataset`.

  Raises:
    ConfigError: a setting of the model, the tokenizer or the rows is wrong.
    DataError: a row cannot be used or is too long.
    MissingFileError, ModelFileError: base model or tokenizer cannot be read.
    StorageError: the token cache cannot be written.
  """
  data = config.data.to_dict()
  for name in NOT_OF_STREAM:
    data.pop(name, None)
  # Without pretraining text, the tokenizer is made from the days.
  parts = (
    [dataset.pretrain]
    if dataset.pretrain
    else [rows for _, rows in dataset.experiences]
  )
  tokenizer, base_model = load_tokenizer(
    config, folder, seed, (row.text for rows in parts for row in rows)
  )
  on_disk = not workdir.in_bucket(folder)
  stream = stream_lib.build(
    dataset, tokenizer, seed=seed,
    load_writer=functools.cache(
      lambda: chat_format.load_writer(base_model, tokenizer)
    ),
    cache_dir=str(folder / 'tokens') if on_disk else None, **data,
  )  # fmt: skip
  model = open_model.build_model(
    config.model.to_dict(),
    [dict(level) for level in config.to_dict()['levels']],
    tokenizer,
    base_model,
  )
  return RunInputs(seed, stream, model, base_model)


def load_tokenizer(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  texts: Iterable[str],
) -> tuple[tokenizer_lib.Tokenizer, hf_checkpoint.HfCheckpoint | None]:
  """Returns the tokenizer of a seed, and the base model if it is that one's.

  Args:
    config: of the study.
    folder: its work directory.
    seed: of the run.
    texts: it is trained on them if there is none yet.
  """
  saved = initial_model_folder(config, folder, seed) / 'tokenizer'
  base_model = open_model.base_checkpoint(config.pretrain)
  if base_model is not None:
    return hf_tokenizer.load(base_model), base_model
  if saved.exists() or config.pretrain.restore:
    return tokenizer_lib.load(str(saved)), None
  return tokenizer_lib.make(texts=texts, **config.tokenizer), None


def with_evaluator(
  config: ml_collections.ConfigDict,
  inputs: RunInputs,
  held_out_batches: int,
) -> RunInputs:
  """Returns the inputs with an evaluator of the initial model's probes.

  Args:
    config: of the study.
    inputs: with an initial model.
    held_out_batches: batches of held-out text that are scored.
  """
  settings = config.evaluate.to_dict() | {'held_out_batches': held_out_batches}
  evaluator = evaluator_lib.Evaluator(
    inputs.model, inputs.stream, inputs.initial_model.weights, **settings
  )
  return dataclasses.replace(inputs, evaluator=evaluator)


def initial_model_folder(
  config: ml_collections.ConfigDict, folder: workdir.Folder, seed: int
) -> workdir.Folder:
  """Returns the folder of the seed's initial model: here or of another run."""
  restore = config.pretrain.restore
  home = workdir.path(restore) if restore else folder
  return home / f'seed_{seed}'
