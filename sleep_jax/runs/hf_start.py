"""Imports a Hugging Face checkpoint as the initial model of a run.

The checkpoint is read once from its own directory. Afterwards
`pretrain.restore` finds the weights, for any mesh, and a description of the
base model beside them, so the hosts of a pod need the work directory alone.
"""

import json

import jax
import jax.numpy as jnp
import ml_collections

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.evaluate import asking
from sleep_jax.interop import (
  chat_format,
  hf_checkpoint,
  hf_export,
  hf_import,
  hf_tokenizer,
  open_model,
)
from sleep_jax.runs import compatibility, inputs, rehearsal_texts
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import sharding
from sleep_jax.storage import checkpoints, workdir


def import_model(
  config: ml_collections.ConfigDict, folder: str, base_model: str
) -> None:
  """Writes a work directory whose seeds all start from a checkpoint.

  Studies read it with `config.pretrain.restore`.

  Args:
    config: of those studies; see configs/documents.py.
    folder: target; must be empty or not exist.
    base_model: Hugging Face model directory.

  Raises:
    ExistsError: the folder is not empty.
    MissingFileError, ModelFileError, StorageError: the checkpoint cannot be
      read.
  """
  home = workdir.path(folder)
  if home.exists() and any(home.iterdir()):
    raise errors.ExistsError(f'{home} is not empty: name a new folder.')
  plain = json.loads(config.to_json_best_effort())
  found = hf_checkpoint.read(base_model)
  tokenizer = hf_tokenizer.load(found)
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
    saved = _checkpoints(own, plain)
    saved.save_cycle(0, {'weights': weights}, {'event': 0, 'night_updates': 0})
    saved.close()
  described = home / open_model.BASE_FOLDER
  # Not a copy: the weights may decide whether the head is tied.
  workdir.write_json(described / 'config.json', dict(found.config))
  hf_export.copy_files(found.folder, described)
  workdir.write_json(home / 'config.json', plain)  # Last: now it is whole.


def restore_weights(
  home: workdir.Folder, config: dict, shapes: types.Weights
) -> types.Weights:
  """Returns the weights that `import_model` saved.

  Args:
    home: folder of one seed in the work directory.
    config: of that work directory.
    shapes: shapes and shardings of the weights.

  Raises:
    WorkdirError: the saved weights are damaged or have other shapes.
  """
  saved = _checkpoints(home, config)
  found = saved.restore('cycles', 0, {'weights': shapes})['weights']
  saved.close()
  return found


def load_initial_model(
  run_inputs: inputs.RunInputs,
  shapes: state_lib.InitialModel,
  config: dict,
  placement: sharding.Placement,
  home: workdir.Folder | None,
  *,
  progress: progress_lib.Progress,
  writes: bool = True,
) -> state_lib.InitialModel:
  """Returns a pretrained model as an initial model.

  It has no stored prompts. If `config.replay.own_texts` is above 0 and `writes`
  is True, it has texts that the model writes here.

  Args:
    run_inputs: with the base model.
    shapes: shapes and shardings of the initial model.
    config: of the run, as JSON returns it.
    placement: of the arrays.
    home: folder of the seed that `import_model` wrote; None reads the
      checkpoint from its own directory.
    progress: says what is read, and how many own texts are written.
    writes: whether the model writes its own texts. Only strategies that sleep
      read them.

  Raises:
    ModelFileError, StorageError: the checkpoint cannot be read.
    WorkdirError: the imported weights do not fit the config.
  """
  source = run_inputs.base_model.source if home is None else home
  progress.say(f'initial model: reading {source}')
  if home is None:
    weights = hf_import.load(
      run_inputs.base_model, run_inputs.model, placement,
      key=jax.random.key(run_inputs.seed), dtype=config['pretrain']['dtype'],
    )  # fmt: skip
  else:
    theirs = compatibility.check_fits(home, config, with_replay=False)
    weights = restore_weights(home, theirs, shapes.weights)
  zeros = jax.jit(
    lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.replay),
    out_shardings=jax.tree.map(lambda x: x.sharding, shapes.replay),
  )
  replay, num = zeros(), config['replay'].get('own_texts', 0)
  if num and writes:
    tokenizer, model = run_inputs.stream.tokenizer, run_inputs.model
    writer = chat_format.load_writer(run_inputs.base_model, tokenizer)
    form = asking.make_form(tokenizer, writer and writer.template)
    # On a CPU this takes minutes, in which nothing else would be said.
    with progress.phase('initial model: texts of its own', num) as phase:
      texts = rehearsal_texts.write(
        model, weights, tokenizer, form, num=num,
        width=config['consolidate']['max_length'], seed=run_inputs.seed,
        people=config['replay'].get('about_people', 0),
        advance=phase.advance,
      )  # fmt: skip
    replay = rehearsal_texts.insert(replay, texts, model, weights, placement)
  return state_lib.InitialModel(weights, replay)


def _checkpoints(home, config):
  return checkpoints.Checkpoints(
    str(home / 'pretrain' / 'checkpoints'),
    config=compatibility.kept(config, pretraining=True),
  )
