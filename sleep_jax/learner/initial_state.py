"""The first state of a life: what it holds of which array, and its room."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state, types
from sleep_jax.model import config as config_lib
from sleep_jax.replay import buffer, row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy
from sleep_jax.wake import kl_penalty


@dataclasses.dataclass(frozen=True)
class InitialModel:
  """What birth leaves behind: the same for every strategy of a seed."""

  weights: types.Weights
  replay: dict[str, state.AgeGroup]


Array = types.Array


@dataclasses.dataclass(frozen=True)
class InitialState:
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
  levels: Sequence[config_lib.Level]
  kind: strategy.Strategy
  txs: Mapping[str, optax.GradientTransformation]
  moving: Mapping[str, Sequence[str]]
  senders: Sequence[int]
  document: int
  averaged: bool
  kl_penalty: kl_penalty.AnchorPenalty | None

  def state(
    self,
    weights: types.Weights,
    age_groups: Mapping[str, state.AgeGroup],
    key: Array,
    guard: Array | float,
  ) -> state.State:
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
    made = buffer.empty(
      capacities(c, self.levels, self.kind), width=c.data.max_prompt,
      document=self.document,
    )  # fmt: skip
    room = buffer.stored_tokens(
      buffer.empty(_ring(c, self.levels), width=c.data.max_prompt)
    )
    sleepers = [str(sender) for sender in self.senders if sender]
    copied = lambda names: {n: jax.tree.map(jnp.copy, own[n]) for n in names}
    return state.State(
      step=jnp.zeros((), jnp.int32),
      key=jax.random.fold_in(key, 1),
      weights=weights,
      sums={n: jax.tree.map(jnp.zeros_like, own[n]) for n in own},
      opt={n: self.txs[n].init(own[n]) for n in own},
      anchor=copied(sleepers),
      woke_N=jnp.zeros((num_levels,), jnp.int32),
      guard_N=jnp.full((num_levels,), guard, jnp.float32),
      replay=made
      | (jax.tree.map(jnp.copy, age_groups) if self.senders else {}),
      kl_penalty=None
      if self.kl_penalty is None
      else self.kl_penalty.empty(weights),
      average=copied(sleepers if self.averaged else ()),
      memory=(
        row_buffer.empty(room, width=c.data.context)
        if self.kind.memory
        else None
      ),
    )


def capacities(
  config: Any, levels: Sequence[config_lib.Level], kind: strategy.Strategy
) -> dict[str, int]:
  """Prompts that each band holds which a strategy fills itself."""
  ring = _ring(config, levels)
  if kind.name == 'pretrain':
    return {name: ring[name] for name in ring if name == buffer.PRETRAIN}
  if kind.sleeps:
    return {name: ring[name] for name in ring if name != buffer.PRETRAIN}
  return {}


def _ring(config, levels) -> dict[str, int]:
  """Capacities of sleep's bands."""
  if config.replay.store == 'none':
    return {}
  days = {
    buffer.day(number): config.replay.day for number in events.sleepers(levels)
  }
  return {
    buffer.PRETRAIN: config.replay.pretrain,
    buffer.PAST: config.replay.past,
    **days,
  }
