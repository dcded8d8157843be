"""Says before a run begins whether its model could be exported exactly.

The gates and the arrangement of a run cannot be changed later, so `convert out`
would name them too late.
"""

from collections.abc import Mapping
from typing import Any

from sleep_jax.interop import dense_mlp
from sleep_jax.model import config as config_lib
from sleep_jax.schedule import events
from sleep_jax.sleep import sender_settings, settings

# Values with which an export is exact; reasons begin with the field.
_EXACT = {'router': 'always', 'top_k': 0, 'arrangement': 'independent'}


def notice(config: Mapping[str, Any]) -> str:
  """Returns a line if the strategy 'sleep' gives no exact export, else ''.

  A chain of levels is exact if its faster levels are empty after their nights.

  Args:
    config: of the run, as JSON returns it. Its base model, which every export
      can express, is not read.
  """
  levels = tuple(map(config_lib.make_level, config['levels']))
  c = config_lib.Model(vocab_size=0, levels=levels, **config['model'])
  full = sender_settings.overflow(config, events.sleepers(levels))
  receivers = {*full}
  grows = any(found != 'none' for found in full.values())
  reasons = []
  if grows:
    most = max(levels[number - 1].slots for number in receivers)
    reasons += dense_mlp.routing_reasons(c, num_experts=most)
  if c.arrangement == 'depth':
    reasons += [dense_mlp.DEPTH] * bool(grows)
  elif c.arrangement != 'independent':
    reasons += dense_mlp.chain_reasons(c, receivers | _kept_awake(config))
  if not reasons:
    return ''
  changes = ' '.join(
    f'--config.model.{field}={value}'
    for field, value in _EXACT.items()
    if any(reason.startswith(f'model.{field} is') for reason in reasons)
  )
  return (
    'note: this model will have no exact dense export (sleep-jax convert out): '
    f'{"; ".join(reasons)}. To have one, start with {changes}.'
  )


def _kept_awake(config: Mapping[str, Any]) -> set[int]:
  """Returns the levels that learn awake and that no night empties."""
  is_cleared = config['consolidate']['sender_after_sleep'] == settings.CLEARED
  return {
    number
    for number, (level, optimizer) in enumerate(
      zip(config['levels'], config['wake']['optimizers'], strict=False), 1
    )
    if optimizer['learning_rate']
    and level['update_period'] != config_lib.INFINITE
    and not (is_cleared and events.days_of(level['sleep_period']) == 1)
  }
