"""Checks that a config's nights fit the stream and the levels.

They run when the programs of a run are built, before anything is compiled.
"""

from collections.abc import Iterable

from sleep_jax import errors, types
from sleep_jax.model import config as model_config
from sleep_jax.sleep import settings
from sleep_jax.strategies import strategy as strategy_lib


def keeps_core(
  strategy: strategy_lib.Strategy,
  nights: Iterable[settings.Settings],
  *,
  dreams: bool,
) -> bool:
  """Returns whether a strategy never changes the parameters of the core.

  Args:
    strategy: of the run.
    nights: settings of its nights, if it sleeps.
    dreams: whether nights dream.
  """
  trained = any('core' in owners for owners in strategy.owners.values())
  in_nights = strategy.sleeps and (
    dreams
    or any(
      night.into == settings.BASE or night.full == settings.ABSORB
      for night in nights
    )
  )
  return not (trained or strategy.edits or in_nights)


def check_copied_sender(
  night: settings.Settings, model: model_config.Model, sender: int
) -> None:
  """Checks that a copy of a sender's units is what the sender adds.

  Raises:
    ConfigError: the sender has no units, or an expert has other units, another
      input, a gate below 1, or the sender keeps what was copied. All wrong
      fields are named.
  """
  if not sender:
    raise errors.ConfigError(
      "config.consolidate.start is 'sender', but the context window has no "
      "units to copy: set it to 'random', and to 'sender' in levels[...].night "
      'of the senders that have units.'
    )
  wrong = [
    f'config.{name} is {found!r}, not {expected!r}'
    for name, found, expected in (
      ('consolidate.into', night.into, settings.EXPERT),
      (
        'consolidate.sender_after_sleep',
        night.sender_after_sleep,
        settings.CLEARED,
      ),
      ('model.arrangement', model.arrangement, 'independent'),
      ('model.gated_experts', model.gated_experts, True),
      ('model.router', model.router, 'always'),
      ('model.top_k', model.top_k, 0),
    )
    if found != expected
  ]
  if wrong:
    raise errors.ConfigError(
      "config.consolidate.start is 'sender', which copies the units of the "
      'sender into the fresh expert, but the copy would not do what the sender '
      f"does: {'; '.join(wrong)}. Change that, or set start to 'random'."
    )


def check_task(task: types.Task | None, config) -> types.Task:
  """Returns the task, if nights can dream about it.

  Args:
    task: any task of the stream, or None if it has none.
    config: of the run.

  Raises:
    ConfigError: there is no task, or its shapes do not fit the lengths that
      nights read and write.
  """
  if task is None:
    raise errors.ConfigError(
      f'The dataset {config.data.dataset!r} with these settings has nothing to '
      'dream about: no documents with practice questions. For facts, set '
      'data.settings.readings and .practice; for passages, set .practice. Or '
      "set config.dream.on to False and remove the strategy 'seal'."
    )
  if task.choices is not None:
    lessons = task.choices.lessons
    longest = max(
      int((lessons.length_B - lessons.prompt_length_B).max()),
      int(task.choices.length_C.max()),
    )
    context = lessons.tokens_BT.shape[1]
    for name, found, expected, fits in (
      (
        'dream.texts',
        config.dream.texts,
        '1, because a dream is one choice',
        config.dream.texts == 1,
      ),
      (
        'consolidate.max_length',
        config.consolidate.max_length,
        f'data.context, {context}',
        config.consolidate.max_length == context,
      ),
      (
        'consolidate.max_new',
        config.consolidate.max_new,
        f'{longest} or more, the length of the longest lesson or choice',
        config.consolidate.max_new >= longest,
      ),
    ):
      if not fits:
        raise errors.ConfigError(
          f'config.{name} is {found}, but the dreams of this dataset are '
          f'choices of how to learn from lessons: expected {expected}.'
        )
  return task


def document_length(config) -> int:
  """Returns the length of the documents that teachers read, in tokens.

  A document is a whole row, so this is `data.context`.

  Raises:
    ConfigError: rows are packed, or the documents of a day are not stored.
  """
  if config.data.pack:
    raise errors.ConfigError(
      "consolidate.teachers has 'context', which reads whole rows, but "
      'data.pack is True, which puts several texts into one row: set data.pack '
      'to False.'
    )
  if config.replay.store == 'none':
    raise errors.ConfigError(
      "consolidate.teachers has 'context', which reads the documents that are "
      "stored with a day's prompts, but replay.store is 'none': set "
      "replay.store to 'prompts'."
    )
  if not config.replay.day:
    raise errors.ConfigError(
      "consolidate.teachers has 'context', which reads the documents of a day, "
      'but replay.day is 0: set it to the number of documents of a day, or '
      'more.'
    )
  return config.data.context


def check_stored_answers(config, name: str) -> None:
  """Checks that a strategy that learns stored answers has them.

  Args:
    config: of the run.
    name: of the strategy.

  Raises:
    ConfigError: answers are not stored, or nights dream.
  """
  if config.replay.store != 'rows':
    raise errors.ConfigError(
      f'strategy {name!r} learns stored answers, but replay.store is '
      f"{config.replay.store!r}: set it to 'rows', or leave {name!r} out of "
      'config.strategies.'
    )
  if config.dream.on:
    raise errors.ConfigError(
      f'strategy {name!r} has no dreaming nights: leave it out of '
      'config.strategies, or run it in a study with dream.on=False.'
    )


def check_absorbing(receiver: int, num_levels: int) -> None:
  """Checks that a level may absorb its bank.

  Raises:
    ConfigError: it is not the slowest.
  """
  if receiver != num_levels:
    raise errors.ConfigError(
      f"consolidate.full is 'absorb' for level {receiver}, which has slower "
      f'levels to hand its experts to: only the slowest level, {num_levels}, '
      "absorbs its bank. Set it in levels[...].night of that level's sender, "
      "and 'error' for the others."
    )


def check_base_receiver(sender: int, num_levels: int) -> None:
  """Checks that a receiver's base may be trained by a night.

  Args:
    sender: level that sleeps; the receiver is the next level.
    num_levels: number of the model's levels.

  Raises:
    ConfigError: a receiver is itself updated awake.
  """
  if sender + 1 != num_levels:
    raise errors.ConfigError(
      f"consolidate.into is 'base', but level {sender} sleeps into level "
      f'{sender + 1}, whose base is updated awake and reset to its anchor: '
      "only the slowest level's base can be trained by a night. Set into to "
      "'expert'."
    )
