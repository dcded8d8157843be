"""Types of what a wake step is made of: likelihood, penalty, transformation.

They are apart from the step, so that what provides them need not import it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sleep_jax import state as state_lib
from sleep_jax import types

Array = types.Array
State = state_lib.State
# (weights, tokens_BT, segments_BT, positions_BT, loss_BT) -> log-probability of
# each token but the first, `[B, T - 1]`; any number where `loss_BT` is 0.
Likelihood = Callable[[types.Weights, Array, Array, Array, Array], Array]


class Term(NamedTuple):
  """A further term of the loss.

  Attributes:
    loss_fn: (weights, rows) -> sum over the rows.
    rows: tree of arrays `[B, ...]`; () for a term without rows.
    num: number of micro-batches that the rows are read in; it divides B.
  """

  loss_fn: Callable[[types.Weights, Any], Array]
  rows: Any = ()
  num: int = 1


# (state, batch) -> the state, further terms of the loss, and the numbers of
# `tokens` trained on, `written`, and read in `forward` passes for them.
Penalty = Callable[
  [State, types.Batch], tuple[State, Sequence[Term], dict[str, Array]]
]
# (state, batch, gradients by path) -> changed gradients, number of tokens
# trained on.
Transform = Callable[
  [State, types.Batch, types.Params], tuple[types.Params, Array]
]
