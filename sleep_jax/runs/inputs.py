"""Builds what the runs of one seed have in common: data, tokenizer, model.

Built again at each start, with the same result; nothing is trained here.
"""

import dataclasses
from collections.abc import Sequence

import ml_collections

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.config import schema
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import jsonl
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.interop import hf_checkpoint, open_model
from sleep_jax.model import transformer
from sleep_jax.runs import day_records
from sleep_jax.storage import workdir


@dataclasses.dataclass(frozen=True)
class RunInputs:
  """What the runs of one seed have in common.

  Attributes:
    seed: of the runs.
    stream: what they learn, as tokens.
    model: the network.
    missing: names of learned days whose files are gone.
    base_model: pretrained checkpoint they start from; None if pretrained here.
    initial_model: set once it is pretrained or loaded.
    evaluator: set once there is an initial model to compare with; during
      pretraining a `HeldOutEvaluator`.
  """

  seed: int
  stream: stream_lib.Stream
  model: transformer.Transformer
  missing: frozenset[str] = frozenset()
  base_model: hf_checkpoint.HfCheckpoint | None = None
  initial_model: state_lib.InitialModel | None = None
  evaluator: evaluator_lib.Evaluator | evaluator_lib.HeldOutEvaluator | None = (
    None
  )


def make(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  *,
  validation: bool = False,
  learned: Sequence[day_records.Record] = (),
) -> RunInputs:
  """Returns data, tokenizer and model of a seed.

  Args:
    config: of the study.
    folder: its work directory; tokens are cached there.
    seed: of the run.
    validation: use the stream on which learning rates are tuned, and which no
      strategy is evaluated on.
    learned: records of days that keep their places, whatever the files are.

  Raises:
    UsageError, StorageError: a file that the config names cannot be read.
  """
  data = config.data.to_dict()
  name, path = data.pop('dataset'), data.pop('path')
  extra_days = data.pop('extra_days', '')
  settings = data.pop('settings')
  if name == 'jsonl' and not path and extra_days:
    path, extra_days = extra_days, ''
  if name != 'facts':
    settings['path'] = path
  if validation:
    settings['stream_seed'] = seed + 1
  dataset = schema.DATASETS[name].make(seed=seed, **settings)
  if extra_days:
    # The dataset's templates ask about subjects of its own kind.
    days = [
      (name, [dataclasses.replace(row, subject=None) for row in rows])
      for name, rows in jsonl.read_experiences(extra_days).items()
    ]
    dataset = dataclasses.replace(
      dataset, experiences=[*dataset.experiences, *days]
    )
  missing = frozenset(record['name'] for record in learned) - {
    name for name, _ in dataset.experiences
  }
  if learned:
    dataset = day_records.with_learned_days(dataset, learned)
  # Without pretraining text, the tokenizer is made from the days.
  rows = dataset.pretrain or [r for _, day in dataset.experiences for r in day]
  saved = initial_model_folder(config, folder, seed) / 'tokenizer'
  base_model = open_model.base_checkpoint(config.pretrain)
  tokenizer: types.Tokenizer
  if base_model is not None:
    tokenizer = hf_checkpoint.load_tokenizer(base_model)
  elif saved.exists() or config.pretrain.restore:
    tokenizer = tokenizer_lib.load(str(saved))
  else:
    tokenizer = tokenizer_lib.make(
      texts=[r.text for r in rows], **config.tokenizer
    )
  on_disk = not workdir.in_bucket(folder)
  stream = stream_lib.build(
    dataset, tokenizer, seed=seed,
    cache_dir=str(folder / 'tokens') if on_disk else None, **data,
  )  # fmt: skip
  model = open_model.build_model(
    config.model.to_dict(),
    [dict(level) for level in config.to_dict()['levels']],
    tokenizer,
    base_model,
  )
  return RunInputs(seed, stream, model, missing, base_model)


def unread_rows(inputs: RunInputs, steps: int) -> list[str]:
  """Returns a warning for each day that has more rows than are read.

  Args:
    inputs: of a run.
    steps: wake steps of a day.
  """
  warnings = []
  for source in inputs.stream.experiences:
    num_read = steps * len(source.batch(0).tokens_BT)
    if num_read < source.num_rows:
      warnings.append(
        f'warning: {source.name} has {source.num_rows:,} rows (or windows), '
        f'and {steps} wake steps read {num_read:,} of them: raise '
        'config.wake.steps or config.data.batch_size to read all.'
      )
  return warnings


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
