"""Implements a dreaming night: dreams about a day and keeps what helped.

The model writes texts about documents of the day and tries the most important
ones (`rounds`). The rewarded dreams are then distilled into the newest expert
by Knowledge Seeding, with the writer as teacher; no other weight changes. The
prompts of rewarded dreams are added to the prompts of the past, so that later
nights rehearse them. A night without a rewarded dream changes nothing.

References: 2606.03979 v2 section 3.4 (Dreaming); 2506.10943 (SEAL);
docs/method.md, "Dreaming".
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.dream import settings as dream_settings
from sleep_jax.dream import texts as texts_lib
from sleep_jax.model import experts, lora
from sleep_jax.replay import buffer, even_draws
from sleep_jax.sleep import document_context, phase, priorities, seeding
from sleep_jax.sleep import settings as sleep_settings

Array = types.Array
State = state_lib.State
# Added to a sender's keys, so that they differ from those of its other nights.
_KEY_OFFSET = 2**30 + 2**29
# Teachers: the model with the writer's adapter, and the model without it.
WRITER, MORNING = 'writer', 'morning'
# Prompts of the writer: rewarded dreams, which the student reads without or
# with the document.
_DREAMS, _READING = 'dreams', 'reading'


@dataclasses.dataclass(frozen=True)
class Dreaming(seeding.Seeding):
  """The programs of a dreaming night.

  Attributes:
    night: consolidation of the sender whose receiver has the newest expert.
    dream_rounds: a `rounds.DreamRounds`, which writes and tries the dreams.
    width: maximum length of a document, tokens.
  """

  night: phase.Consolidation
  dream_rounds: Any
  width: int

  def dream(
    self,
    state: State,
    slot: Array,
    templates: types.PromptTemplates,
    task: types.Task,
  ) -> tuple[State, dict]:
    """Writes and tries dreams, and prepares the seeding of rewarded ones.

    Args:
      state: without a night.
      slot: int32, slot of the newest expert.
      templates: prompts to write on, with a slot for a document's subject.
      task: documents and practice questions.

    Returns:
      The state with a night, and the dream records, see `DreamRounds.dream`.
    """
    weights = state.weights
    writer, (texts, prompts, weight_B), records = self.dream_rounds.dream(
      weights, self.key(state, 0), templates, task
    )
    r = self.night.receiver
    fresh = {
      str(r): {
        name: leaf[:, slot]
        for name, leaf in self.model.bank(weights, r).items()
      }
    }
    night = self.empty_night(
      state,
      fresh,
      sender_next={},
      opt_next=(),
      dreams=state_lib.Dreams(texts, prompts, weight_B, writer, slot),
    )
    return state.replace(night=night), records

  def teacher(self, state: State, name: str) -> types.Weights:
    """Returns the weights of the writer (`WRITER`), else those of the model."""
    if name != WRITER:
      return state.weights
    return lora.attach(
      state.weights,
      state.night.dreams.writer,
      scale=self.dream_rounds.dreams.writer.scale,
    )

  def student(self, state: State) -> types.Weights:
    """Returns the model with its newest expert replaced by the trained one."""
    r, weights = self.night.receiver, state.weights
    slot = state.night.dreams.slot
    return weights.replace(
      active_NE=weights.active_NE.at[r - 1, slot].set(0),
      fresh=state.night.fresh,
    )

  def prompt_window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    """Returns the window of all stored prompts, today's included."""
    del prompts
    return (buffer.PRETRAIN, buffer.PAST), jnp.int32(-1), state.step

  def documents(
    self, state: State, teacher: sleep_settings.Teacher
  ) -> types.Texts | None:
    """Returns documents of `width` for the writer, which reads them."""
    del state
    if teacher.teacher != WRITER:
      return None
    return document_context.zeros(1, self.width)

  def sample_rehearsals(
    self,
    state: State,
    teacher: sleep_settings.Teacher,
    draw_key: Array,
    write_key: Array,
  ) -> tuple[types.Prompts | None, types.Rollout]:
    """Draws rewarded dreams for the writer; other teachers write as usual."""
    if teacher.teacher != WRITER:
      return super().sample_rehearsals(state, teacher, draw_key, write_key)
    dreams = state.night.dreams
    at_B = even_draws.draw(dreams.weight_B, draw_key, num=teacher.draws)
    rows = jax.tree.map(lambda x: x[at_B], dreams.texts)
    return None, self.with_teacher_states(self.teacher(state, WRITER), rows)

  def student_input(
    self, teacher: sleep_settings.Teacher, rollout: types.Rollout
  ) -> types.Rollout:
    """Returns a sequence as the student reads it."""
    if teacher.prompts == _READING:
      return document_context.prepend_to_rollout(rollout)
    return super().student_input(teacher, rollout)

  def key(self, state: State, count: Array | int) -> Array:
    """Returns a key of this night; `count` separates its uses."""
    return jax.random.fold_in(self.night.key(state, count), _KEY_OFFSET)

  def committed(self, state: State) -> types.Weights:
    """Returns the model with the trained expert in its slot."""
    r, night = self.night.receiver, state.night
    params = experts.set_expert(
      state.weights, r, night.dreams.slot, night.fresh[str(r)]
    )
    return state.weights.with_params(params)

  def wake_up(self, state: State, accept: Array) -> State:
    """Ends the night.

    Args:
      state: with a night.
      accept: bool scalar; True commits the trained expert and the prompts of
        rewarded dreams, False changes nothing.
    """
    accepted = state.replace(
      weights=self.committed(state), replay=self._replay_with_prompts(state)
    )
    chosen = jax.tree.map(
      lambda yes, no: priorities.where(accept, yes, no), accepted, state
    )
    return chosen.replace(night=None)

  def _replay_with_prompts(self, state):
    """Returns the replay buffers with the prompts of rewarded dreams added.

    They enter the age group of the past, each distinct prompt once.
    """
    if buffer.PAST not in state.replay:
      return state.replay
    dreams, age_group = state.night.dreams, state.replay[buffer.PAST]
    prompts, width = dreams.asked, age_group.tokens_CP.shape[1]
    present_B = (prompts.length_B > 0) & (prompts.length_B <= width)
    equal_BB = texts_lib.pairwise_equal(prompts.tokens_BP, prompts.length_B)
    present_B &= ~jnp.any(jnp.tril(equal_BB & present_B[None], -1), 1)
    new_prompts = types.Prompts(
      tokens_BP=jnp.pad(prompts.tokens_BP, ((0, 0), (0, width)))[:, :width],
      length_B=jnp.where(present_B, prompts.length_B, 0),
      subject_B2=prompts.subject_B2,
    )
    past = buffer.insert(
      age_group, new_prompts, state.step, state.key, once=True
    )
    return state.replay | {buffer.PAST: past}


