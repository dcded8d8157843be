"""At the evening, the model writes questions about the documents of its day.

The questions become prompts of the day. In the night the teacher `context`
answers them with their passage in front, and the student learns to answer
without it. Later nights rehearse them like other prompts of the past.

Everything follows from the state, so an evening that was interrupted writes the
same questions again.

References: 2606.03979 v2 sections 3.3 and 3.4; `sleep.question_writing`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.replay import buffer
from sleep_jax.runtime import processes
from sleep_jax.sleep import (
  question_calls,
  question_prompts,
  question_text,
  question_writing,
)

State = state_lib.State


class Programs(Protocol):
  """What is needed of the compiled programs, see `learner.programs`."""

  write_texts: Callable
  store_questions: Callable


@dataclasses.dataclass(frozen=True)
class EveningQuestions:
  """Writes questions about a day and stores them as prompts.

  Attributes:
    settings: see `question_prompts.Settings`.
    prompts: renders what the model reads.
    prompt_width: longest prompt that a night draws, in tokens.
  """

  settings: question_prompts.Settings
  prompts: question_prompts.QuestionPrompts
  prompt_width: int

  def write(
    self, state: State, sender: int, programs: Programs
  ) -> tuple[State, dict[str, Any]]:
    """Writes questions about the day of a sender.

    Args:
      state: the learner in the evening; its arrays are donated.
      sender: whose documents are asked about.
      programs: write and store.

    Returns:
      The state with the questions among the prompts of the day; and counts,
      with all questions as 'samples'. Nothing if the day stored no document.
    """
    stored = state.replay.get(buffer.day_group(sender))
    if stored is None or stored.documents is None:
      return state, {}
    group = processes.fetch(stored)
    texts = self._documents(group, int(np.asarray(state.woke_N)[sender]))
    passages = question_text.passages(texts)
    write = functools.partial(programs.write_texts, state)
    calls = question_calls.Calls(write)
    writer = question_writing.Writer(
      passages, self.prompts, self.settings, calls
    )
    writer.write()
    chosen, templates = writer.chosen(), writer.templates()
    # What there is no room for is left out from the end.
    asked = [
      one
      for question in templates + chosen
      for one in self.prompts.stored_questions(
        question.text, passages[question.passage]
      )
    ]
    kept = [one for one in asked if self._fits(one, group)]
    room = max(len(group.length_C) - int(group.count), 0)
    if kept[:room]:
      prompts = as_prompts(kept[:room], group)
      state = programs.store_questions(state, sender, prompts)
    return state, {
      'documents': len(texts), 'sentences': len(passages), **writer.counts,
      'questions': len(chosen),
      'asked_sentences': len({question.passage for question in chosen}),
      'templates': len(templates), 'prompts': len(kept[:room]),
      'too_long': len(asked) - len(kept), 'no_room': len(kept[room:]),
      'tokens_written': calls.num_tokens,
      'samples': [
        {'text': passages[question.passage].text, 'question': question.text,
         'answer': question.answer}
        for question in chosen
      ],
    }  # fmt: skip

  def _documents(self, group: state_lib.AgeGroup, woke: int) -> list[str]:
    """Returns the documents of a day that were not asked about yet."""
    valid_C = np.arange(len(group.length_C)) < group.count
    start_C, stop_C = group.subject_C2.T
    asked_C = valid_C & (start_C == stop_C) & (start_C > 0)  # `as_prompts`
    since = max([woke, *group.step_C[asked_C].tolist()])
    use_C = valid_C & ~asked_C & (group.step_C > since)
    tokens_CW, length_C = group.documents.tokens_BT, group.documents.length_B
    rows = [
      tuple(tokens_CW[n, 1 : length_C[n]].tolist())
      for n in np.flatnonzero(use_C)
    ]
    return [self.prompts.tokenizer.decode(row) for row in dict.fromkeys(rows)]

  def _fits(
    self, asked: question_prompts.StoredQuestion, group: state_lib.AgeGroup
  ) -> bool:
    widest = min(group.tokens_CP.shape[1], self.prompt_width)
    document = group.documents.tokens_BT.shape[1]
    return len(asked.prompt) <= widest and len(asked.context) <= document


def as_prompts(
  asked: Sequence[question_prompts.StoredQuestion], group: state_lib.AgeGroup
) -> types.Prompts:
  """Returns questions as prompts, as many rows as an age group has.

  Their subject is empty and stands at their end, so that a night neither cuts
  them nor replaces them by a template.

  Args:
    asked: at most as many as the group can hold.
    group: where they are stored; it keeps documents.
  """
  num = len(group.length_C)
  rows = [
    *asked,
    *[question_prompts.StoredQuestion([], [0], 1)] * (num - len(asked)),
  ]
  length_B = np.array([len(one.prompt) for one in rows], np.int32)
  documents = types.Texts(
    question_calls.padded(
      [one.context for one in rows], group.documents.tokens_BT.shape[1]
    ),
    np.array([len(one.context) for one in rows], np.int32),
    np.array([one.replaces for one in rows], np.int32),
  )
  return types.Prompts(
    question_calls.padded(
      [one.prompt for one in rows], group.tokens_CP.shape[1]
    ),
    length_B,
    np.stack([length_B, length_B], 1),
    documents,
  )
