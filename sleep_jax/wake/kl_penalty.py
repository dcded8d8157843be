"""A tether: awake, the model is held to what it said as it woke.

Learning wears the old down before sleep can help. So at its waking the fastest
level, then still at its anchor, writes rehearsals on old prompts, and every
wake step adds to its loss how far the model now is from the anchor on some of
them. Nothing but what the night uses as well is stored or asked.

References: learning without forgetting, 1606.09282, on text of one's own; not
part of 2606.03979, off by default.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.sleep import consolidation, settings

Array = types.Array
_DAY = 2**31 - 2  # Apart from the keys of other phases.


@dataclasses.dataclass(frozen=True)
class AnchorPenalty:
  """What the wake step adds to its loss.

  Attributes:
    night: of the fastest level: its anchor, its prompts, how it writes.
    weight: of the divergence, beside the day's loss.
    author: the anchor, on old prompts: `draws` sequences are written at each
      waking, `sequences` of them read at each step.
  """

  night: consolidation.Consolidation
  weight: float
  author: settings.Teacher

  def empty(self, weights: types.Weights) -> types.Rollout:
    return self.night.empty_rollouts(weights, self.author.draws)

  def hold(
    self, state: state_lib.State
  ) -> tuple[state_lib.State, Callable[[types.Weights], Array], dict]:
    """What holds this step: see `wake.Hold`."""
    author, key = self.author, jax.random.fold_in(state.key, state.step)
    write_key, choose_key = jax.random.split(jax.random.fold_in(key, _DAY))
    waking = state.step == state.woke_N[self.night.sender]
    rows = jax.lax.cond(
      waking, lambda: self.night.sample_rollouts(state, author, write_key),
      lambda: state.kl_penalty,
    )  # fmt: skip
    at_B = jax.random.randint(choose_key, (author.sequences,), 0, author.draws)
    some = jax.tree.map(lambda x: x[at_B], rows)
    anchor = self.night.teacher(state, author.teacher)
    mask_BG = losses.generated_mask(some, some.states_BGD.shape[1])

    def strain(weights):
      value_BG = self.night.divergence(
        anchor, weights, some.states_BGD, self.night.states(weights, some)
      )
      return self.weight * losses.masked_mean(value_BG, mask_BG)

    written = jnp.sum(rows.length_B - rows.prompt_length_B)
    return (
      state.replace(kl_penalty=rows),
      strain,
      {
        'tokens': jnp.sum(some.length_B),
        'written': jnp.where(waking, written, 0),
      },
    )