def make_settings(
  night: sleep_settings.Settings, dreams: dream_settings.Settings
) -> sleep_settings.Settings:
  """Returns the seeding settings of a dreaming night.

  They are those of the consolidating night, with other teachers: its first
  teacher of 'old' prompts becomes the model itself, and the writer teaches the
  rewarded dreams.

  Raises:
    ConfigError: no teacher of the night has 'old' prompts, or the night adds no
      experts.
  """
  old = [t for t in night.teachers if t.prompts == 'old']
  if not old:
    raise errors.ConfigError(
      'dream.on is True, but no entry of consolidate.teachers has prompts '
      "'old', which a dreaming night needs to rehearse old knowledge: add one."
    )
  if night.into != sleep_settings.EXPERT:
    raise errors.ConfigError(
      'dream.on is True, and dreams are seeded into the newest expert, but '
      "consolidate.into is 'base', which adds no expert: set into to 'expert'."
    )
  teachers = [
    dataclasses.replace(
      old[0],
      teacher=MORNING,
      sequences=dreams.old,
      template_share=dreams.template_share,
    ),
    sleep_settings.Teacher(
      WRITER, _DREAMS, dreams.sequences, dreams.num_tried_texts
    ),
  ]
  if dreams.reading:
    teachers.append(
      sleep_settings.Teacher(
        WRITER, _READING, dreams.reading, dreams.num_tried_texts
      )
    )
  return dataclasses.replace(
    night,
    teachers=tuple(teachers),
    num_updates=dreams.num_updates,
    updates_per_round=dreams.updates_per_round,
    on_policy=0.0,
    imitation=dataclasses.replace(night.imitation, alpha=1.0),
    adaptive=None,
  )
