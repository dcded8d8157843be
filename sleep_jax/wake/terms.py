"""Types of what a wake step is made of: likelihood, penalty, transformation.

They are apart from the step, so that what provides them need not import it.
"""

from collections.abc import Callable

from sleep_jax import state as state_lib
from sleep_jax import types

Array = types.Array
State = state_lib.State
# (weights, tokens_BT, segments_BT, positions_BT, loss_BT) -> log-probability of
# each token but the first, `[B, T - 1]`; any number where `loss_BT` is 0.
Likelihood = Callable[[types.Weights, Array, Array, Array, Array], Array]
# (state, batch) -> the state, a further term of the loss as a function of the
# weights, and the numbers of `tokens` read and `written` for it.
Penalty = Callable[
  [State, types.Batch],
  tuple[State, Callable[[types.Weights], Array], dict[str, Array]],
]
# (state, batch, gradients by path) -> changed gradients, number of tokens read.
Transform = Callable[
  [State, types.Batch, types.Params], tuple[types.Params, Array]
]
