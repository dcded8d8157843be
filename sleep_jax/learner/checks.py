"""TODO: learner.checks (from nights)."""

from sleep_jax import types


def check_task(task: types.Task | None, config) -> types.Task:
  """The task, if there is one and nights can dream about it.

  Raises:
    ValueError: there is nothing to dream about, or what there is does not fit
      what nights read and write.
  """
  if task is None:
    raise ValueError(
      f'The world {config.data.dataset!r} as it is set has nothing to dream '
      'about: no documents with practice questions. Of facts, set '
      'data.settings.readings and .practice; of passages, .practice; or do '
      "without config.dream.on and the strategy 'seal'."
    )
  if task.choices is not None:
    lessons = task.choices.lessons
    told = max(
      int((lessons.length_B - lessons.prompt_length_B).max()),
      int(task.choices.length_C.max()),
    )
    for name, found, expected, fits in (
      ('dream.texts', config.dream.texts, '1, a dream is one choice',
       config.dream.texts == 1),
      ('consolidate.max_length', config.consolidate.max_length,
       f'data.context, {lessons.tokens_BT.shape[1]}',
       config.consolidate.max_length == lessons.tokens_BT.shape[1]),
      ('consolidate.max_new', config.consolidate.max_new,
       f'{told} or more, the longest that is learned or chosen',
       config.consolidate.max_new >= told),
    ):  # fmt: skip
      if not fits:
        raise ValueError(
          f'config.{name} is {found}, but the dreams of this world are choices '
          f'of how to learn from lessons: expected {expected}.'
        )
  return task


def document_length(config) -> int:
  """Tokens of a document that a teacher will read: a whole row."""
  if config.data.pack:
    raise ValueError(
      "consolidate.teachers has 'context', which reads whole rows, but "
      'data.pack puts several texts into one: set data.pack to False.'
    )
  if config.replay.store == 'none':
    raise ValueError(
      "consolidate.teachers has 'context', but replay.store is 'none': the "
      "documents of a day are kept in its band. Set replay.store to 'prompts'."
    )
  if not config.replay.day:
    raise ValueError(
      "consolidate.teachers has 'context', but replay.day is 0: set it to as "
      'many documents as a day brings, or more.'
    )
  return config.data.context


def check_base_receiver(senders, num_levels: int) -> None:
  """A receiver's base may take a night only where it has no day of its own."""
  for sender in senders:
    if sender + 1 != num_levels:
      raise ValueError(
        f"consolidate.into is 'base', but level {sender} sleeps into level "
        f'{sender + 1}, whose base moves awake and returns to its anchor: only '
        "the slowest level can take a night in. Set into to 'expert'."
      )
