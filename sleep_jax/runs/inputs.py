"""What the lives of one seed start from: a world, its tokens, a model.

Made anew at each start, the same each time; nothing is computed yet.
"""

import dataclasses

import ml_collections

from sleep_jax.config import schema
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.evaluate import evaluator
from sleep_jax.interop import hf_checkpoint, open_model
from sleep_jax.learner import initial_state
from sleep_jax.model import transformer
from sleep_jax.storage import workdir


@dataclasses.dataclass(frozen=True)
class RunInputs:
  """What the lives of one seed have in common.

  Attributes:
    host: the checkpoint of others that it is born of.
    newborn: once it is born.
    judge: once there is a newborn to compare with; during birth, a `Reader`.
  """

  seed: int
  stream: stream_lib.Stream
  model: transformer.Transformer
  base_model: hf_checkpoint.HfCheckpoint | None = None
  initial_model: initial_state.InitialModel | None = None
  judge: evaluator.Evaluator | evaluator.HeldOutEvaluator | None = None


def make(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  *,
  validation: bool = False,
) -> RunInputs:
  """World, tokens and model of a seed.

  Args:
    folder: the work directory.
    validation: of the stream that no strategy is measured on.

  Raises:
    ValueError, OSError: what the config names cannot be read.
  """
  data = config.data.to_dict()
  name, path = data.pop('dataset'), data.pop('path')
  dataset_settings = data.pop('settings')
  if name != 'facts':
    dataset_settings['path'] = path
  if validation:
    dataset_settings['stream_seed'] = seed + 1
  dataset = schema.DATASETS[name].make(seed=seed, **dataset_settings)
  # Without birth text, the words are those of the days.
  rows = dataset.pretrain or [r for _, day in dataset.experiences for r in day]
  saved = initial_model_folder(config, folder, seed) / 'tokenizer'
  base_model = open_model.base_checkpoint(config.pretrain)
  tokenizer: tokenizer_lib.Tokenizer
  if base_model is not None:
    tokenizer = hf_checkpoint.load_tokenizer(base_model)
  elif saved.exists() or config.pretrain.restore:
    tokenizer = tokenizer_lib.load(str(saved))
  else:
    tokenizer = tokenizer_lib.make(
      texts=[r.text for r in rows], **config.tokenizer
    )
  here = not workdir.in_bucket(folder)
  stream = stream_lib.build(
    dataset, tokenizer, seed=seed,
    cache_dir=str(folder / 'tokens') if here else None, **data,
  )  # fmt: skip
  model = open_model.build_model(
    config.model.to_dict(),
    [dict(level) for level in config.to_dict()['levels']],
    tokenizer,
    base_model,
  )
  return RunInputs(seed, stream, model, base_model)


def with_evaluator(
  config: ml_collections.ConfigDict, start: RunInputs, held_out_batches: int
) -> RunInputs:
  """With an examiner, which compares with the newborn."""
  how = config.evaluate.to_dict()
  judge = evaluator.Evaluator(
    start.model, start.stream, start.initial_model.weights,
    **(how | {'held_out_batches': held_out_batches}),
  )  # fmt: skip
  return dataclasses.replace(start, judge=judge)


def initial_model_folder(
  config: ml_collections.ConfigDict, folder: workdir.Folder, seed: int
) -> workdir.Folder:
  """Where the newborn of a seed lives: here, or where it is restored from."""
  restore = config.pretrain.restore
  whose = workdir.path(restore) if restore else folder
  return whose / f'seed_{seed}'
