"""What the loop of a run and its nights share: programs, data, log, position.

The position is the number of the next event of the schedule. A checkpoint holds
the state, the position and everything recorded so far.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import ability_evaluator
from sleep_jax.evaluate import evaluator as evaluator_lib
from sleep_jax.evaluate import own_texts as own_texts_lib
from sleep_jax.runs import divergence, night_records, run_log, run_programs
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import processes, profiling
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import metric_writer


class Questions(Protocol):
  """Writes questions about a day, see `evening_questions`."""

  write: Callable


class Interrupted(Exception):
  """The run was asked to stop; everything is saved."""


@dataclasses.dataclass
class Tools:
  """What a run needs from outside.

  Attributes:
    progress: shows how far the run is.
    writer: writes its metrics.
    checkpoints: its checkpoint folder.
    stop: returns whether the run is asked to stop.
    on_cycle: called with the record after each evaluation.
    profile: traces the first wake steps and the first rounds of a night.
  """

  progress: progress_lib.Progress
  writer: metric_writer.MetricWriter
  checkpoints: checkpoints_lib.Checkpoints
  stop: Callable[[], bool] = lambda: False
  on_cycle: Callable[[dict[str, Any]], None] = lambda record: None
  profile: profiling.Profile = profiling.Profile('', 0)


class RunContext:
  """State of one run outside the model.

  Attributes:
    position: number of the next event in `plan`.
    questions: writes questions about a day, or None.
    night: record of the night under way; empty outside a night.
    log: everything recorded so far.
    monitor: stops a phase that diverges.
  """

  def __init__(
    self,
    program: run_programs.Programs,
    stream: stream_lib.Stream,
    initial_model: state_lib.InitialModel | None,
    evaluator: evaluator_lib.Evaluator | evaluator_lib.HeldOutEvaluator | None,
    tools: Tools,
    *,
    plan: tuple[events.Event, ...],
    day_steps: Sequence[int],
    night_budget: int | None = None,
    advice: Mapping[str, str],
    key: jax.Array,
    guard_tolerance: float | None,
    save_seconds: float,
    num_samples: int,
    ability: ability_evaluator.AbilityEvaluator | None = None,
    own_texts: own_texts_lib.OwnTexts | None = None,
    questions: Questions | None = None,
  ):
    """Collects the parts of a run.

    Args:
      program: compiled programs of the strategy.
      stream: what is learned.
      initial_model: weights and prompts to start from; None to draw weights.
      evaluator: None evaluates nothing.
      tools: see `Tools`.
      plan: all events of the run.
      day_steps: wake steps of each experience that the plan is made of.
      night_budget: updates of nights that it is made of, see `run_plan`.
      advice: settings to look at if a phase diverges, see `divergence.advice`.
      key: of all random numbers.
      guard_tolerance: largest fall of the guard's score that a night may
        cause; None switches the guard off.
      save_seconds: seconds between two checkpoints inside a cycle.
      num_samples: rehearsals of each teacher and night that are recorded.
      ability: measures the model every morning; None measures nothing.
      own_texts: the guard's, of a pretrained model; None: the guard has the
        questions of `evaluator`.
      questions: writes questions about a day; None: nobody does.
    """
    self.questions = questions
    self._ability, self._own_texts = ability, own_texts
    self.program, self.stream, self.tools = program, stream, tools
    self.initial_model, self.evaluator = initial_model, evaluator
    self.plan, self.key, self.position = plan, key, 0
    self._day_steps, self._night_budget = [*day_steps], night_budget
    # Of 'joint', all steps belong to the last experience.
    self._num_steps = collections.Counter(
      event.experience for event in plan if event.kind == events.WAKE
    )
    self.guarded = guard_tolerance is not None and program.strategy.sleeps
    self._tolerance = guard_tolerance
    self._save_seconds = save_seconds
    self.log = run_log.RunLog(
      tools.writer, stream.tokenizer.decode, num_samples=num_samples
    )
    self.monitor = divergence.Monitor(
      program.model.config.vocab_size, advice, tools.checkpoints
    )
    self.night: dict[str, Any] = {}
    self._saved = time.monotonic()

  @property
  def name(self) -> str:
    """Name of the strategy."""
    return self.program.strategy.name

  def day_share(self, event: events.Event) -> float:
    """Returns the share of its experience's steps before a wake step."""
    if not event.experience:
      return 0.0
    return event.local_step / self._num_steps[event.experience]

  def evaluate(self, weights: types.Weights, event: events.Event) -> None:
    """Evaluates and records; after the last event also the second scores.

    Raises:
      DivergedError: a loss is not finite, so that no score means anything.
    """
    if self.evaluator is None:
      return
    numbers = self.evaluator.evaluate(weights, event.experience)
    self.log.cost.set_sizes(**self.evaluator.sizes)
    if event.moment == events.INITIAL:
      self.monitor.begin(events.EVALUATE, f'{self.name}: the initial model')
    self.monitor.check_scores(numbers)
    if self._ability is not None and self._is_morning(event):
      numbers['ability'] = self._measure_ability(weights, event)
    row = {
      'cycle': event.cycle, 'moment': event.moment, 'step': event.step,
      'experience': event.experience if event.ends else None,
      'cost': self.log.cost.totals(), **numbers,
    }  # fmt: skip
    if self._is_last or event.moment == events.INITIAL:
      row['second_scores'] = self.evaluator.second_scores(weights)
      row['gates'] = self.evaluator.expert_gates(weights)
    self.log.evaluation(row)
    self.tools.on_cycle(self.log.record())

  @property
  def _is_last(self) -> bool:
    """Whether no evaluation follows the present one."""
    return self.position + 2 >= len(self.plan)

  def _is_morning(self, event: events.Event) -> bool:
    """Whether an evaluation is the first of a run or the last of a cycle.

    A strategy that does not sleep has no other evaluation in a cycle.
    """
    if event.moment == events.INITIAL:
      return True
    after = self.plan[self.position + 1 :]
    return bool(after) and after[0].kind == events.SAVE

  def _measure_ability(
    self, weights: types.Weights, event: events.Event
  ) -> dict[str, Any]:
    """Returns what the model can do; on the full sets at start and end.

    Raises:
      DivergedError: a loss is not finite.
    """
    ability = self._ability
    assert ability is not None
    label = f'{self.name}: what the model could do before'
    with self.tools.progress.phase(label, 1) as bar:
      if event.moment == events.INITIAL:
        found = ability.initial()
      else:
        found = ability.evaluate(
          weights, full=self._is_last and ability.has_end
        )
      bar.advance()
    self.monitor.observe(
      '', (), loss_on_ordinary_text=found.get('text', {}).get('loss', 0.0),
      divergence_on_everyday_answers=found.get('everyday', {}).get('kl', 0.0),
    )  # fmt: skip
    return found

  def guard_veto(
    self, before: float, weights: types.Weights
  ) -> tuple[dict[str, float], str]:
    """Returns the guard's scores and the reason to discard a night, or ''.

    Args:
      before: its score before the night, see `guard_score`.
      weights: what the night would commit.
    """
    after = self.guard_score(weights)
    reason = ''
    if not before - after <= self._tolerance:  # NaN is a reason as well.
      what = 'guard probes'
      if self._own_texts is not None:
        what = "the log-likelihood of the initial model's own texts"
      reason = (
        f'{what} fell from {before:.3f} to {after:.3f}, more than '
        f'guard.tolerance {self._tolerance}'
      )
    return {'before': before, 'after': after}, reason

  def record_sizes(self, state: state_lib.State) -> None:
    """Records added parameters, stored bytes and FLOPs of a token."""
    config, length = self.program.model.config, self.program.row_length
    sleeps = self.program.strategy.sleeps
    found = night_records.sizes(state, config, length, sleeps=sleeps)
    self.log.cost.set_sizes(**found)

  def maybe_save(self, state: state_lib.State) -> None:
    """Saves a checkpoint inside the cycle if one is due.

    While the loss is so high that the phase may be diverging, nothing is saved.

    Raises:
      Interrupted: the run is asked to stop; it is saved first.
    """
    due = time.monotonic() - self._saved >= self._save_seconds
    stop, due = processes.any_of((self.tools.stop(), due))
    if not stop and not due:
      return
    if not self.monitor.is_high:
      self.save(state)
    if stop:
      self.tools.checkpoints.wait()
      saved = 'saved'
      if self.monitor.is_high:
        saved = 'not saved, because the loss is too high'
      raise Interrupted(
        f'stopped at event {self.position}: {saved}; the same command continues'
      )

  def save(self, state: state_lib.State) -> None:
    """Saves a checkpoint inside the cycle.

    Raises:
      DivergedError: the state has values that are not finite.
    """
    self.monitor.check_state(state)
    night = self.night if state.night is not None else None
    self.tools.writer.flush()  # The checkpoint counts on these rows.
    self.tools.checkpoints.save_moment(
      state, self._progress(state, night=night)
    )
    self._saved = time.monotonic()

  def save_cycle(self, state: state_lib.State, event: events.Event) -> None:
    """Saves the checkpoint at the end of a cycle.

    Raises:
      DivergedError: the state has values that are not finite.
      Interrupted: the run is asked to stop.
    """
    self.monitor.check_state(state)
    self.tools.writer.flush()  # The checkpoint counts on these rows.
    self.tools.checkpoints.save_cycle(event.cycle, state, self._progress(state))
    self._saved = time.monotonic()
    if processes.any_of((self.tools.stop(),))[0]:
      self.tools.checkpoints.wait()
      raise Interrupted(f'stopped after cycle {event.cycle}: saved')

  def guard_score(self, weights: types.Weights) -> float:
    """The guard's score, higher is better; -1.0 if the guard is off.

    Of a pretrained model the mean log-likelihood of texts that the initial
    model wrote, nats a token; else the accuracy on the guard's questions.
    """
    if not self.guarded:
      return -1.0
    if self._own_texts is not None:
      return self._own_texts.score(weights)
    return self.evaluator.guard_accuracy(weights)

  def active_slots(self, state: state_lib.State, level: int) -> list[int]:
    """Slots of a level's bank in use; level 0, the context, has none."""
    if not level:
      return []
    active_NE = np.asarray(state.weights.active_NE)
    return np.flatnonzero(active_NE[level - 1]).tolist()

  def _progress(
    self, state: state_lib.State, *, night: dict[str, Any] | None = None
  ) -> dict[str, Any]:
    done = self.plan[: self.position]
    return {
      'event': self.position,
      'begun': max((event.experience for event in done), default=0),
      'day_steps': self._day_steps,
      'night_budget': self._night_budget,
      'phase': self.monitor.to_save(),
      'night': state.night is not None,
      'night_updates': 0 if state.night is None else int(state.night.update),
      **self.log.to_save(night),
    }
