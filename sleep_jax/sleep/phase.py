"""Interface of the sleep phases: who teaches, who learns and on which prompts.

Consolidation, merging and dreaming all distil teachers into a student by
Knowledge Seeding. Each of them subclasses `SleepPhase` and defines its
teachers, its student and the prompts it rehearses. Teachers and student share
all arrays except the few that differ, so no second copy of the model exists.

References: 2606.03979 v2 section 3.3 (Knowledge Seeding); docs/method.md,
"Whose knowledge".
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import judges
from sleep_jax.sleep import document_context
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
State = state_lib.State
_LEAST_HALVED = 64  # Width from which on `states` may read half.


class Consolidation(Protocol):
  """What a merge and a dream need of a sender's consolidation."""

  sender: int
  receiver: int
  key: Callable[[State, Array | int], Array]
  anchor_weights: Callable[[State], types.Weights]


@dataclasses.dataclass(frozen=True)
class SleepPhase(abc.ABC):
  """Settings and weights that rehearsal and seeding need.

  Attributes:
    model: with `states_at`, `head`, `logits`, `prefill`, `decode` and
      `init_expert`.
    tx: optimizer of the trained parameters.
    templates: self-study templates.
    bos, eos: token ids.
    judge: scores the student's completions, for imitation.
    settings: see `settings.Settings`.
  """

  model: types.Model
  tx: optax.GradientTransformation
  templates: types.PromptTemplates
  bos: int
  eos: int
  judge: judges.Judge
  settings: settings_lib.Settings

  @abc.abstractmethod
  def teacher(self, state: State, name: str) -> types.Weights:
    """Returns the weights of a teacher."""

  @abc.abstractmethod
  def student(self, state: State) -> types.Weights:
    """Returns the weights of the student, including `state.night.fresh`."""

  @abc.abstractmethod
  def prompt_window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    """Returns where prompts of a kind are stored.

    Args:
      state: the learner.
      prompts: see `settings.Teacher`.

    Returns:
      Names of the age groups, and the wake steps (since, until] that an entry
      of them must come from.
    """

  @property
  def day_group(self) -> str:
    """Name of the age group of the day that is consolidated; '' for none."""
    return ''

  @abc.abstractmethod
  def key(self, state: State, count: Array | int) -> Array:
    """Returns a key of this phase; `count` distinguishes its uses."""

  def documents(
    self, state: State, teacher: settings_lib.Teacher
  ) -> types.Texts | None:
    """Returns documents of the shapes that a teacher reads; None without."""
    for name in self.prompt_window(state, teacher.prompts)[0]:
      if teacher.reads and name in state.replay:
        return state.replay[name].documents
    return None

  def states(
    self,
    weights: types.Weights,
    rollout: types.Rollout,
    shift: int = -1,
    num: int = 0,
    may_halve: bool = False,
  ) -> Array:
    """Returns the head's inputs for the generated tokens, `[B, G, D]`.

    Args:
      weights: of the model that reads the sequences.
      rollout: sequences.
      shift: 0 for the states at the generated tokens, -1 for those one place
        earlier, which predict them.
      num: G, the largest number of generated tokens; 0: `settings.max_new`.
      may_halve: whether sequences that are all short are read without the
        padding that long ones would need. Gradients take memory for both.
    """
    first_B1 = rollout.prompt_length_B[:, None] + shift
    at_BG = first_B1 + jnp.arange(num or self.settings.max_new)[None]

    def read(weights, width):
      inputs = types.model_inputs(
        rollout.tokens_BT[:, :width], rollout.length_B
      )
      at = jnp.clip(at_BG, 0, width - 1)
      return self.model.states_at(weights, *inputs, at)

    width = rollout.tokens_BT.shape[1]
    if not may_halve or width < _LEAST_HALVED or width % 2:
      return read(weights, width)
    return jax.lax.cond(
      jnp.all(rollout.length_B <= width // 2),
      lambda weights: read(weights, width // 2),
      lambda weights: read(weights, width),
      weights,
    )

  def with_teacher_states(
    self, weights: types.Weights, rollout: types.Rollout, num: int = 0
  ) -> types.Rollout:
    """Returns the rollout with the head's inputs of its teacher, see `states`.

    They are computed once per sequence, so an update only runs the student.
    """
    return rollout.replace(
      states_BGD=self.states(
        weights, document_context.prepend_to_rollout(rollout), num=num
      )
    )
