"""Chains of bank levels: many nights in a number of slots that does not grow.

The fastest level learns awake and sleeps every day into the first bank. Each
bank holds as many experts as the fan-out, and is then consolidated into one
expert of the next bank, of higher rank. With fan-out f and n banks, the last of
which has s slots, f ** (n - 1) * s days fit.

Reference: 2606.03979 section 3.3 (levels that consolidate into slower levels).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.model import config
from sleep_jax.schedule import events


def make(
  *,
  hidden: int,
  ranks: Sequence[int],
  fan_out: int,
  last_slots: int,
  nights: Sequence[Mapping[str, Any]] = (),
) -> tuple[dict[str, Any], ...]:
  """Returns the levels of a chain, as `config.levels` has them.

  Args:
    hidden: hidden units of the level that learns awake, and of the MLP of the
      blocks, which the last bank belongs to.
    ranks: hidden units of the experts of each bank, fastest first.
    fan_out: experts of each bank but the last.
    last_slots: experts of the last bank.
    nights: settings of the nights of each level but the last, see
      `sleep.sender_settings`; levels that are left out have those of all.

  Raises:
    ConfigError: a number is too small, or there are more nights than senders.
  """
  num_banks = len(ranks)
  if num_banks < 1 or fan_out < 2 or last_slots < 1:
    raise errors.ConfigError(
      f'A chain has ranks {tuple(ranks)}, fan_out {fan_out} and last_slots '
      f'{last_slots}: expected one rank or more, a fan-out of 2 or more and '
      'one slot or more.'
    )
  if len(nights) > num_banks:
    raise errors.ConfigError(
      f'A chain of {num_banks} banks has settings for {len(nights)} nights: '
      f'expected at most {num_banks}, one for each level that sleeps.'
    )
  levels = [
    dict(hidden=hidden, update_period=1, sleep_period=config.EXPERIENCE,
         slots=0, rank=0)
  ]  # fmt: skip
  for number, rank in enumerate(ranks[:-1], 1):
    levels.append(
      dict(
        hidden=1,  # Of a base that never moves, and adds nothing.
        update_period=config.INFINITE,
        sleep_period=f'{fan_out**number} days',
        slots=fan_out,
        rank=rank,
      )
    )
  for level, night in zip(levels, nights, strict=False):
    if night:
      level['night'] = dict(night)
  levels.append(
    dict(hidden=hidden, update_period=config.INFINITE,
         sleep_period=config.INFINITE, slots=last_slots, rank=ranks[-1])
  )  # fmt: skip
  return tuple(levels)


def make_reader(
  *,
  num_levels: int,
  num_days: int,
  hidden: int,
  rank: int,
  night: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], ...]:
  """Returns levels that learn from the context window alone.

  The window is consolidated into the fastest level every day. Each level but
  the slowest holds two experts, which become one of the next slower level.
  Nothing is trained awake, so `wake.optimizers` is empty.

  Args:
    num_levels: 1 or more. Of a single level, the window is consolidated into
      the MLP of the blocks.
    num_days: of the run; a multiple of 2 ** (num_levels - 1).
    hidden: hidden units of the MLP of the blocks, which is the slowest level.
    rank: hidden units of an expert.
    night: settings of the nights of levels, see `sleep.sender_settings`.

  Raises:
    ConfigError: the days do not fill the slowest level's bank.
  """
  period = 2 ** max(0, num_levels - 1)
  if num_levels < 1 or num_days < 1 or num_days % period:
    raise errors.ConfigError(
      f'{num_levels} levels read {num_days} days: expected one level or more, '
      f'and a multiple of {period} days, so that what each day brought '
      'reaches the slowest level.'
    )
  levels = [
    dict(
      hidden=1,  # Of a base that never moves, and adds nothing.
      update_period=config.INFINITE, sleep_period=f'{2**number} days', slots=2,
      rank=rank, night=dict(night or {}),
    )
    for number in range(1, num_levels)
  ]  # fmt: skip
  levels.append(
    dict(
      hidden=hidden, update_period=config.INFINITE,
      sleep_period=config.INFINITE, slots=num_days // period, rank=rank,
    )
  )  # fmt: skip
  levels[0]['context_sleep_period'] = config.EXPERIENCE
  return tuple(levels)


def days_held(levels: Sequence[config.Level]) -> int:
  """Returns after how many days the slowest bank is full.

  Args:
    levels: fastest first.

  Returns:
    0 if the slowest bank is not filled by nights that count days.
  """
  if len(levels) < 2:
    return 0
  return events.days_of(levels[-2].sleep_period) * levels[-1].slots


def describe(levels: Sequence[config.Level], full: str) -> str:
  """Returns how many days fit, and what happens then; '' if days do not count.

  Args:
    levels: fastest first.
    full: of the slowest level, see `sleep.settings.Settings`.
  """
  days = days_held(levels)
  if not days:
    return ''
  then = {
    'absorb': 'then that level absorbs it, and it fills again',
    'merge': 'then two of its experts are merged before each further one',
  }.get(full, 'and no more fit')
  return f'the bank of the slowest level is full after {days} days, {then}'
