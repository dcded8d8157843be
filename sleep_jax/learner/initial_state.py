"""Builds the initial state of a run and allocates its buffers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.replay import buffer, row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import strategy as strategy_lib
from sleep_jax.wake import kl_penalty

Array = types.Array


@dataclasses.dataclass(frozen=True)
class StateBuilder:
  """Builds the state at step 0.

  Attributes:
    config: of the run.
    levels: of the model.
    strategy: of the run.
    txs: owner -> its wake optimizer.
    owned_paths: owner -> paths of its parameters.
    senders: levels that sleep; 0 is the context.
    document: maximum tokens of a document that replay stores; 0: none.
    kl_penalties: those of the wake step.
    allocate: makes the strategy's own arrays, see `strategies.method`.
  """

  config: Any
  levels: Sequence[config_lib.Level]
  strategy: strategy_lib.Strategy
  txs: Mapping[str, optax.GradientTransformation]
  owned_paths: Mapping[str, Sequence[str]]
  senders: Sequence[int]
  document: int
  kl_penalties: Sequence[kl_penalty.AnchorPenalty]
  allocate: Callable[[types.Weights], dict[str, Any]]

  def build(
    self,
    weights: types.Weights,
    age_groups: Mapping[str, state_lib.AgeGroup],
    key: Array,
    guard: Array | float,
  ) -> state_lib.State:
    """Returns the state at step 0.

    Args:
      weights: of the initial model. The state uses them without a copy; its
        other arrays are copies.
      age_groups: replay age groups that pretraining filled.
      key: of the run.
      guard: score of the initial model, see `RunContext.guard_score`.
    """
    c = self.config
    num_levels = len(self.levels)
    weights = self.strategy.extend(c, jax.random.fold_in(key, 2), weights)
    own = {
      name: {path: weights.trainable[path] for path in paths}
      for name, paths in self.owned_paths.items()
    }
    replay = buffer.allocate(
      replay_capacities(c, self.levels, self.strategy),
      width=c.data.max_prompt,
      document_width=self.document,
      replaces=bool((c.get('questions') or {}).get('on')),
      answer_width=answer_width(c) * self._stores_answers,
    )
    num_own = c.replay.get('own_texts', 0)
    if self.strategy.name == 'pretrain' and num_own:
      replay[buffer.OWN_TEXTS] = buffer.allocate_own_texts(
        num_own, width=c.consolidate.max_length,
        state_size=weights.params['embed'].shape[1],
      )  # fmt: skip
    # The row buffer of `er` has as many tokens as the prompts of `sleep`, and
    # their answers if these are stored.
    row_tokens = buffer.token_capacity(
      buffer.allocate(
        _sleep_capacities(c, self.levels), width=c.data.max_prompt,
        answer_width=answer_width(c),
      )
    )  # fmt: skip
    sleepers = [str(s) for s in self.senders if str(s) in own]
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
      replay=replay | (self._copy(age_groups) if self.senders else {}),
      **{p.name: p.allocate(weights) for p in self.kl_penalties},
      strategy=self.allocate(weights),
      row_buffer=(
        row_buffer.allocate(
          row_tokens, width=c.data.context, dated=self.strategy.dates_rows
        )
        if self.strategy.stores_rows
        else None
      ),
    )

  @property
  def _stores_answers(self):
    return self.strategy.stores_answers or self.strategy.name == 'pretrain'

  def _copy(self, age_groups):
    """Returns copies of groups, with the answers if the strategy uses them."""
    if not self._stores_answers:
      age_groups = {n: g.replace(answers=None) for n, g in age_groups.items()}
    return jax.tree.map(jnp.copy, dict(age_groups))


def answer_width(config: Any) -> int:
  """Returns most tokens that are stored of an answer; 0: none are stored."""
  if config.replay.store != 'rows':
    return 0
  return config.consolidate.max_new


def replay_capacities(
  config: Any,
  levels: Sequence[config_lib.Level],
  strategy: strategy_lib.Strategy,
) -> dict[str, int]:
  """Returns the capacity of each age group that a strategy fills, in prompts.

  Pretraining fills the group of pretraining, a strategy that sleeps all others,
  and any other strategy none.
  """
  capacities = _sleep_capacities(config, levels)
  if strategy.name == 'pretrain':
    return {n: capacities[n] for n in capacities if n == buffer.PRETRAIN}
  if strategy.sleeps:
    return {n: capacities[n] for n in capacities if n != buffer.PRETRAIN}
  return {}


def _sleep_capacities(config, levels) -> dict[str, int]:
  """Returns the capacity of every age group that `sleep` uses, in prompts."""
  if config.replay.store == 'none':
    return {}
  days = {
    buffer.day_group(number): config.replay.day
    for number in events.sleepers(levels)
  }
  return {
    buffer.PRETRAIN: config.replay.pretrain,
    buffer.PAST: config.replay.past,
    **days,
  }
