"""Kernel discriminant analysis on frozen states (KLDA), a baseline.

Nothing of the model is learned. Each class has the mean of its prompts' random
features, all classes share a covariance, and a question gets the likeliest
class. It applies only to data sets whose answers are classes.

References: 2412.15571; there the mean of several such classifiers decides.
"""

import dataclasses
import functools

from sleep_jax.evaluate import classified
from sleep_jax.strategies import icl, strategy

NAME = 'klda'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the classifier.

  Attributes:
    features: number of random features.
    width: of the kernel, in medians of the distance of two prompts.
    ridge: added to the diagonal of the covariance, a share of its mean.
  """

  features: int
  width: float
  ridge: float


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  check = functools.partial(classified.check, name=NAME)
  return icl.unlearned(NAME, _evaluator, check=check)


def _evaluator(config, evaluator, stream):
  settings = Settings(**config[NAME])
  fit = functools.partial(
    classified.random_features, num=settings.features, width=settings.width,
    source=stream.dataset.name,
  )  # fmt: skip
  return classified.ClassifyingEvaluator(
    evaluator, stream, evaluator.model, fit=fit, ridge=settings.ridge
  )
