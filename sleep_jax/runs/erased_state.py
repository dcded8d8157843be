"""Removes what a state holds of one day: an expert and stored prompts."""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax.model import experts
from sleep_jax.wake import kl_penalty


@dataclasses.dataclass(frozen=True)
class Day:
  """A day that is erased.

  Attributes:
    night: the night that consolidated it.
    since, until: its wake steps are (since, until].
    cycle: its first cycle.
  """

  night: int
  since: int
  until: int
  cycle: int


def without_day(
  state: state_lib.State, level: int, slot: int, day: Day
) -> state_lib.State:
  """Returns the state without an expert's weights and a day's prompts.

  An erased prompt keeps its place in the reservoir, is never drawn, and is
  displaced like any other.

  Args:
    state: outside a night; the expert is switched off already.
    level, slot: of the expert.
    day: whose prompts, documents and answers are removed.
  """
  prefix = f'blocks/levels/{level}/experts/'
  zeros = {
    path.removeprefix(prefix): jnp.zeros_like(leaf[:, slot])
    for path, leaf in state.weights.params.items()
    if path.startswith(prefix)
  }
  params = experts.set_expert(state.weights, level, jnp.int32(slot), zeros)
  state = state.replace(
    weights=state.weights.with_params(params),
    replay={n: _without_prompts(g, day) for n, g in state.replay.items()},
  )
  return kl_penalty.without_rehearsals(state)


def _without_prompts(
  age_group: state_lib.AgeGroup, day: Day
) -> state_lib.AgeGroup:
  in_day_C = (age_group.step_C > day.since) & (age_group.step_C <= day.until)

  def clear(leaf, value=0):
    mask = in_day_C.reshape(-1, *[1] * (leaf.ndim - 1))
    return jnp.where(mask, jnp.asarray(value, leaf.dtype), leaf)

  return age_group.replace(
    tokens_CP=clear(age_group.tokens_CP),
    length_C=clear(age_group.length_C),
    subject_C2=clear(age_group.subject_C2),
    step_C=clear(age_group.step_C, -1),  # Before all that is ever drawn.
    documents=jax.tree.map(clear, age_group.documents),
    answers=jax.tree.map(clear, age_group.answers),
  )
