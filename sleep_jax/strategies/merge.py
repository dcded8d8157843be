"""Merged adapters, a baseline: the mean of one low-rank adapter per day.

Each experience trains a fresh adapter of the initial model. Afterwards the
model is the initial one plus the mean of the products of all adapters so far.
The mean is a running one, weighted by the number of adapters in it, so no
adapter is kept. It is a mean of products, and not of factors: those of adapters
that started from different random factors do not correspond.

References: 2510.13537 (count-weighted running mean, there of the factors, in
the most similar of several slots; here there is one).
"""

import functools

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.optim import optimizer
from sleep_jax.schedule import events
from sleep_jax.strategies import lora, method, strategy

NAME = 'merge'
Settings = lora.Settings
_KEY_OFFSET = 2**30 + 2**26  # Keeps its keys apart from others.


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  return strategy.fine_tuning(
    NAME, num_levels, owners={NAME: (optimizer.ADAPTER,)},
    extend=lora.adapter_of(NAME), reviews=(events.START, events.END),
    build=_build,
  )  # fmt: skip


def add_to_mean(
  mean: types.Params, adapter: dict, count: types.Array
) -> types.Params:
  """Returns the mean of `count + 1` products.

  Args:
    mean: of the first `count` products, by path.
    adapter: whose product is added, see `model.lora`.
    count: number of adapters in the mean.
  """
  return {
    path: mean[path] + (low['a'] @ low['b'] - mean[path]) / (count + 1)
    for path, low in adapter.items()
  }


def _build(parts: method.Parts) -> method.Method:
  """Returns reviews that begin an adapter, and that merge it."""
  del parts

  def allocate(weights):
    own = {path: weights.params[path] for path in weights.adapter}
    return {
      'initial': jax.tree.map(jnp.copy, own),
      'mean': {path: jnp.zeros(x.shape) for path, x in own.items()},
      'count': jnp.zeros((), jnp.int32),
    }

  def finish(state, *, moment):
    own = state.strategy
    key = jax.random.fold_in(
      jax.random.fold_in(state.key, state.step), _KEY_OFFSET
    )
    begin = functools.partial(lora.fresh, state, key)
    if moment == events.START:
      params = jax.tree.map(jnp.copy, own['initial'])
      return begin(params=params), method.counts()
    mean = add_to_mean(own['mean'], state.weights.adapter, own['count'])
    merged = {path: own['initial'][path] + x for path, x in mean.items()}
    state = begin(params=merged)
    own = own | {'mean': mean, 'count': own['count'] + 1}
    return state.replace(strategy=own), method.counts()

  return method.Method(allocate=allocate, finish=finish, moves_core=True)
