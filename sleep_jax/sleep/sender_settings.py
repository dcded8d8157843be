"""Settings of one sender's nights: those of all nights, changed by its level.

`config.levels[i]['night']` changes fields of `consolidate` and of
`expert_optimizer` for the nights in which level i + 1 is the sender. A slow
level carries what several nights taught it, and needs a longer night.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.sleep import settings as settings_lib
from sleep_jax.sleep import settings_checks

# Fields of teachers that a level may set for all of them.
OF_TEACHERS = ('sequences', 'draws')


def make(config: Mapping[str, Any], sender: int) -> settings_lib.Settings:
  """Returns the checked settings of a sender's nights.

  Args:
    config: of the run, as JSON returns it.
    sender: level that sleeps; 0 is the context window, which has no fields of
      its own.

  Raises:
    ConfigError: a value is not allowed, or two contradict each other.
  """
  night, consolidate = _own(config, sender), dict(config['consolidate'])
  if not night:
    return settings_checks.make_settings(**consolidate)
  consolidate |= {k: v for k, v in night.items() if k in consolidate}
  for field in OF_TEACHERS:
    if field in night:
      consolidate['teachers'] = [
        {**teacher, field: night[field]} for teacher in consolidate['teachers']
      ]
  try:
    return settings_checks.make_settings(**consolidate)
  except errors.ConfigError as error:
    raise errors.ConfigError(
      f'config.levels[{sender - 1}].night, with config.consolidate for what it '
      f'leaves out: {error}'
    ) from error


def optimizer(config: Mapping[str, Any], sender: int) -> dict[str, Any]:
  """Returns the arguments of `optimizer.make` for a sender's nights.

  The cosine ends with the night, unless the config sets `decay_steps`. In an
  adaptive night it begins when the end is known, so none is set here.

  Args:
    config: of the run, as JSON returns it.
    sender: level that sleeps.
  """
  night, shared = _own(config, sender), dict(config['expert_optimizer'])
  own = {k: v for k, v in night.items() if k not in config['consolidate']}
  own = {k: v for k, v in own.items() if k not in OF_TEACHERS}
  settings = make(config, sender)
  decay_steps = 0 if settings.adaptive else settings.num_updates
  return {'decay_steps': decay_steps} | shared | own


def overflow(
  config: Mapping[str, Any], senders: Iterable[int]
) -> dict[int, str]:
  """Returns what each receiver does when its bank is full.

  Args:
    config: of the run, as JSON returns it.
    senders: levels that sleep; the receiver is the next one.

  Returns:
    Receiver -> 'error', 'merge', 'absorb', or 'none' if the sender's nights
    add no experts.
  """
  nights = {sender + 1: make(config, sender) for sender in senders}
  return {
    receiver: 'none' if night.into == settings_lib.BASE else night.full
    for receiver, night in nights.items()
  }


def _own(config: Mapping[str, Any], sender: int) -> Mapping[str, Any]:
  """Returns what a level changes for its own nights."""
  if not sender:
    return {}
  return config['levels'][sender - 1].get('night') or {}
