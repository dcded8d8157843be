"""Dreaming: the model writes about its day, and keeps what helps.

With a document of the day in front it writes texts; the most important dreams
are each tried alone; who writes learns from those that helped; and what the
rewarded dreams hold, and the writing itself, is seeded into the newest expert.
No other weight moves. What rewarded dreams were asked is remembered among the
prompts of the past, so that later nights keep what was dreamt. A night without
a rewarded dream changes nothing.

References: 2606.03979 v2 section 3.4 (Dreaming); 2506.10943 (SEAL);
docs/method.md, "Dreaming".
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.dream import rounds
from sleep_jax.dream import make_settings as dream_settings
from sleep_jax.dream import texts as texts_lib
from sleep_jax.model import lora
from sleep_jax.replay import buffer
from sleep_jax.sleep import consolidation, document_context, priorities, seeding
from sleep_jax.sleep import make_settings as sleep_settings

Array = types.Array
State = state_lib.State
_APART = 2**30 + 2**29  # From the keys of the other nights.
WRITER, MORNING = 'writer', 'morning'
_DREAMS, _READING = 'dreams', 'reading'


@dataclasses.dataclass(frozen=True)
class Dreaming(seeding.Seeding):
  """The programs of a dreaming night.

  Attributes:
    night: of the sender whose receiver has the newest expert.
    curriculum: what is dreamt.
    width: most tokens of a document.
  """

  night: consolidation.Consolidation
  curriculum: rounds.DreamRounds
  width: int

  def dream(
    self,
    state: State,
    slot: Array,
    prompts: types.PromptTemplates,
    task: types.Task,
  ) -> tuple[State, dict]:
    """Writes, tries and learns to write; lays out the seeding of the gain.

    Args:
      slot: int32, of the newest expert.
      prompts: what a dream may be asked, with a slot for the subject.
      task: what there is to dream about.

    Returns:
      The state, and the journal, see `Curriculum.dream`.
    """
    weights = state.weights
    writer, (texts, asked, weight_B), journal = self.curriculum.dream(
      weights, self.key(state, 0), prompts, task
    )
    r = self.night.receiver
    fresh = {
      str(r): {
        name: leaf[:, slot]
        for name, leaf in self.model.bank(weights, r).items()
      }
    }
    night = self.empty_night(
      state, fresh, sender_next={}, opt_next=(),
      dreams=state_lib.Dreams(texts, asked, weight_B, writer, slot),
    )  # fmt: skip
    return state.replace(night=night), journal

  def teacher(self, state: State, name: str) -> types.Weights:
    """Who wrote the dreams, or the model as it is."""
    if name != WRITER:
      return state.weights
    return lora.worn(
      state.weights,
      state.night.dreams.writer,
      scale=self.curriculum.dreams.writer.scale,
    )

  def student(self, state: State) -> types.Weights:
    """The model, its newest expert taken out of the bank and put beside it."""
    r, weights = self.night.receiver, state.weights
    slot = state.night.dreams.slot
    return weights.replace(
      active_NE=weights.active_NE.at[r - 1, slot].set(0),
      fresh=state.night.fresh,
    )

  def prompt_window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    """All that was ever met, today included."""
    del prompts
    return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), state.step

  def document_length(self, state: State, teacher: sleep_settings.Teacher) -> int:
    del state
    return self.width if teacher.teacher == WRITER else 0

  def sample_rehearsals(
    self,
    state: State,
    teacher: sleep_settings.Teacher,
    draw_key: Array,
    write_key: Array,
  ) -> tuple[types.Prompts | None, types.Rollout]:
    """The writer's are rewarded dreams, as they were dreamt."""
    if teacher.teacher != WRITER:
      return super().sample_rehearsals(state, teacher, draw_key, write_key)
    dreamt = state.night.dreams
    at_B = priorities.sample_indices(
      dreamt.weight_B, len(dreamt.weight_B), draw_key, num=teacher.draws
    )
    rows = jax.tree.map(lambda x: x[at_B], dreamt.texts)
    return None, self.with_teacher_states(self.teacher(state, WRITER), rows)

  def student_input(
    self, teacher: sleep_settings.Teacher, rollout: types.Rollout
  ) -> types.Rollout:
    if teacher.prompts == _READING:
      return document_context.prepend_to_rollout(rollout)
    return super().student_input(teacher, rollout)

  def key(self, state: State, count: Array | int) -> Array:
    return jax.random.fold_in(self.night.key(state, count), _APART)

  def committed(self, state: State) -> types.Weights:
    """The model with the newest expert as it would be."""
    r, night = self.night.receiver, state.night
    params = consolidation.set_expert(
      state.weights, r, night.dreams.slot, night.fresh[str(r)]
    )
    return state.weights.with_params(params)

  def wake_up(self, state: State, accept: Array) -> State:
    """Commits what the newest expert has learned, or nothing."""
    better = state.replace(
      weights=self.committed(state), replay=self._remembered(state)
    )
    chosen = jax.tree.map(
      lambda yes, no: priorities.where(accept, yes, no), better, state
    )
    return chosen.replace(night=None)

  def _remembered(self, state):
    """The bands, the past with what rewarded dreams were asked, each once."""
    if buffer.PAST not in state.replay:
      return state.replay
    dreamt, age_group = state.night.dreams, state.replay[buffer.PAST]
    asked, width = dreamt.asked, age_group.tokens_CP.shape[1]
    there_B = (asked.length_B > 0) & (asked.length_B <= width)
    same_BB = texts_lib.pairwise_equal(asked.tokens_BP, asked.length_B)
    there_B &= ~jnp.any(jnp.tril(same_BB & there_B[None], -1), 1)
    met = types.Prompts(
      tokens_BP=jnp.pad(asked.tokens_BP, ((0, 0), (0, width)))[:, :width],
      length_B=jnp.where(there_B, asked.length_B, 0),
      subject_B2=asked.subject_B2,
    )
    key = self.key(state, 1 + self.settings.num_updates)
    past = buffer.insert(age_group, met, state.step, key)
    return state.replay | {buffer.PAST: past}


def make_settings(
  night: sleep_settings.Settings, dreams: dream_settings.Settings
) -> sleep_settings.Settings:
  """The seeding of a dreaming night: the night's own, with other teachers.

  Raises:
    ValueError: nobody of the night rehearses the old, or it has no experts.
  """
  old = [t for t in night.teachers if t.prompts == 'old']
  if not old:
    raise ValueError(
      'dream.on needs what keeps the old: no entry of consolidate.teachers has '
      "prompts 'old'. Add one."
    )
  if night.into != sleep_settings.EXPERT:
    raise ValueError(
      'dream.on: the gain is seeded into the newest expert, but '
      "consolidate.into is 'base', which makes none. Set into to 'expert'."
    )
  teachers = [
    dataclasses.replace(
      old[0],
      teacher=MORNING,
      sequences=dreams.old,
      template_share=dreams.template_share,
    ),
    sleep_settings.Teacher(WRITER, _DREAMS, dreams.sequences, dreams.rows),
  ]
  if dreams.reading:
    teachers.append(
      sleep_settings.Teacher(WRITER, _READING, dreams.reading, dreams.rows)
    )
  return dataclasses.replace(
    night, teachers=tuple(teachers), num_updates=dreams.num_updates,
    updates_per_round=dreams.updates_per_round, on_policy=0.0,
    imitation=dataclasses.replace(night.imitation, alpha=1.0),
  )  # fmt: skip
