"""What the lives of one seed start from: a world, its tokens, a model.

Made anew at each start, the same each time; nothing is computed yet.
"""

import dataclasses

import ml_collections

from sleep_jax import models, programs, settings, workdir
from sleep_jax.data import streams, tokenizer
from sleep_jax.evaluate import examiner
from sleep_jax.interop import huggingface
from sleep_jax.model import transformer


@dataclasses.dataclass(frozen=True)
class Start:
  """What the lives of one seed have in common.

  Attributes:
    host: the checkpoint of others that it is born of.
    newborn: once it is born.
    judge: once there is a newborn to compare with; during birth, a `Reader`.
  """

  seed: int
  stream: streams.Stream
  model: transformer.Transformer
  host: huggingface.Host | None = None
  newborn: programs.Newborn | None = None
  judge: examiner.Examiner | examiner.Reader | None = None


def make(
  config: ml_collections.ConfigDict,
  folder: workdir.Folder,
  seed: int,
  *,
  validation: bool = False,
) -> Start:
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
  world = settings.WORLDS[name].make(seed=seed, **about_world)
  # Without birth text, the words are those of the days.
  rows = world.birth or [r for _, day in world.experiences for r in day]
  saved = home(config, folder, seed) / 'tokenizer'
  host = models.host_of(config.birth)
  words: tokenizer.Tokenizer
  if host is not None:
    words = huggingface.tokenizer(host)
  elif saved.exists() or config.birth.restore:
    words = tokenizer.load(str(saved))
  else:
    words = tokenizer.make(texts=[r.text for r in rows], **config.tokenizer)
  here = not workdir.in_bucket(folder)
  stream = streams.build(
    world, words, seed=seed,
    cache_dir=str(folder / 'tokens') if here else None, **data,
  )  # fmt: skip
  model = models.build(
    config.model.to_dict(),
    [dict(level) for level in config.to_dict()['levels']],
    words,
    host,
  )
  return Start(seed, stream, model, host)


def judged(
  config: ml_collections.ConfigDict, start: Start, held_out_batches: int
) -> Start:
  """With an examiner, which compares with the newborn."""
  how = config.evaluate.to_dict()
  judge = examiner.Examiner(
    start.model, start.stream, start.newborn.weights,
    **(how | {'held_out_batches': held_out_batches}),
  )  # fmt: skip
  return dataclasses.replace(start, judge=judge)


def home(
  config: ml_collections.ConfigDict, folder: workdir.Folder, seed: int
) -> workdir.Folder:
  """Where the newborn of a seed lives: here, or where it is restored from."""
  restore = config.birth.restore
  whose = workdir.path(restore) if restore else folder
  return whose / f'seed_{seed}'
