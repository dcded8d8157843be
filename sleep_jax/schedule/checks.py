"""Validates the update and sleep periods of the levels."""

from collections.abc import Sequence

from sleep_jax import errors
from sleep_jax.model import config
from sleep_jax.schedule import events


def check_periods(levels: Sequence[events.Level]) -> None:
  """Checks the periods of all levels, each alone and against its neighbours.

  A level must be updated a whole number of times between two of its sleeps and
  between two updates of the next slower level. Levels that learn awake are
  faster than those that only collect experts.

  Args:
    levels: fastest first.

  Raises:
    ConfigError: a period is invalid; names the field and the expected value.
  """
  for number, level in enumerate(levels):
    place = f'config.levels[{number}]'
    update, sleep = level.update_period, level.sleep_period
    if isinstance(update, int) and update < 1:
      raise errors.ConfigError(
        f'{place}.update_period is {update}: expected at least 1 step.'
      )
    _check_sleep(f'{place}.sleep_period', sleep)
    context = level.context_sleep_period
    if number and context != config.INFINITE:
      raise errors.ConfigError(
        f"{place}.context_sleep_period is {context!r}: expected 'infinite'. "
        'The context window is consolidated only into levels[0], the fastest.'
      )
    _check_sleep(f'{place}.context_sleep_period', context)
    _check_days(levels, number)
    if level.beside and (level.learns_awake or number == len(levels) - 1):
      raise errors.ConfigError(
        f'{place}.beside is True: expected False for a level that learns awake '
        'and for the slowest one.'
      )
    if number == len(levels) - 1:
      if not update == sleep == config.INFINITE:
        raise errors.ConfigError(
          f'{place}, the slowest, has update_period {update!r} and '
          f"sleep_period {sleep!r}: set both to 'infinite', because it has "
          'no receiver.'
        )
      continue
    if not isinstance(update, int):
      _check_bank(place, level, levels[number + 1])
      continue
    if isinstance(sleep, int) and sleep % update:
      raise errors.ConfigError(
        f'{place}.sleep_period {sleep} is not a multiple of its '
        f'update_period {update}: set it to a multiple, so that no gradients '
        'are pending when the level sleeps.'
      )
    slower = levels[number + 1].update_period
    if isinstance(slower, int) and slower % update:
      raise errors.ConfigError(
        f'config.levels[{number + 1}].update_period {slower} is not a multiple '
        f'of {place}.update_period {update}: change one of them.'
      )


def _check_days(levels, number):
  """Checks that a period in days is a multiple of the next faster one.

  Otherwise a level would sleep while the faster one still holds days.
  """
  if not number:
    return
  fast, slow = (
    events.days_of(level.sleep_period)
    for level in (levels[number - 1], levels[number])
  )
  if fast and slow % fast:
    raise errors.ConfigError(
      f'config.levels[{number}].sleep_period is {slow} days, which is no '
      f'multiple of the {fast} days of config.levels[{number - 1}]: set it to '
      f"'{slow + -slow % fast} days'."
    )


def _check_bank(place, level, slower):
  """Checks a level whose base never moves: it collects experts, and sleeps."""
  if level.update_period != config.INFINITE:
    raise errors.ConfigError(
      f'{place}.update_period is {level.update_period!r}: expected a number of '
      "wake steps, or 'infinite' for a level that only collects experts."
    )
  if not level.slots:
    raise errors.ConfigError(
      f"{place}.update_period is 'infinite' and its slots are 0, so the level "
      'would never change: set slots to the number of experts that it '
      'collects, or update_period to a number of wake steps.'
    )
  if slower.learns_awake:
    raise errors.ConfigError(
      f"{place}.update_period is 'infinite', but the next slower level has "
      f'update_period {slower.update_period}: levels that learn awake must be '
      'the fastest ones.'
    )


def _check_sleep(place, period):
  names = (config.EXPERIENCE, config.INFINITE)
  if isinstance(period, str) and (events.days_of(period) or period in names):
    return
  if not isinstance(period, int):
    raise errors.ConfigError(
      f"{place} is {period!r}: expected steps, 'experience', a number of days "
      "such as '5 days', or 'infinite'."
    )
  if isinstance(period, int) and period < 1:
    raise errors.ConfigError(f'{place} is {period}: expected at least 1 step.')
