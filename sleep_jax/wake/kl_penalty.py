"""KL penalty that keeps the model close to the anchor while it learns awake.

Learning a day overwrites old knowledge before the night can protect it. When
the fastest level wakes up, and is still equal to its anchor, it writes
rehearsals on old prompts. Each wake step then adds to its loss the divergence
of the model from the anchor on some of these rehearsals. The penalty uses the
prompts and anchors that the night stores anyway.

References: learning without forgetting, 1606.09282, applied to text that the
model wrote itself; not part of 2606.03979, off by default.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.replay import prompts
from sleep_jax.wake import terms

# Folded into the step's key, so that it differs from the keys of other phases.
_KEY_OFFSET = 2**31 - 2
NAMES = 'kl_penalty', 'second_kl_penalty'


def without_rehearsals(state: state_lib.State) -> state_lib.State:
  """Returns the state without rehearsals; the next wake step writes others."""
  return state.replace(
    **{
      name: jax.tree.map(jnp.zeros_like, getattr(state, name)) for name in NAMES
    }
  )


class Night(Protocol):
  """What the penalty needs of a night, see `sleep.consolidation`."""

  sender: int
  day_group: str
  empty_rollouts: Callable
  sample_rollouts: Callable
  with_own_states: Callable
  teacher: Callable
  states: Callable
  divergence: Callable


@dataclasses.dataclass(frozen=True)
class AnchorPenalty:
  """A term of the wake step's loss: divergence from the anchor.

  Attributes:
    night: consolidation of the fastest level; provides its anchor, its prompts,
      sampling and the divergence.
    weight: factor on the divergence, relative to the loss of the day.
    teacher: a `sleep.settings.Teacher`: 'anchor' on 'old' prompts, or 'first'
      on 'own_texts'. `draws` sequences are sampled at each waking (or taken
      from the own texts), and each step reads `sequences` of them. With
      `skip_repeated`, sequences whose prompt the day so far repeats (see
      `replay.prompts.repeated`) are left out, because it may correct the
      teacher's answer.
    name: of its field in the state and in `config.wake`, one of `NAMES`.
    num: number of micro-batches that a step reads the sequences in.
  """

  night: Night
  weight: float
  teacher: Any
  name: str = NAMES[0]
  num: int = 1

  def allocate(self, weights: types.Weights) -> types.Rollout:
    """Returns zeros of the shape of the rehearsals, `[draws, T]`."""
    return self.night.empty_rollouts(weights, self.teacher.draws, self.teacher)

  def loss_fn(
    self, state: state_lib.State
  ) -> tuple[state_lib.State, terms.Term, dict]:
    """Returns the penalty of this step, see `terms.Penalty`.

    The rehearsals in the state are written anew if the level has just woken up,
    or if there are none.
    """
    teacher, key = self.teacher, jax.random.fold_in(state.key, state.step)
    offset = _KEY_OFFSET - NAMES.index(self.name)
    write_key = jax.random.fold_in(key, offset)
    kept = getattr(state, self.name)
    # An erasure empties them, also where no night was accepted since.
    writes = (state.step == state.woke_N[self.night.sender]) | jnp.all(
      kept.length_B == 0
    )
    rollouts = jax.lax.cond(
      writes,
      lambda: self.night.sample_rollouts(state, teacher, write_key),
      lambda: kept,
    )
    # They are in a random order, and each is read before one is read again.
    at_B = state.step * teacher.sequences + jnp.arange(teacher.sequences)
    at_B %= teacher.draws
    rows = jax.tree.map(lambda x: x[at_B], rollouts)
    rows = self.night.with_own_states(state, teacher, rows)
    anchor = self.night.teacher(state, teacher.teacher)
    mask_BG = losses.generated_mask(rows, rows.states_BGD.shape[1])
    if teacher.skip_repeated:
      asked_today_B = prompts.repeated(
        rows.tokens_BT, rows.prompt_length_B, state.replay[self.night.day_group]
      )
      mask_BG &= ~asked_today_B[:, None]

    count = jnp.maximum(jnp.sum(mask_BG), 1)

    def penalty(weights, part):
      rows, mask_BG = part
      value_BG = self.night.divergence(
        anchor, weights, rows,
        self.night.states(weights, rows, num=rows.states_BGD.shape[1]),
      )  # fmt: skip
      return self.weight * jnp.sum(jnp.where(mask_BG, value_BG, 0)) / count

    # Texts of the initial model were there already.
    new = writes & teacher.writes
    prompted = jnp.sum(rollouts.prompt_length_B)
    written = jnp.sum(rollouts.length_B) - prompted
    return (
      state.replace(**{self.name: rollouts}),
      terms.Term(penalty, (rows, mask_BG), self.num),
      {
        'tokens': jnp.sum(rows.length_B),
        'written': jnp.where(new, written, 0),
        'forward': jnp.where(new, prompted, 0),
      },
    )


def combine(penalties: Sequence[AnchorPenalty]) -> Callable | None:
  """Returns some penalties as one, see `terms.Penalty`; None for none."""
  if not penalties:
    return None

  def loss_fn(state, batch):
    del batch
    found, counts = [], []
    for penalty in penalties:
      state, term, count = penalty.loss_fn(state)
      found.append(term)
      counts.append(count)
    return state, found, jax.tree.map(lambda *x: sum(x), *counts)

  return loss_fn
