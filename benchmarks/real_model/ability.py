"""What a model could do before its first day: measured at start and end.

The initial model is measured once for all units of a work directory.
"""

import dataclasses
import pathlib
from typing import Any

import ml_collections

from benchmarks.real_model import recall
from sleep_jax import api
from sleep_jax.evaluate import ability_evaluator, asking
from sleep_jax.interop import open_model
from sleep_jax.model import layers, transformer


class Ability:
  """Measures learners against the initial model.

  Args:
    config: its section `ability` says on which sets; those of a run are
      switched off by `without`, because a run of which only the next day is
      known would measure the full sets every morning.
    first: the pretrained model.
    folder: keeps what the initial model answered.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    first: api.Learner,
    folder: pathlib.Path,
  ):
    settings = ability_evaluator.Settings(**config.get('ability', {}))
    self._first, self._folder = first.loaded, folder
    self._model = with_products(first.loaded, config)
    self._given = None
    if settings.on:
      # As in a run: without a chat template a model is asked in plain text.
      is_plain = settings.form == 'plain' or (
        settings.form == 'auto' and not recall.has_template(first)
      )
      template = None if is_plain else first.chat_template()
      self._given = ability_evaluator.load(
        settings, first.loaded.tokenizer,
        asking.make_form(first.loaded.tokenizer, template),
      )  # fmt: skip

  def initial(self) -> dict[str, Any] | None:
    """Returns the record of the initial model; None if nothing is measured."""
    if self._given is None:
      return None
    return self._evaluator(self._model).initial()['full']

  def final(self, learner: api.Learner) -> dict[str, Any] | None:
    """Returns the record of a learner on the full sets, or None.

    Args:
      learner: whose initial model was measured by `initial`.
    """
    if self._given is None:
      return None
    loaded = learner.loaded
    evaluator = self._evaluator(loaded.model)
    return evaluator.evaluate(loaded.weights, full=True)['full']

  def _evaluator(self, model) -> ability_evaluator.AbilityEvaluator:
    # Another machine may round factors, and its answers would be compared.
    rounds = layers.rounds(self._model.config.products)
    folder = self._folder / f'{self._given.fingerprint[:16]}_{rounds:d}'
    folder.mkdir(parents=True, exist_ok=True)
    # Once it is measured, only the head of the initial model is used, which is
    # the same in a network with more levels.
    return ability_evaluator.AbilityEvaluator(
      model, self._first.weights, self._first.tokenizer, self._given, folder
    )


def with_products(
  first: open_model.LoadedModel, config: ml_collections.ConfigDict
) -> transformer.Transformer:
  """Returns a pretrained network that multiplies matrices as a run does.

  Otherwise what rounding changes would count as a change of the model.

  Args:
    first: loaded without a config.
    config: of the run.
  """
  products = config.model.get('products', layers.FLOAT32)
  return transformer.Transformer(
    dataclasses.replace(first.model.config, products=products)
  )


def without(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns a config whose runs measure no ability."""
  config = config.copy_and_resolve_references()
  if 'ability' in config:
    config.ability.update(text='', reading='', prompts=0)
  return config
