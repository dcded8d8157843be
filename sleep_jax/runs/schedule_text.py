"""Formats the schedule of a run as text, for its start and for a plan."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sleep_jax.schedule import capacity, chain, events
from sleep_jax.sleep import sender_settings


def describe(
  config: Mapping[str, Any],
  levels: Sequence[events.Level],
  schedules: Iterable[tuple[capacity.LevelSchedule, ...]],
) -> str:
  """Returns the fullest of some schedules, and how many days the levels hold.

  Args:
    config: of the run, as JSON returns it.
    levels: fastest first.
    schedules: of its strategies, see `capacity.audit`.
  """
  fullest = capacity.describe(max(schedules, key=capacity.most_experts))
  return '\n'.join(filter(None, (fullest, days_held(config, levels))))


def days_held(config: Mapping[str, Any], levels: Sequence[events.Level]) -> str:
  """Returns how many days fit into the levels; '' if days do not count."""
  full = sender_settings.overflow(config, events.sleepers(levels))
  return chain.describe(levels, full.get(len(levels), ''))
