"""TODO: schedule.checks (from schedule)."""

import itertools
from collections.abc import Sequence

from sleep_jax.model import config
from sleep_jax.schedule import events


def check_periods(levels: Sequence[events.Level]) -> None:
  """Raises ValueError where two periods do not fit each other."""
  for number, level in enumerate(levels, 1):
    update, sleep = level.update_period, level.sleep_period
    if isinstance(update, int) and update < 1:
      raise ValueError(
        f'levels[{number}].update_period is {update}: expected at least 1 step.'
      )
    _check_sleep(number, 'sleep_period', sleep)
    context = level.context_sleep_period
    if number > 1 and context != config.INFINITE:
      raise ValueError(
        f'levels[{number}].context_sleep_period is {context!r}: the context '
        'window is consolidated into levels[1], the fastest, alone.'
      )
    _check_sleep(number, 'context_sleep_period', context)
    if number == len(levels):
      if not update == sleep == config.INFINITE:
        raise ValueError(
          f'levels[{number}], the slowest, has update_period {update!r} and '
          f'sleep_period {sleep!r}: it has no receiver, so both must be '
          "'infinite'."
        )
      continue
    if not isinstance(update, int):
      raise ValueError(
        f'levels[{number}].update_period is {update!r}: expected a number of '
        'wake steps; only the slowest level is infinite.'
      )
    if isinstance(sleep, int) and sleep % update:
      raise ValueError(
        f'levels[{number}].sleep_period {sleep} is not a multiple of its '
        f'update_period {update}: a sleep would cut a chunk.'
      )
    above = levels[number].update_period
    if isinstance(above, int) and above % update:
      raise ValueError(
        f'levels[{number + 1}].update_period {above} is not a multiple of '
        f'levels[{number}].update_period {update}.'
      )


def _check_sleep(number, field, period):
  known = (config.EXPERIENCE, config.INFINITE)
  if not isinstance(period, int) and period not in known:
    raise ValueError(
      f'levels[{number}].{field} is {period!r}: expected steps, '
      "'experience' or 'infinite'."
    )
  if isinstance(period, int) and period < 1:
    raise ValueError(
      f'levels[{number}].{field} is {period}: expected at least 1 step.'
    )


def join_some(steps: Sequence[int], most: int = 6) -> str:
  shown = ', '.join(str(step) for step in itertools.islice(steps, most))
  if len(steps) > most:
    return f'{shown}, ... {steps[-1]}'
  return shown or 'never'
