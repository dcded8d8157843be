"""A checkpoint of others becomes a newborn, for all studies to start from.

Read once from its own directory. Afterwards `pretrain.restore` finds the
weights, placed by whichever mesh, and a description of the base model beside
them, so the hosts of a pod need the work directory alone.
"""

import json

import jax
import jax.numpy as jnp
import ml_collections

from sleep_jax import types
from sleep_jax.interop import hf_checkpoint, hf_export, hf_import, open_model
from sleep_jax.learner import initial_state
from sleep_jax.runs import compatibility, inputs
from sleep_jax.runtime import sharding
from sleep_jax.storage import checkpoints, workdir


def import_model(
  config: ml_collections.ConfigDict, folder: str, base_model: str
) -> None:
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
  found = hf_checkpoint.read(base_model)
  tokenizer = hf_checkpoint.load_tokenizer(found)
  model = open_model.build_model(
    config.model.to_dict(), plain['levels'], tokenizer, found
  )
  placement = sharding.make(**config.mesh)
  for seed in plain['seeds']:
    weights = hf_import.load(
      found, model, placement, key=jax.random.key(seed),
      dtype=plain['pretrain']['dtype'],
    )  # fmt: skip
    own = home / f'seed_{seed}'
    tokenizer.save(str(own / 'tokenizer'))
    saved = _saved(own, plain)
    saved.save_cycle(0, {'weights': weights}, {'event': 0, 'night_updates': 0})
    saved.close()
  (home / open_model.BASE_FOLDER).mkdir()
  for name in ('config.json', *hf_export.COPIED_FILES):
    if (found.folder / name).is_file():
      text = (found.folder / name).read_text(encoding='utf-8')
      (home / open_model.BASE_FOLDER / name).write_text(text, encoding='utf-8')
  workdir.write_json(home / 'config.json', plain)  # Last: now it is whole.


def restore_weights(
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


def load_initial_model(
  start: inputs.RunInputs,
  shapes: initial_state.InitialModel,
  config: dict,
  placement: sharding.Placement,
  home: workdir.Folder | None,
) -> initial_state.InitialModel:
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
    weights = hf_import.load(
      start.base_model, start.model, placement, key=jax.random.key(start.seed),
      dtype=config['pretrain']['dtype'],
    )  # fmt: skip
  else:
    theirs = compatibility.check_fits(home, config)
    weights = restore_weights(home, theirs, shapes.weights)
  empty = jax.jit(
    lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.replay),
    out_shardings=jax.tree.map(lambda x: x.sharding, shapes.replay),
  )
  return initial_state.InitialModel(weights, empty())


def _saved(home, config):
  return checkpoints.Checkpoints(
    str(home / 'pretrain' / 'checkpoints'),
    config=compatibility.kept(config, born=True),
  )
