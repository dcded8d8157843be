"""In-context learning, a baseline: nothing is learned, the prompt has the rows.

Each question is preceded by the newest rows of the experiences so far, as many
as fit. Their tokens are read again for each question and are not counted as
learning.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from sleep_jax.evaluate import prompted
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy

NAME = 'icl'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the prompt.

  Attributes:
    width: most tokens of a prompt, BOS included.
  """

  width: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  check = functools.partial(prompted.check, name=NAME)
  return unlearned(NAME, _evaluator, check=check)


def unlearned(
  name: str, evaluator: strategy.Evaluate, **options: Any
) -> strategy.Strategy:
  """Returns a strategy that only evaluates, at the end of each experience.

  Args:
    name: of the strategy.
    evaluator: answers questions, see `strategy.Evaluate`.
    **options: further fields of `Strategy`.
  """
  return strategy.Strategy(
    name=name,
    owners={},
    sleeps=False,
    plan=_plan,
    sources=strategy.sequential_sources,
    evaluator=evaluator,
    **options,
  )


def _evaluator(config, evaluator, stream):
  return prompted.PromptedEvaluator(
    evaluator, stream, prompted.newest, width=config[NAME].width
  )


def _plan(*args: Any, **options: Any) -> Sequence[events.Event]:
  """Returns the events of other strategies without their wake steps."""
  plan = strategy.sequential_plan(*args, **options)
  return [event for event in plan if event.kind != events.WAKE]
