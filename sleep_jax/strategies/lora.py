"""LoRA, a baseline: one low-rank adapter is trained over all days.

All weights are frozen. The adapter's product starts at 0, and is trained on the
same batches as the other strategies. It is not scaled: with Adam the factor
alpha / rank of the paper acts as the learning rate does.

References: 2106.09685, sections 4.1 and 4.2.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax.model import lora
from sleep_jax.optim import optimizer
from sleep_jax.strategies import strategy

NAME = 'lora'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the adapter.

  Attributes:
    rank: columns of the low-rank factors.
    targets: names of the matrices, see `model.lora.TARGETS`.
    optimizer: arguments of `optim.optimizer.make`.
  """

  rank: int
  targets: Sequence[str]
  optimizer: Mapping[str, Any]


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  del num_levels
  return strategy.Strategy(
    name=NAME,
    owners={NAME: (optimizer.ADAPTER,)},
    sleeps=False,
    plan=strategy.sequential_plan,
    sources=strategy.sequential_sources,
    extend=_with_adapter,
    tuned=True,
  )


def _with_adapter(config, key, weights):
  """Returns the weights with an untrained adapter of the initial model.

  Levels that were added to it, which add 0, have no adapter.
  """
  lora.check_targets(config.lora.targets, NAME)
  num_levels = len(config.levels)
  added = config.model.arrangement != 'depth'
  owners = ('core', *strategy.optimizer_per_level(1 if added else num_levels))
  own = optimizer.select_owned(weights.params, owners, num_levels=num_levels)
  adapter = lora.init(
    key, own, rank=config.lora.rank, targets=config.lora.targets
  )
  return weights.replace(adapter=adapter)
