"""In-context learning with an external continual learner (InCA), a baseline.

Nothing of the model is learned. Each class is a Gaussian of its prompts' mean
states, with a covariance that all classes share. For each question the few
likeliest classes are kept, and the model ranks their labels. It applies only to
data sets whose answers are classes.

References: 2412.15563. There the Gaussians are of sentence embeddings of tags
that the model writes about a prompt.
"""

import dataclasses
import functools

from sleep_jax.evaluate import classified, narrowed
from sleep_jax.strategies import icl, strategy

NAME = 'inca'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the classifier.

  Attributes:
    top_k: number of classes whose labels the model ranks.
    ridge: added to the diagonal of the covariance, a share of its mean.
  """

  top_k: int
  ridge: float


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  check = functools.partial(classified.check, name=NAME)
  return icl.unlearned(NAME, _evaluator, check=check)


def _evaluator(config, evaluator, stream):
  settings = Settings(**config[NAME])
  choose = narrowed.Narrowing(stream, evaluator.model, top_k=settings.top_k)
  return classified.ClassifyingEvaluator(
    evaluator, stream, evaluator.model, fit=classified.raw_states,
    ridge=settings.ridge, choose=choose,
  )  # fmt: skip
