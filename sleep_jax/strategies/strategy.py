"""Defines a strategy: all that differs between two ways of learning a stream.

Everything else of a run (data, evaluation, checkpoints, logs) is shared. To add
a strategy, write one module in this package, see `registry`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sleep_jax import types
from sleep_jax.data import batches
from sleep_jax.data import stream as stream_lib
from sleep_jax.model import config
from sleep_jax.schedule import events
from sleep_jax.strategies import method

Metrics = Mapping[str, Any]
# (state, batch, held) -> (state, metrics), see `wake.step`.
Step = Callable[[Any, types.Batch, Mapping[str, Any]], tuple[Any, Metrics]]
# (stream) -> (number of the experience, from 1) -> rows read during it.
Sources = Callable[[stream_lib.Stream], Callable[[int], batches.Source]]
# (wake step) -> wake step.
Wrap = Callable[[Callable], Callable]
# (config, key, weights of the initial model) -> weights that also carry an
# adapter: parameters of the strategy's own, see `model.lora`.
Extend = Callable[[Any, types.Array, types.Weights], types.Weights]
# (parts) -> what is added to the wake step and done between wake steps.
Build = Callable[[method.Parts], method.Method]
# (config, evaluator of the stream, stream) -> evaluator of the run.
Evaluate = Callable[[Any, Any, stream_lib.Stream], Any]


@dataclasses.dataclass(frozen=True)
class Strategy:
  """A way of learning from a stream of experiences.

  Attributes:
    name: of the run; its folder and its rows in reports have this name.
    owners: name of each optimizer -> owners whose parameters it updates
      ('core', the number of a level, or 'adapter'). The optimizer of one level
      has the level's number as its name; `optimizer_section` says where the
      config has its settings. Empty: nothing is trained.
    sleeps: whether nights consolidate levels.
    plan: (levels, num_experiences, steps, night_updates, dreams) -> events;
      `steps` are the wake steps of each experience, `night_updates` the
      seeding updates of each sender's nights (or one number, of all nights
      together), and `dreams` is 'before', 'after' or '' (no dreaming nights).
    sources: rows read during each experience, see `Sources`.
    wrap: changes the wake step, see `Wrap`.
    extend: adds parameters of the strategy's own, see `Extend`.
    build: adds arrays, a term of the loss, a change of gradients or reviews,
      see `Build`. The plan says when reviews are, see `sequential_plan`.
    trains: (path) -> whether a parameter of an owner is trained.
    evaluator: changes how questions are asked, see `Evaluate`.
    check: refuses a stream to which the strategy does not apply (ConfigError).
    stores_rows: whether the state has a buffer of whole rows, see
      `replay.row_buffer`.
    dates_rows: whether that buffer keeps the wake step of each row.
    stores_answers: whether the answers of stored prompts are kept, and learned
      in nights.
    edits: whether the model edits itself, see `dream.self_edit`.
    tuned: whether the learning rate is tuned on a validation stream.
    takes_night_updates: whether `plan` depends on `night_updates`.
  """

  name: str
  owners: Mapping[str, tuple[str, ...]]
  sleeps: bool
  plan: Callable[..., Sequence[events.Event]]
  sources: Sources
  wrap: Wrap = lambda step: step
  extend: Extend = lambda config, key, weights: weights
  build: Build = lambda parts: method.Method()
  trains: Callable[[str], bool] = lambda path: True
  evaluator: Evaluate = lambda config, evaluator, stream: evaluator
  check: Callable[[stream_lib.Stream], None] = lambda stream: None
  stores_rows: bool = False
  dates_rows: bool = False
  stores_answers: bool = False
  edits: bool = False
  tuned: bool = False
  takes_night_updates: bool = False

  @property
  def reads_days(self) -> bool:
    """Whether each experience has wake steps that read its own rows."""
    return self.sources is sequential_sources and bool(self.owners)


def fine_tuning(
  name: str, num_levels: int, *, reviews: Sequence[str] = (), **more: Any
) -> Strategy:
  """Returns a strategy that fine-tunes all weights on one day after the other.

  Args:
    name: of the strategy.
    num_levels: of the model.
    reviews: moments of reviews, see `events.with_reviews`.
    **more: further attributes of the strategy.
  """
  defaults = dict(
    owners=single_optimizer(num_levels),
    sleeps=False,
    plan=functools.partial(sequential_plan, reviews=reviews),
    sources=sequential_sources,
    tuned=True,
  )
  return Strategy(name=name, **(defaults | more))


def sequential_plan(
  levels: Sequence[config.Level],
  num_experiences: int,
  steps: int | Sequence[int],
  night_updates: Mapping[int, int],
  dreams: str = '',
  *,
  sleeps: bool = False,
  reviews: Sequence[str] = (),
) -> Sequence[events.Event]:
  """Returns the events of experiences learned one after the other.

  Args:
    levels: of the model, fastest first.
    num_experiences: number of experiences.
    steps: wake steps of each experience, or one number for all.
    night_updates: not used.
    dreams: when nights dream, see `Strategy.plan`.
    sleeps: whether levels sleep.
    reviews: moments of reviews, see `events.with_reviews`.
  """
  del night_updates
  plan = events.make_events(
    levels,
    num_experiences=num_experiences,
    steps=steps,
    sleeps=sleeps,
    dreams=dreams,
  )
  return events.with_reviews(plan, reviews)


def sequential_sources(
  stream: stream_lib.Stream,
) -> Callable[[int], batches.Source]:
  """Returns sources in which each experience provides only its own rows."""
  return lambda experience: stream.experiences[experience - 1]


def optimizer_per_level(num_levels: int) -> dict[str, tuple[str, ...]]:
  """Returns owners in which every level but the slowest has an optimizer."""
  return {str(level): (str(level),) for level in range(1, num_levels)}


def single_optimizer(num_levels: int) -> dict[str, tuple[str, ...]]:
  """Returns owners in which one optimizer has the core and all levels."""
  return {'all': ('core', *optimizer_per_level(num_levels))}


def optimizer_section(name: str) -> str:
  """Returns where a config has the settings of an optimizer.

  Args:
    name: of the optimizer, see `Strategy.owners`.
  """
  if name.isdigit():
    return f'wake.optimizers[{int(name) - 1}]'
  shared = {'core': 'pretrain.optimizer', 'all': 'fine_tune'}
  return shared.get(name, f'{name}.optimizer')
