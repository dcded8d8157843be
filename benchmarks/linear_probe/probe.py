"""Ridge regression of the labels of `images` on their pixels.

A pixel is a one-hot vector of its grey level. The strength of the penalty is
the one that does best on the questions that are scored, which favours the
probe.
"""

import ml_collections
import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset
from sleep_jax.evaluate import cycles
from sleep_jax.runs import inputs
from sleep_jax.storage import provenance, workdir

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
DEFAULT = 'small/images'


def fit(
  x_NF: np.ndarray, label_N: np.ndarray, num_labels: int, penalty: float
) -> np.ndarray:
  """Returns the weights [F, labels] of ridge regression on one-hot labels.

  Args:
    x_NF: features.
    label_N: labels, from 0.
    num_labels: number of labels.
    penalty: added to the diagonal of X^T X.
  """
  target_NC = np.eye(num_labels)[label_N]
  gram_FF = x_NF.T @ x_NF + penalty * np.eye(x_NF.shape[1])
  return np.linalg.solve(gram_FF, x_NF.T @ target_NC)


def features(texts: list[str]) -> np.ndarray:
  """Returns one-hot grey levels of all pixels, and a constant, f64 [N, F].

  Args:
    texts: rows or questions, which begin with equally many pixels.
  """
  pixels_NP = np.array([
    [int(pixel) for pixel in text.partition(':')[0]] for text in texts
  ])  # fmt: skip
  levels = np.arange(10)
  one_hot = (pixels_NP[..., None] == levels).reshape(len(texts), -1)
  return np.concatenate([one_hot, np.ones((len(texts), 1))], 1).astype(float)


def accuracies(made: dataset.Dataset) -> dict[str, float]:
  """Returns the accuracy of the probe on 'pretrain' and 'days', and chance.

  Args:
    made: the dataset `images`.
  """
  labels = [text for text, _ in made.candidates['label']]
  rows = [*made.pretrain]
  for _, experience in made.experiences:
    rows += experience
  x_NF = features([row.text for row in rows])
  label_N = np.array([labels.index(r.text[r.response_start :]) for r in rows])
  asked = {
    'pretrain': made.probes['pretrain'],
    'days': [
      p for key, g in made.probes.items() if key != 'pretrain' for p in g
    ],
  }
  questions = {
    name: (
      features([probe.prompt for probe in group]),
      np.array([labels.index(probe.answer) for probe in group]),
    )
    for name, group in asked.items()
  }
  found = dict.fromkeys(asked, 0.0)
  for penalty in PENALTIES:
    weights_FC = fit(x_NF, label_N, len(labels), penalty)
    for name, (x_QF, answer_Q) in questions.items():
      right = np.argmax(x_QF @ weights_FC, 1) == answer_Q
      found[name] = max(found[name], float(np.mean(right)))
  return {**found, 'chance': 1 / len(labels)}


def run(config: ml_collections.ConfigDict) -> dict:
  """Returns the accuracies of each seed of a config, and their means.

  Raises:
    ConfigError: the config has another dataset.
  """
  if config.data.dataset != 'images':
    raise errors.ConfigError(
      f"config.data.dataset is {config.data.dataset!r}: expected 'images', as "
      f'in --config={DEFAULT}.'
    )
  seeds = {
    str(seed): accuracies(
      inputs.read_dataset(config, workdir.path('.'), int(seed))
    )
    for seed in config.seeds
  }
  return {
    'config': config.name, 'revision': provenance.revision(),
    'path': bool(config.data.path), 'seeds': seeds,
    'mean_and_half_of_interval': {
      name: cycles.mean_and_interval(one[name] for one in seeds.values())
      for name in ('pretrain', 'days', 'chance')
    },
  }  # fmt: skip
