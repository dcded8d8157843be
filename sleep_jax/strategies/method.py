"""Defines a method: what a strategy adds to the wake step, and its reviews.

A method has arrays of its own in the state, `State.strategy`. It may add a term
to the loss and change the gradients. Between wake steps it has reviews: a
review reads batches of rows, without learning from them, and then updates the
arrays or the weights. All parts are pure functions of the state, so that a run
that is interrupted ends as one that is not.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.schedule import events
from sleep_jax.wake import terms

Array = types.Array
State = state_lib.State


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a method is made of.

  Attributes:
    config: of the run.
    model: with its arrays placed on the mesh.
    likelihood: of tokens, see `wake.terms.Likelihood`.
    paths: of the parameters that are trained, see `types.Weights.trainable`.
    bos, eos: token ids.
    txs: wake optimizers, see `Strategy.owners`; their states are `State.opt`.
  """

  config: Any
  model: types.Model
  likelihood: terms.Likelihood
  paths: Sequence[str]
  bos: int
  eos: int
  txs: Mapping[str, optax.GradientTransformation]


def _read_nothing(state: State, batch: types.Batch) -> tuple[State, dict]:
  """Reads no batch; see `Method.read`."""
  del batch
  return state, counts()


def _finish_nothing(state: State, *, moment: str) -> tuple[State, dict]:
  """Changes nothing; see `Method.finish`."""
  del moment
  return state, counts()


@dataclasses.dataclass(frozen=True)
class Method:
  """What a strategy adds to the wake step, and its reviews.

  Attributes:
    allocate: (weights of the initial model) -> `State.strategy` at step 0.
      Arrays of the weights have to be copied.
    penalty: further terms of the loss, see `wake.terms.Penalty`.
    learns_rows: whether the likelihood of the batch is a term of the loss; if
      not, the loss is that of `penalty` alone.
    transform: changes the gradients, see `wake.terms.Transform`.
    read: (state, batch) -> (state, counts); for each batch of a review.
    finish: (state, moment) -> (state, counts); ends a review. `moment` is one
      of `events.INITIAL`, `START` and `END`.
    moves_core: whether reviews change parameters that no step trains.
    num_batches: most batches that a review reads.
    read_at: moments whose reviews read batches.
    most_experiences: longest run that there is room for; None: any.
  """

  allocate: Callable[[types.Weights], dict[str, Any]] = lambda weights: {}
  penalty: terms.Penalty | None = None
  learns_rows: bool = True
  transform: terms.Transform | None = None
  read: Callable[..., tuple[State, dict]] = _read_nothing
  finish: Callable[..., tuple[State, dict]] = _finish_nothing
  moves_core: bool = False
  num_batches: int = 0
  read_at: Collection[str] = (events.INITIAL, events.START, events.END)
  most_experiences: int | None = None


def counts(
  tokens: Array | int = 0,
  written: Array | int = 0,
  forward: Array | int = 0,
  steps: Array | int = 0,
) -> dict:
  """Returns what a program cost.

  Args:
    tokens, written: numbers of tokens that it trained on and wrote.
    forward: number of tokens that it read without a backward pass.
    steps: optimizer steps of a review; those of wake steps count by themselves.
  """
  found = {
    'tokens': tokens, 'written': written, 'forward': forward, 'steps': steps
  }  # fmt: skip
  return {name: jnp.asarray(n, jnp.int32) for name, n in found.items()}


def zeros(params: types.Params) -> types.Params:
  """Returns zeros of the shapes of parameters, f32 for sums over rows."""
  return {path: jnp.zeros(x.shape) for path, x in params.items()}


def trained(weights: types.Weights, paths: Sequence[str]) -> types.Params:
  """Returns the trained parameters of the weights, without a copy."""
  trainable = weights.trainable
  return {path: trainable[path] for path in paths}
