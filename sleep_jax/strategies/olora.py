"""Orthogonal low-rank adaptation (O-LoRA), a baseline.

Each experience trains a fresh adapter beside those of earlier experiences,
which are frozen. The loss has a term that is 0 if the new adapter reads
directions orthogonal to those that the earlier ones read. A finished adapter is
added to its matrix, which computes the same function; of its factors only the
one that reads is kept, for the term.

References: 2310.14152 (weight 0.5). As in the code of its authors, the term is
a sum of absolute values; in the paper it is one of squares.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.optim import optimizer
from sleep_jax.schedule import events
from sleep_jax.strategies import lora, method, strategy
from sleep_jax.wake import terms

NAME = 'olora'
_KEY_OFFSET = 2**30 + 2**25  # Keeps its keys apart from others.


@dataclasses.dataclass(frozen=True)
class Settings(lora.Settings):
  """Settings of the adapters.

  Attributes:
    rank, targets, optimizer: see `lora.Settings`.
    weight: of the sum of absolute products of factors in the loss.
    tasks: most experiences; there is room for the factors of so many.
  """

  weight: float
  tasks: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  return strategy.fine_tuning(
    NAME, num_levels, owners={NAME: (optimizer.ADAPTER,)},
    extend=lora.adapter_of(NAME), reviews=(events.END,), build=_build,
  )  # fmt: skip


def overlap(adapter: dict, past: dict) -> types.Array:
  """Returns `sum_i sum |A_i A^T|` over earlier tasks, matrices and layers.

  Args:
    adapter: the new one; its factor 'a' is A^T, `[L, D, R]`.
    past: path -> the same factor of earlier tasks, 'a' `[N, L, D, R]`; 0 where
      there is none yet.
  """
  products = {
    path: jnp.einsum('nldr,lds->nlrs', past[path]['a'], low['a'])
    for path, low in adapter.items()
  }
  return optax.tree.sum(jax.tree.map(jnp.abs, products))


def _build(parts: method.Parts) -> method.Method:
  """Returns the term of the loss, and reviews that finish an adapter."""
  settings = Settings(**parts.config[NAME])

  def allocate(weights):
    past = {
      path: {'a': jnp.zeros((settings.tasks, *low['a'].shape))}
      for path, low in weights.adapter.items()
    }
    return {'past': past, 'count': jnp.zeros((), jnp.int32)}

  def loss_fn(state, batch):
    del batch
    term = lambda weights, _: (
      settings.weight * overlap(weights.adapter, state.strategy['past'])
    )
    return state, [terms.Term(term)], method.counts()

  def finish(state, *, moment):
    del moment
    own, adapter = state.strategy, state.weights.adapter
    past = {
      path: {'a': own['past'][path]['a'].at[own['count']].set(low['a'])}
      for path, low in adapter.items()
    }
    params = {
      path: state.weights.params[path] + low['a'] @ low['b']
      for path, low in adapter.items()
    }
    key = jax.random.fold_in(
      jax.random.fold_in(state.key, state.step), _KEY_OFFSET
    )
    state = lora.fresh(state, key, params=params)
    own = {'past': past, 'count': own['count'] + 1}
    return state.replace(strategy=own), method.counts()

  return method.Method(
    allocate=allocate, penalty=loss_fn, finish=finish, moves_core=True,
    most_experiences=settings.tasks,
  )  # fmt: skip
