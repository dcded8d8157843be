"""The compiled programs that a run calls, as a protocol."""

from collections.abc import Callable
from typing import Any, Protocol


class Programs(Protocol):
  """What a run needs of its compiled programs, see `learner.programs`."""

  strategy: Any
  model: Any
  method: Any
  settings: Callable
  dreams: Any
  dream_tokens: int
  edit_steps: int
  row_length: int
  grows: Callable
  night_end: Callable
  is_constant: Callable
  begin: Callable
  abstract: Callable
  wake: Callable
  review: Callable
  finish_review: Callable
  fall_asleep: Callable
  seed: Callable
  committed: Callable
  wake_up: Callable
  is_full: Callable
  needs_merge: Callable
  merge_weights: Callable
  commit_merge: Callable
  dream: Callable
  wake_from_dream: Callable
  edit: Callable
  write_texts: Callable
  store_questions: Callable
  disable_expert: Callable
  fill_row_buffer: Callable
