"""Builds the ability evaluator of a run, and the guard of a base model."""

import dataclasses

import ml_collections

from sleep_jax import errors
from sleep_jax.evaluate import ability_evaluator, asking, own_texts
from sleep_jax.interop import chat_format
from sleep_jax.runs import inputs
from sleep_jax.storage import workdir

FOLDER = 'ability'  # In the folder of a seed.


def settings(config: ml_collections.ConfigDict) -> ability_evaluator.Settings:
  """Returns the settings of a config; configs of earlier versions have none."""
  return ability_evaluator.Settings(**config.get('ability', {}))


def compares(config: ml_collections.ConfigDict, made: inputs.RunInputs) -> bool:
  """Returns whether the initial model is needed after a run has begun.

  Its arrays take as much memory as those of the run.

  Args:
    config: of the study.
    made: inputs of a seed.
  """
  held_out = made.stream.held_out is not None
  return bool(
    (held_out and config.evaluate.held_out_batches)
    or len(config.tune.learning_rates) > 1
    or config.guard.on
    or settings(config).on
  )


def check(config: ml_collections.ConfigDict, made: inputs.RunInputs) -> None:
  """Checks that the sets can be read, and that a guard has what it needs.

  Args:
    config: of the study.
    made: inputs of a seed.

  Raises:
    ConfigError: there is nothing to guard, or no model that could write texts
      before its first day, or see `load`.
    MissingFileError, StorageError, DataError: see `load`.
  """
  load(config, made)
  num = config.replay.get('own_texts', 0)
  if num and made.base_model is None:
    raise errors.ConfigError(
      f'config.replay.own_texts is {num}, but there is no base model that '
      'could write them: name one in config.pretrain.base_model, or set it to '
      "0 and leave out the teacher 'first'."
    )
  if config.guard.on and made.stream.guard is None and made.base_model is None:
    raise errors.ConfigError(
      f'config.guard.on: the dataset {config.data.dataset!r} has no probes '
      'for a guard, and the model is no base model. Set config.guard.on=False.'
    )


def load(
  config: ml_collections.ConfigDict, made: inputs.RunInputs
) -> ability_evaluator.Given | None:
  """Reads the sets that a config names; None if nothing is measured.

  Args:
    config: of the study.
    made: inputs of a seed.

  Raises:
    ConfigError: the model has no chat template, and one is asked for.
    MissingFileError, StorageError, DataError: a set cannot be used.
  """
  wanted = settings(config)
  if not wanted.on:
    return None
  tokenizer = made.stream.tokenizer
  return ability_evaluator.load(wanted, tokenizer, _form(made, wanted.form))


def with_ability(
  config: ml_collections.ConfigDict,
  made: inputs.RunInputs,
  folder: workdir.Folder,
  *,
  has_end: bool,
) -> inputs.RunInputs:
  """Returns the inputs with an evaluator of abilities, and the guard's texts.

  Each is left out if the config does not ask for it. The guard of a model that
  was pretrained here has questions instead of texts.

  Args:
    config: of the study.
    made: with an initial model.
    folder: its work directory.
    has_end: whether the last day is known, see `AbilityEvaluator`.
  """
  given = load(config, made)
  parts = made.model, made.initial_model.weights, made.stream.tokenizer
  home = folder / f'seed_{made.seed}' / FOLDER
  ability = texts = None
  if given is not None:
    ability = ability_evaluator.AbilityEvaluator(
      *parts, given, home, has_end=has_end
    )
  if config.guard.on and made.base_model is not None:
    texts = own_texts.OwnTexts(*parts, _form(made, 'auto'), home)
  return dataclasses.replace(made, ability=ability, own_texts=texts)


def _form(made: inputs.RunInputs, kind: str) -> asking.Form:
  """Returns how the model of a seed is asked."""
  tokenizer, template = made.stream.tokenizer, None
  if kind != 'plain':
    writer = chat_format.load_writer(made.base_model, tokenizer)
    if writer is None and kind == 'chat':
      where = (
        'it was pretrained here' if made.base_model is None
        else f'{made.base_model.folder} has none'
      )  # fmt: skip
      raise errors.ConfigError(
        "config.ability.form is 'chat', but the model has no chat template "
        f"({where}): set config.ability.form='plain', which asks it as "
        '"Question: ..." and shows three examples of reading, or \'auto\'.'
      )
    template = writer and writer.template
  return asking.make_form(tokenizer, template)
