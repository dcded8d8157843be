"""A checkpoint of others becomes a newborn, for all studies to start from.

Read once, where it lies; afterwards `birth.restore` finds the weights, placed
by whichever mesh, and a description of the host beside them. So a pod's hosts
need the work directory alone.
"""

import json

import jax
import jax.numpy as jnp
import ml_collections

from sleep_jax import (
  checkpoint,
  lineage,
  models,
  programs,
  sharding,
  starts,
  types,
  workdir,
)
from sleep_jax.interop import dense, huggingface


def adopt(config: ml_collections.ConfigDict, folder: str, host: str) -> None:
  """Writes a work directory in which each seed has been born of a checkpoint.

  Args:
    config: of the studies that will start from it; see configs/documents.py.
    folder: made; must not be there, or be empty.
    host: Hugging Face model directory.

  Raises:
    FileExistsError: the folder holds something.
    FileNotFoundError, ValueError, OSError: the checkpoint cannot be read.
  """
  home = workdir.path(folder)
  if home.exists() and any(home.iterdir()):
    raise FileExistsError(f'{home} is not empty: name a new folder.')
  plain = json.loads(config.to_json_best_effort())
  found = huggingface.read(host)
  words = huggingface.tokenizer(found)
  model = models.build(config.model.to_dict(), plain['levels'], words, found)
  placement = sharding.make(**config.mesh)
  for seed in plain['seeds']:
    weights = huggingface.load(
      found, model, placement, key=jax.random.key(seed),
      dtype=plain['birth']['dtype'],
    )  # fmt: skip
    own = home / f'seed_{seed}'
    words.save(str(own / 'tokenizer'))
    saved = _saved(own, plain)
    saved.save_cycle(0, {'weights': weights}, {'event': 0, 'night_updates': 0})
    saved.close()
  (home / models.HOST).mkdir()
  for name in ('config.json', *dense.BESIDE):
    if (found.folder / name).is_file():
      text = (found.folder / name).read_text(encoding='utf-8')
      (home / models.HOST / name).write_text(text, encoding='utf-8')
  workdir.write_whole(home / 'config.json', plain)  # Last: now it is whole.


def restored(
  home: workdir.Folder, config: dict, shapes: types.Weights
) -> types.Weights:
  """Weights of a newborn that was adopted.

  Args:
    home: one seed's folder in its work directory.
    config: of that work directory.
    shapes: with their places.

  Raises:
    ValueError: what is there is of other shapes.
  """
  saved = _saved(home, config)
  found = saved.restore('cycles', 0, {'weights': shapes})['weights']
  saved.close()
  return found


def newborn(
  start: starts.Start,
  shapes: programs.Newborn,
  config: dict,
  placement: sharding.Placement,
  home: workdir.Folder | None,
) -> programs.Newborn:
  """A checkpoint of others, which has met no prompts yet.

  Args:
    start: with its host.
    shapes: of the newborn, with their places.
    config: as JSON gives it back.
    home: where it was adopted; None: it is read from its own directory.

  Raises:
    ValueError, OSError: it cannot be read, or does not fit.
  """
  if home is None:
    weights = huggingface.load(
      start.host, start.model, placement, key=jax.random.key(start.seed),
      dtype=config['birth']['dtype'],
    )  # fmt: skip
  else:
    theirs = lineage.check_fits(home, config)
    weights = restored(home, theirs, shapes.weights)
  empty = jax.jit(
    lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.replay),
    out_shardings=jax.tree.map(lambda x: x.sharding, shapes.replay),
  )
  return programs.Newborn(weights, empty())


def _saved(home, config):
  return checkpoint.Checkpoints(
    str(home / 'birth' / 'checkpoints'),
    config=lineage.kept(config, born=True),
  )
