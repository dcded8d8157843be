"""Evaluates questions by a classifier on states of a model that stays as it is.

The answers of a data set that is ranked are its classes. The mean state of a
row's prompt is classified by `discriminant`, among the classes that have had
rows. Rows are read once, in the experience that brings them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import stream as stream_lib
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.evaluate import discriminant
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.runtime import processes

_ROWS = 64  # Prompts that the model reads at once.
# States `[N, D]` -> features `[N, F]`.
Features = Callable[[np.ndarray], np.ndarray]
# (weights, key of the probes, discriminants `[N, C]`, experience) -> the class
# of each question, `[N]`.
Choose = Callable[[types.Weights, str, np.ndarray, int], np.ndarray]


def check(stream: stream_lib.Stream, *, name: str) -> None:
  """Refuses a stream whose answers are no classes.

  Args:
    stream: of the run.
    name: of the strategy.

  Raises:
    ConfigError: the data set has no single set of labels that are ranked.
  """
  dataset = stream.dataset
  if dataset.score != 'rank' or len(dataset.candidates) != 1:
    raise errors.ConfigError(
      f'The data set {dataset.name!r} is scored by {dataset.score!r}, with '
      f'{len(dataset.candidates)} sets of candidates: a classifier needs one '
      f"set of labels that are ranked, as 'intents' has. Leave {name!r} out of "
      'config.strategies.'
    )


def random_features(
  x_ND: np.ndarray, *, num: int, width: float, source: str
) -> Features:
  """Draws random features whose kernel has the scale of some states.

  Args:
    x_ND: states of the first rows.
    num: number of features.
    width: of the kernel, in medians of the distance of two states.
    source: name of the data set, for errors.

  Raises:
    DataError: the states do not differ, so the kernel has no width.
  """
  width *= discriminant.median_distance(x_ND)
  if not width > 0:
    raise errors.DataError(
      f'The first {len(x_ND)} rows of {source!r} have no two texts, or half of '
      'their pairs or more are equal: the width of the kernel needs texts that '
      "differ. Add some, or leave 'klda' out of config.strategies."
    )
  drawn = discriminant.draw_features(x_ND.shape[1], num, width=width, seed=0)
  return drawn.__call__


def raw_states(x_ND: np.ndarray) -> Features:
  """Returns features that are the states themselves."""
  del x_ND
  return lambda x_ND: x_ND


def likeliest(
  weights: types.Weights, key: str, found_NC: np.ndarray, experience: int
) -> np.ndarray:
  """Returns the class of largest discriminant, `[N]`, see `Choose`."""
  del weights, key, experience
  return np.argmax(found_NC, 1)


class ClassifyingEvaluator:
  """An evaluator whose accuracies are those of a classifier.

  What is measured without questions stays as it is.
  """

  def __init__(
    self,
    evaluator: evaluator_lib.Evaluator,
    stream: stream_lib.Stream,
    model: types.Model,
    *,
    fit: Callable[[np.ndarray], Features],
    ridge: float,
    choose: Choose = likeliest,
  ):
    """Knows no class yet.

    Args:
      evaluator: of the stream.
      stream: whose rows have a prompt and a response, one of the candidates.
      model: whose states are classified.
      fit: (states of the first rows, `[N, D]`) -> features of states.
      ridge: see `discriminant.scores`.
      choose: the class of each question, see `Choose`.
    """
    self._base, self._stream = evaluator, stream
    self._fit, self._ridge, self._choose = fit, ridge, choose
    (labels,) = stream.dataset.candidates.values()
    self._class_of = {text.strip(): n for n, (text, _) in enumerate(labels)}
    self._features: Features | None = None
    self._known: discriminant.Classes | None = None
    self._num_known = 0
    self.sizes: dict[str, int] = {}  # See `Evaluator`.
    self._states = jax.jit(lambda *args: _mean_states(model, *args))

  def __getattr__(self, name: str) -> Any:
    """Returns an attribute of the evaluator of the stream."""
    return getattr(self._base, name)

  def evaluate(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Returns the numbers of `Evaluator.evaluate`, accuracies replaced.

    Raises:
      DataError: see `random_features`.
    """
    numbers = self._base.evaluate(weights, experience)
    self._learn(weights, experience)
    self.sizes = {'stored_bytes': sum(x.nbytes for x in self._known or ())}
    found = {
      key: self._accuracy(weights, key, group, experience)
      for key, group in self._stream.dataset.probes.items()
      if key in numbers['scores']
    }
    return numbers | {
      'scores': found, 'template_scores': {}, 'open_scores': {},
      'log_scores': {}, 'text_scores': {},
    }  # fmt: skip

  def second_scores(self, weights: types.Weights) -> dict[str, float]:
    """Returns no scores: those of generated answers are the base model's."""
    del weights
    return {}

  def _learn(self, weights, experience: int) -> None:
    """Adds the rows up to an experience; pretraining is number 0."""
    dataset = self._stream.dataset
    if experience < self._num_known - 1:  # Of another run: begins again.
      self._known, self._num_known = None, 0
    groups = [dataset.pretrain, *(rows for _, rows in dataset.experiences)]
    for rows in groups[self._num_known : experience + 1]:
      prompts, labels = self._split(rows)
      if prompts:
        x_ND = self._read(weights, prompts)
        if self._features is None:
          self._features = self._fit(x_ND)
        x_NF = self._features(x_ND)
        known = self._known or discriminant.no_classes(
          len(self._class_of), x_NF.shape[1]
        )
        self._known = discriminant.add(known, x_NF, np.array(labels))
    self._num_known = max(self._num_known, experience + 1)

  def _split(self, rows: Iterable[dataset_lib.Row]):
    """Returns prompts and classes; a row without a label teaches none."""
    prompts, labels = [], []
    for row in rows:
      start = row.response_start
      label = '' if start is None else row.text[start:].strip()
      if label in self._class_of:
        prompts.append(row.text[:start].rstrip())
        labels.append(self._class_of[label])
    return prompts, labels

  def _accuracy(
    self,
    weights,
    key: str,
    group: Sequence[dataset_lib.Probe],
    experience: int,
  ) -> float:
    if self._known is None or self._features is None:
      return 0.0
    x_ND = self._read(weights, [probe.prompt.rstrip() for probe in group])
    found_NC = discriminant.scores(
      self._known, self._features(x_ND), ridge=self._ridge
    )
    choice_N = self._choose(weights, key, found_NC, experience)
    right = [
      self._class_of[probe.answer.strip()] == choice
      for probe, choice in zip(group, choice_N, strict=True)
    ]
    return float(np.mean(right))

  def _read(self, weights, prompts: Sequence[str]) -> np.ndarray:
    """Returns the mean state of each prompt, `[N, D]`."""
    tokenizer = self._stream.tokenizer
    rows = [tokenizer.encode_prompt(prompt) for prompt in prompts]
    # One width for all calls, so that one program serves.
    known = next(iter(self._stream.probes.values()))
    width = known.prompts.tokens_BP.shape[1]
    found = []
    for start in range(0, len(rows), _ROWS):
      part = [row[:width] for row in rows[start : start + _ROWS]]
      tokens_BT = np.zeros((_ROWS, width), np.int32)
      length_B = np.ones(_ROWS, np.int32)
      for n, row in enumerate(part):
        tokens_BT[n, : len(row)], length_B[n] = row, len(row)
      states_BD = processes.fetch(self._states(weights, tokens_BT, length_B))
      found.append(np.asarray(states_BD, np.float64)[: len(part)])
    return np.concatenate(found)


def _mean_states(model, weights, tokens_BT, length_B):
  """Returns the mean of the head's inputs over each prompt, `[B, D]`."""
  states_BTD = model.states(weights, *types.model_inputs(tokens_BT, length_B))
  valid_BT1 = (jnp.arange(tokens_BT.shape[1])[None] < length_B[:, None])[
    ..., None
  ]
  total_BD = jnp.sum(jnp.where(valid_BT1, states_BTD, 0), 1)
  return total_BD / length_B[:, None]
