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
from sleep_jax.phases import consolidate
from sleep_jax.phases import night as night_lib

Array = types.Array
_DAY = 2**31 - 2  # Apart from the keys of other phases.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How firmly the day is held to the morning.

  Attributes:
    weight: of the divergence, beside the day's loss; 0: no tether.
    sequences: rows per wake step.
    draws: sequences that are written at each waking.
    bos_share, splice_share, cut_share, stem_share: of their prompts, see
      `replay.draw`.
  """

  weight: float
  sequences: int
  draws: int
  bos_share: float = 0.0
  splice_share: float = 0.0
  cut_share: float = 0.0
  stem_share: float = 0.0


@dataclasses.dataclass(frozen=True)
class Tether:
  """What the wake step adds to its loss.

  Attributes:
    night: of the fastest level: its anchor, its prompts, how it writes.
    settings: see `Settings`.
  """

  night: consolidate.Consolidation
  settings: Settings

  def empty(self) -> types.Rollout:
    return night_lib.blank(self.settings.draws, self.night.settings)

  def hold(
    self, state: state_lib.State
  ) -> tuple[state_lib.State, Callable[[types.Weights], Array], dict]:
    """What holds this step: see `wake.Hold`."""
    s, key = self.settings, jax.random.fold_in(state.key, state.step)
    write_key, choose_key = jax.random.split(jax.random.fold_in(key, _DAY))
    shares = dataclasses.asdict(s)
    weight = shares.pop('weight')
    author = night_lib.Teacher('anchor', 'old', **shares)
    waking = state.step == state.woke_N[self.night.sender - 1]
    rows = jax.lax.cond(
      waking, lambda: self.night.written(state, author, write_key),
      lambda: state.tether,
    )  # fmt: skip
    at_B = jax.random.randint(choose_key, (s.sequences,), 0, s.draws)
    some = jax.tree.map(lambda x: x[at_B], rows)
    anchor = self.night.teacher(state, 'anchor')
    theirs_BGD = self.night.states(anchor, some)
    mask_BG = losses.generated(some, theirs_BGD.shape[1])

    def strain(weights):
      value_BG = self.night.divergence(
        anchor, weights, theirs_BGD, self.night.states(weights, some)
      )
      return weight * losses.masked_mean(value_BG, mask_BG)

    written = jnp.sum(rows.length_B - rows.prompt_length_B)
    return (
      state.replace(tether=rows),
      strain,
      {
        'tokens': jnp.sum(some.length_B),
        'written': jnp.where(waking, written, 0),
      },
    )
