"""Levels of a config with more expert slots, or with one more level.

A new level is slower than all others. It takes over the MLP of the blocks from
the level that was the slowest. That one becomes a bank beside it, which sleeps
after a number of days.
"""

import pprint
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.model import config as config_lib
from sleep_jax.sleep import sender_settings
from sleep_jax.sleep import settings as settings_lib

_FILE = '''"""The config of this work directory, whose levels have grown."""

import ml_collections


def get_config():
  return ml_collections.ConfigDict(_CONFIG)


_CONFIG = {}
'''


def parse_slots(words: Sequence[str]) -> dict[int, int]:
  """Returns level -> number of slots, of words such as '2:10'.

  Raises:
    UsageError: a word is no such pair, or a level is there twice.
  """
  found = {}
  for word in words:
    pair = re.fullmatch(r'(\d+):(\d+)', word.strip())
    if not pair or int(pair[1]) in found:
      raise errors.UsageError(
        f'--slots={",".join(words)}: expected each level once with its number '
        'of slots, as in --slots=2:10,3:12 (levels count from 1).'
      )
    found[int(pair[1])] = int(pair[2])
  return found


def with_slots(
  config: Mapping[str, Any], slots: Mapping[int, int]
) -> dict[str, Any]:
  """Returns a config with other numbers of slots.

  Args:
    config: of a work directory.
    slots: level -> its number of slots.

  Raises:
    UsageError: there is no such level, it has no bank, or it would not have
      more slots than now.
  """
  levels = [dict(level) for level in config['levels']]
  for number, wanted in slots.items():
    if not 1 <= number <= len(levels):
      raise errors.UsageError(
        f'--slots={number}:{wanted}: there is no level {number}; the levels '
        f'are 1 to {len(levels)}.'
      )
    now = levels[number - 1].get('slots', 0)
    if not now:
      raise errors.UsageError(
        f'--slots={number}:{wanted}: level {number} has no bank of experts.'
      )
    if wanted <= now:
      raise errors.UsageError(
        f'--slots={number}:{wanted}: level {number} has {now} slots, and a '
        'bank can only grow: name a larger number, or leave the level out.'
      )
    levels[number - 1]['slots'] = wanted
  return {**config, 'levels': levels}


def parse_level(words: Sequence[str]) -> tuple[int, int, int] | None:
  """Returns rank, slots and days of a new level; None without words.

  Raises:
    UsageError: the words are not three positive numbers.
  """
  if not words:
    return None
  if len(words) != 3 or not all(re.fullmatch(r'0*[1-9]\d*', w) for w in words):
    raise errors.UsageError(
      f'--level={",".join(words)}: expected RANK,SLOTS,DAYS, as in '
      '--level=512,4,125: hidden units of an expert of the new level, its '
      'slots, and the sleep period, in days, of the level that is the slowest '
      'so far.'
    )
  rank, slots, days = map(int, words)
  return rank, slots, days


def with_level(
  config: Mapping[str, Any], rank: int, slots: int, days: int
) -> dict[str, Any]:
  """Returns a config with a new slowest level.

  The level that was the slowest gets the `night` settings of the level before
  it, and its own move to the new level. If the nights of the level before it
  have `full='absorb'`, they get 'error', and those of the level that was the
  slowest get 'absorb', because only the slowest level absorbs its bank.

  Args:
    config: of a work directory.
    rank: hidden units of an expert of the new level.
    slots: of the new level.
    days: after how many days the level that was the slowest sleeps.

  Raises:
    UsageError: the model has one level, or its arrangement is 'depth'.
  """
  if config['model']['arrangement'] == 'depth' or len(config['levels']) < 2:
    raise errors.UsageError(
      f'--level: the config has {len(config["levels"])} levels and '
      f'config.model.arrangement={config["model"]["arrangement"]!r}: expected '
      "two levels or more and another arrangement than 'depth'. Add slots with "
      '--slots instead.'
    )
  *faster, sender, old = [dict(level) for level in config['levels']]
  night, own = dict(sender.get('night') or {}), old.pop('night', None)
  made = dict(
    hidden=old['hidden'], update_period=config_lib.INFINITE,
    sleep_period=config_lib.INFINITE, slots=slots, rank=rank,
  )  # fmt: skip
  bank = old | dict(hidden=1, sleep_period=f'{days} days', beside=True)
  settings = sender_settings.make(config, len(faster) + 1)
  if settings.full == settings_lib.ABSORB:
    sender['night'] = night | dict(full='error')
    night['full'] = settings_lib.ABSORB
  if night:
    bank['night'] = night
  if own:
    made['night'] = own
  return {**config, 'levels': [*faster, sender, bank, made]}


def config_file(config: Mapping[str, Any]) -> str:
  """Returns the text of a config file that defines a config."""
  values = pprint.pformat(_with_tuples(config), sort_dicts=False, width=80)
  return _FILE.replace('{}', values)


def _with_tuples(value: Any) -> Any:
  """Returns a value of JSON with tuples in place of lists."""
  if isinstance(value, Mapping):
    return {name: _with_tuples(item) for name, item in value.items()}
  return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
