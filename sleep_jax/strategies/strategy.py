"""What tells one strategy from another; the lifecycle is the same for all."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sleep_jax import types
from sleep_jax.data import batches
from sleep_jax.data import stream as stream_lib
from sleep_jax.model import config
from sleep_jax.schedule import events

# (stream) -> (experience, from 1) -> what is read during it.
Sources = Callable[[stream_lib.Stream], Callable[[int], batches.Source]]
# (wake step) -> wake step.
Wrap = Callable[[Callable], Callable]


@dataclasses.dataclass(frozen=True)
class Strategy:
  """A way of learning from a stream.

  Attributes:
    name: as in `config.strategies`.
    owners: name of each optimizer -> the owners whose parameters it moves;
      a level's optimizer has the level's number as its name.
    sleeps: whether nights are consolidated.
    plan: (levels, num_experiences, steps, night_updates, dreams) -> events.
    sources: see above.
    wrap: changes the wake step.
    memory: whether it stores whole rows.
    edits: whether it edits itself, see `phases.self_edit`.
    tuned: whether its learning rate is chosen on a validation stream.
  """

  name: str
  owners: Mapping[str, tuple[str, ...]]
  sleeps: bool
  plan: Callable[..., Sequence[events.Event]]
  sources: Sources
  wrap: Wrap = lambda step: step
  memory: bool = False
  edits: bool = False
  tuned: bool = False


def sequential_plan(
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int,
  night_updates: int,
  dreams: str = '',
  *,
  sleeps: bool = False,
) -> Sequence[events.Event]:
  """One experience after the other."""
  del night_updates
  return events.make_events(
    levels, num_experiences=num_experiences, steps=steps, sleeps=sleeps,
    dreams=dreams,
  )  # fmt: skip


def sequential_sources(stream: stream_lib.Stream) -> Callable[[int], batches.Source]:
  """Each experience is read while it lasts, and never again."""
  return lambda experience: stream.experiences[experience - 1]


def optimizer_per_level(num_levels: int) -> dict[str, tuple[str, ...]]:
  """Every level but the slowest, each with its own optimizer."""
  return {str(level): (str(level),) for level in range(1, num_levels)}


def single_optimizer(num_levels: int) -> dict[str, tuple[str, ...]]:
  """One optimizer for the core and all levels."""
  return {'all': ('core', *optimizer_per_level(num_levels))}


Metrics = Mapping[str, Any]
Step = Callable[[Any, types.Batch, Mapping[str, Any]], tuple[Any, Metrics]]
