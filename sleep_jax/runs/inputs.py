"""What the lives of one seed start from: a world, its tokens, a model.

Made anew at each start, the same each time; nothing is computed yet.
"""

import dataclasses

import ml_collections

from sleep_jax.config import schema
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer
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
  host: hf_checkpoint.HfCheckpoint | None = None
  newborn: initial_state.InitialModel | None = None
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
  name, path = data.pop('world'), data.pop('path')
  about_world = data.pop('settings')
  if name != 'facts':
    about_world['path'] = path
  if validation:
    about_world['stream_seed'] = seed + 1
  world = schema.DATASETS[name].make(seed=seed, **about_world)
  # Without birth text, the words are those of the days.
  rows = world.birth or [r for _, day in world.experiences for r in day]
  saved = initial_model_folder(config, folder, seed) / 'tokenizer'
  host = open_model.base_checkpoint(config.birth)
  words: tokenizer.Tokenizer
  if host is not None:
    words = hf_checkpoint.tokenizer(host)
  elif saved.exists() or config.birth.restore:
    words = tokenizer.load(str(saved))
  else:
    words = tokenizer.make(texts=[r.text for r in rows], **config.tokenizer)
  here = not workdir.in_bucket(folder)
  stream = stream_lib.build(
    world, words, seed=seed,
    cache_dir=str(folder / 'tokens') if here else None, **data,
  )  # fmt: skip
  model = open_model.build_model(
    config.model.to_dict(),
    [dict(level) for level in config.to_dict()['levels']],
    words,
    host,
  )
  return RunInputs(seed, stream, model, host)


def with_evaluator(
  config: ml_collections.ConfigDict, start: RunInputs, held_out_batches: int
) -> RunInputs:
  """With an examiner, which compares with the newborn."""
  how = config.evaluate.to_dict()
  judge = evaluator.Evaluator(
    start.model, start.stream, start.newborn.weights,
    **(how | {'held_out_batches': held_out_batches}),
  )  # fmt: skip
  return dataclasses.replace(start, judge=judge)


def initial_model_folder(
  config: ml_collections.ConfigDict, folder: workdir.Folder, seed: int
) -> workdir.Folder:
  """Where the newborn of a seed lives: here, or where it is restored from."""
  restore = config.birth.restore
  whose = workdir.path(restore) if restore else folder
  return whose / f'seed_{seed}'
