"""Retrieval-augmented generation (RAG), a baseline: nothing is learned.

Each question is preceded by the rows of the experiences so far that are nearest
to it by BM25. Every row is kept as text.

References: 2005.11401 (retrieval before generation); BM25, Robertson and
Zaragoza 2009.
"""

import dataclasses
import functools

from sleep_jax.evaluate import prompted
from sleep_jax.strategies import icl, strategy

NAME = 'rag'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the prompt.

  Attributes:
    width: most tokens of a prompt, BOS included.
    rows: most rows before a question.
  """

  width: int
  rows: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  check = functools.partial(prompted.check, name=NAME)
  return icl.unlearned(NAME, _evaluator, check=check)


def _evaluator(config, evaluator, stream):
  settings = Settings(**config[NAME])
  nearest = functools.partial(prompted.nearest, rows=settings.rows)
  return prompted.PromptedEvaluator(
    evaluator, stream, nearest, width=settings.width
  )
