"""Absorption: consolidates a whole full bank into the base of its level.

It makes room for new experts as a merge does, but the student is the model with
the bank switched off, and what is trained is the MLP of the slowest level.
Afterwards the bank is empty, so a chain of levels never has a last night.

References: 2606.03979 v2 section 3.3 leaves a full bank open; docs/method.md,
"Experts".
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.sleep import consolidation, expert_merge
from sleep_jax.sleep import settings as settings_lib

State = state_lib.State


@dataclasses.dataclass(frozen=True)
class Absorption(expert_merge.MakingRoom):
  """Empties the receiver's bank before a sender's night."""

  def fall_asleep(self, state: State) -> State:
    """Copies the base of the receiver, which is trained."""
    r = self.night.receiver
    base = consolidation.base_params(state.weights.params, r)
    fresh = {str(r): jax.tree.map(jnp.copy, base)}
    night = self.empty_night(state, fresh, sender_next={}, opt_next=())
    return state.replace(night=night)

  def student(self, state: State) -> types.Weights:
    """Returns the model with the trained base in place of the whole bank."""
    r, weights = self.night.receiver, self.night.anchor_weights(state)
    weights = weights.replace(active_NE=weights.active_NE.at[r - 1].set(0))
    return weights.with_params(state.night.fresh[str(r)])

  def wake_up(self, state: State) -> State:
    """Commits: the base has what the bank had, and all slots are free."""
    r = self.night.receiver
    params = state.night.fresh[str(r)] | consolidation.untrained_bank(
      self.model, r, self.key(state, 2)
    )
    active_NE = state.weights.active_NE.at[r - 1].set(0)
    weights = state.weights.with_params(params).replace(active_NE=active_NE)
    return state.replace(weights=weights, night=None)


def absorption_settings(
  night: settings_lib.Settings,
) -> settings_lib.Settings:
  """Returns the settings of an absorption.

  Args:
    night: settings of a consolidation, see `expert_merge.merge_settings`.
  """
  settings = expert_merge.merge_settings(night)
  return dataclasses.replace(settings, into=settings_lib.BASE)
