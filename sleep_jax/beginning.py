"""The first state of a life: what it holds of which array, and its room."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import schedule, types
from sleep_jax import state as state_lib
from sleep_jax.model import config as model_config
from sleep_jax.phases import replay, tether
from sleep_jax.strategies import er, strategy

Array = types.Array


@dataclasses.dataclass(frozen=True)
class Beginning:
  """What a first state is made of.

  Attributes:
    config: of the run.
    levels: of the model.
    kind: the strategy.
    txs: an optimizer for each owner of parameters,
    moving: and what it owns, as paths.
    senders: levels that sleep; 0 is the context.
    document: most tokens of a document that replay keeps; 0: none.
    averaged: whether a teacher is the average of a day.
    tether: what holds a day, if anything does.
  """

  config: Any
  levels: Sequence[model_config.Level]
  kind: strategy.Strategy
  txs: Mapping[str, optax.GradientTransformation]
  moving: Mapping[str, Sequence[str]]
  senders: Sequence[int]
  document: int
  averaged: bool
  tether: tether.Tether | None

  def state(
    self,
    weights: types.Weights,
    bands: Mapping[str, state_lib.Band],
    key: Array,
    guard: Array | float,
  ) -> state_lib.State:
    """The state at step 0.

    Args:
      weights: kept as they are; all that starts from them is a copy.
      bands: of replay, that birth has filled.
      guard: the newborn's score on the guard's probes.
    """
    c = self.config
    num_levels = len(self.levels)
    own = {
      name: {path: weights.params[path] for path in paths}
      for name, paths in self.moving.items()
    }
    made = replay.empty(
      capacities(c, self.levels, self.kind), width=c.data.max_prompt,
      document=self.document,
    )  # fmt: skip
    room = replay.stored_tokens(
      replay.empty(_ring(c, self.levels), width=c.data.max_prompt)
    )
    sleepers = [str(sender) for sender in self.senders if sender]
    copied = lambda names: {n: jax.tree.map(jnp.copy, own[n]) for n in names}
    return state_lib.State(
      step=jnp.zeros((), jnp.int32),
      key=jax.random.fold_in(key, 1),
      weights=weights,
      sums={n: jax.tree.map(jnp.zeros_like, own[n]) for n in own},
      opt={n: self.txs[n].init(own[n]) for n in own},
      anchor=copied(sleepers),
      woke_N=jnp.zeros((num_levels,), jnp.int32),
      guard_N=jnp.full((num_levels,), guard, jnp.float32),
      replay=made | (jax.tree.map(jnp.copy, bands) if self.senders else {}),
      tether=None if self.tether is None else self.tether.empty(weights),
      average=copied(sleepers if self.averaged else ()),
      memory=(
        er.empty(room, width=c.data.context) if self.kind.memory else None
      ),
    )


def capacities(
  config: Any, levels: Sequence[model_config.Level], kind: strategy.Strategy
) -> dict[str, int]:
  """Prompts that each band holds which a strategy fills itself."""
  ring = _ring(config, levels)
  if kind.name == 'birth':
    return {name: ring[name] for name in ring if name == replay.BIRTH}
  if kind.sleeps:
    return {name: ring[name] for name in ring if name != replay.BIRTH}
  return {}


def _ring(config, levels) -> dict[str, int]:
  """Capacities of sleep's bands."""
  if config.replay.store == 'none':
    return {}
  days = {
    replay.day(number): config.replay.day
    for number in schedule.sleepers(levels)
  }
  return {
    replay.BIRTH: config.replay.birth,
    replay.PAST: config.replay.past,
    **days,
  }
