"""Builds the wake step of a strategy: its optimizers, its likelihood, its step.

Which parameters are trained, by which optimizer and how often follows from
`Strategy.owners` and the levels of the model.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import optax

from sleep_jax import types
from sleep_jax.config import files
from sleep_jax.objectives import chunked_losses, losses
from sleep_jax.optim import day_schedule, gradient_accumulation, optimizer
from sleep_jax.strategies import strategy as strategy_lib
from sleep_jax.wake import step as step_lib
from sleep_jax.wake import terms


@dataclasses.dataclass(frozen=True)
class Optimizers:
  """The wake optimizers of a strategy, by owner.

  Attributes:
    txs: the optimizers.
    periods: number of wake steps whose gradients are summed for one update.
    owned_paths: paths of the parameters that an optimizer updates.
  """

  txs: Mapping[str, optax.GradientTransformation]
  periods: Mapping[str, int]
  owned_paths: Mapping[str, Sequence[str]]


def make_optimizers(
  config: ml_collections.ConfigDict,
  model: types.Model,
  strategy: strategy_lib.Strategy,
  learning_rate: float | None,
) -> Optimizers:
  """Returns the wake optimizers of a strategy.

  Args:
    config: of the run.
    model: whose parameters are trained.
    strategy: names the owners.
    learning_rate: replaces the config's for every owner, if not None.
  """
  levels = model.config.levels
  txs, periods, owned_paths = {}, {}, {}
  depth = tuple(config.wake.get('depth', (0.0, 1.0)))
  shapes = jax.eval_shape(
    functools.partial(strategy.extend, config),
    jax.random.key(0),
    model.shapes(),
  )
  for name, owners in strategy.owners.items():
    settings = dict(files.find(config, strategy_lib.optimizer_section(name)))
    if learning_rate is not None:
      settings['learning_rate'] = learning_rate
    txs[name] = optimizer.make(**settings)
    is_level = name.isdigit()
    if is_level and depth != (0.0, 1.0):
      txs[name] = optimizer.only_layers(txs[name], *depth)
    if has_day_decay(config) and name != 'core':
      txs[name] = day_schedule.with_cosine(txs[name], config.wake.final)
    periods[name] = levels[int(name) - 1].update_period if is_level else 1
    owned_paths[name] = tuple(
      path
      for path in optimizer.select_owned(
        shapes.trainable, owners, num_levels=len(levels)
      )
      if strategy.trains(path)
    )
  return Optimizers(txs, periods, owned_paths)


def has_day_decay(config: ml_collections.ConfigDict) -> bool:
  """Returns whether the learning rate falls during a day."""
  return config.wake.get('final', 1.0) != 1


def make_step(
  config: ml_collections.ConfigDict,
  strategy: strategy_lib.Strategy,
  optimizers: Optimizers,
  likelihood: terms.Likelihood,
  *,
  age_groups: Sequence[str],
  eos: int,
  penalty: terms.Penalty | None,
  learns_rows: bool,
  transform: terms.Transform | None,
) -> Callable:
  """Returns the wake step of a strategy, see `wake.step.make`.

  Args:
    config: of the run.
    strategy: may wrap the step.
    optimizers: of the strategy.
    likelihood: see `make_likelihood`.
    age_groups, eos, penalty, learns_rows, transform: see `wake.step.make`.

  Raises:
    ConfigError: `wake.micro_batches` does not divide a batch size.
  """
  sizes = {'data.batch_size': config.data.batch_size}
  if config.data.day_batch_size:
    sizes['data.day_batch_size'] = config.data.day_batch_size
  gradient_accumulation.check_divisible(
    config.wake.micro_batches, sizes, 'wake.micro_batches'
  )
  step = step_lib.make(
    likelihood,
    optimizers.owned_paths,
    optimizers.txs,
    optimizers.periods,
    age_groups=age_groups,
    eos=eos,
    penalty=penalty,
    learns_rows=learns_rows,
    transform=transform,
    micro_batches=config.wake.micro_batches,
    has_day_decay=has_day_decay(config) and 'core' not in optimizers.txs,
  )
  return strategy.wrap(step)


def make_likelihood(
  config: ml_collections.ConfigDict, model: types.Model
) -> terms.Likelihood:
  """Returns the token log-likelihood, with logits in blocks if configured.

  Args:
    config: of the run.
    model: with its arrays placed on the mesh.
  """
  tokens = config.wake.block_tokens

  def likelihood(weights, tokens_BT, segments_BT, positions_BT, loss_BT):
    inputs = segments_BT, positions_BT
    if not tokens:
      logits_BTV = model.forward(weights, tokens_BT, *inputs)
      return losses.log_likelihood(logits_BTV, tokens_BT)
    states_BTD = model.states(weights, tokens_BT, *inputs)
    # All positions are scored, so that a block has a round size; the last one
    # has no next token and is dropped.
    next_BT = jnp.roll(tokens_BT, -1, 1)
    logits = functools.partial(model.logits, weights)
    if config.data.loss_on == 'response':
      next_loss_BT = jnp.roll(loss_BT, -1, 1).at[:, -1].set(0)
      return chunked_losses.target_log_likelihood(
        states_BTD, next_BT, next_loss_BT, logits, tokens=tokens
      )[:, :-1]
    score_BT = chunked_losses.log_likelihood(
      states_BTD,
      next_BT,
      logits,
      tokens=tokens,
      place=functools.partial(model.place, 'block'),
    )
    return score_BT[:, :-1]

  return likelihood
