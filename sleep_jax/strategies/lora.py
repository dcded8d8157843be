"""LoRA, a baseline: one low-rank adapter is trained over all days.

All weights are frozen. The adapter's product starts at 0, and is trained on the
same batches as the other strategies. It is not scaled: with Adam the factor
alpha / rank of the paper acts as the learning rate does.

References: 2106.09685, sections 4.1 and 4.2.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
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
    extend=adapter_of(NAME),
    tuned=True,
  )


def adapter_of(name: str) -> strategy.Extend:
  """Returns a function that adds the adapter of a strategy to weights.

  Levels that were added to the initial model, which add 0, have no adapter.

  Args:
    name: of the section of the config, see `Settings`.
  """

  def extend(config, key, weights):
    settings = config[name]
    lora.check_targets(settings.targets, name)
    num_levels = len(config.levels)
    added = config.model.arrangement != 'depth'
    owners = ('core', *strategy.optimizer_per_level(1 if added else num_levels))
    own = optimizer.select_owned(weights.params, owners, num_levels=num_levels)
    adapter = lora.init(key, own, rank=settings.rank, targets=settings.targets)
    return weights.replace(adapter=adapter)

  return extend


def fresh(state: Any, key: types.Array, *, params: types.Params) -> Any:
  """Returns the state with an untrained adapter and optimizer state.

  Args:
    state: whose adapter ends.
    key: of the new one.
    params: matrices of the state, which may hold the product of the old one;
      they get the types of the state's own.
  """
  old = state.weights.params
  params = {path: x.astype(old[path].dtype) for path, x in params.items()}
  weights = state.weights.with_params(params)
  low = next(iter(weights.adapter.values()))
  own = {path: weights.params[path] for path in weights.adapter}
  adapter = lora.init(key, own, rank=low['a'].shape[-1], targets=lora.TARGETS)
  zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
  return state.replace(
    weights=weights.replace(adapter=adapter),
    opt=zeros(state.opt),
    sums=zeros(state.sums),
  )
