"""A tiny model with the parts and the state of a strategy's method."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.optim import optimizer
from sleep_jax.strategies import method, strategy
from tests import testing


class Made:
  """The method of a strategy, and the state of its first step.

  Attributes:
    model, weights: a tiny model with random weights.
    method: of the strategy.
    state: with the strategy's arrays; nothing is trained.
  """

  def __init__(self, made: strategy.Strategy, **settings: Any):
    """Builds the method.

    Args:
      made: the strategy.
      **settings: changed fields of its section of the config.
    """
    config = testing.config()
    if settings:
      config[made.name].update(settings)
    self.model = testing.tiny()
    weights = testing.weights(self.model)
    self.weights = made.extend(config, jax.random.key(1), weights)
    adapter = 'adapter' in str(made.owners)
    paths = [
      path
      for path in self.weights.trainable
      if 'experts' not in path.split('/')
      and path.startswith('adapter/') == adapter
      and made.trains(path)
    ]
    forward = testing.forward(self.model)
    likelihood = lambda weights, tokens_BT, *inputs: losses.log_likelihood(
      forward(weights, tokens_BT, *inputs[:2]), tokens_BT
    )
    txs = {name: optimizer.make(learning_rate=1e-2) for name in made.owners}
    self.method = made.build(
      method.Parts(
        config, self.model, likelihood, paths, testing.BOS, testing.EOS, txs
      )
    )
    trained = method.trained(self.weights, paths)
    self.state = state_lib.State(
      step=jnp.int32(0),
      key=jax.random.key(0),
      weights=self.weights,
      sums={},
      opt={name: tx.init(trained) for name, tx in txs.items()},
      anchor={},
      woke_N=jnp.zeros((2,), jnp.int32),
      guard_N=jnp.zeros((2,)),
      replay={},
      strategy=self.method.allocate(self.weights),
    )

  @functools.cached_property
  def penalty(self) -> Any:
    """(state, batch) -> value of the method's terms of the loss."""

    def value(state, batch):
      state, found, _ = self.method.penalty(state, batch)
      return sum(t.loss_fn(state.weights, t.rows) for t in found)

    return jax.jit(value)

  def finish(self, state: state_lib.State, moment: str) -> state_lib.State:
    """Returns the state after the end of a review."""
    finish = functools.partial(self.method.finish, moment=moment)
    return jax.jit(finish)(state)[0]

  def outputs(self, weights: types.Weights) -> jax.Array:
    """Returns logits of a batch."""
    batch = testing.batch()
    return testing.forward(self.model)(
      weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT
    )


def moved(state: state_lib.State, by: float = 0.05) -> state_lib.State:
  """Returns the state with all trained parameters changed a little."""
  params = {
    path: x + by * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    for path, x in state.weights.trainable.items()
    if 'experts' not in path.split('/')
  }
  return state.replace(weights=state.weights.with_params(params))
