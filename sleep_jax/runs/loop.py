"""The loop of one life: wake, fall asleep, seed, wake up, be asked, be saved.

A life is a walk through the events of `schedule.events`. A checkpoint holds
the state, the number of the next event and what has been recorded so far, so
that a life interrupted anywhere ends where an unbroken one does.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sleep_jax import state as state_lib
from sleep_jax.data import stream as stream_lib
from sleep_jax.dream import dream_records
from sleep_jax.evaluate import evaluator
from sleep_jax.learner import initial_state, programs
from sleep_jax.runs import night_records, run_log
from sleep_jax.runs import progress as progress_lib
from sleep_jax.runtime import processes, profiling
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import metric_writer

# A level that could not sleep, for the guard, has not emptied its bank.
_NO_ROOM = "no room: the receiver's bank is full of nights that it still holds"
_NO_TASK = 'there is nothing to dream about: this experience has no task'
_NO_EXPERT = 'there is no newest expert: no night before it was kept'
CONSOLIDATE, MERGE = programs.CONSOLIDATE, programs.MERGE
DREAM, EDIT = programs.DREAM, programs.EDIT


class Interrupted(Exception):
  """Asked to stop; everything is saved."""


@dataclasses.dataclass
class Tools:
  """What a life needs from outside.

  Attributes:
    progress: shows where it is.
    writer: its metrics.
    checkpoints: its folder.
    stop: whether someone asked to stop.
    profile: traces the first calls of a wake step and of a round.
    on_cycle: called with the record after each evaluation.
  """

  progress: progress_lib.Progress
  writer: metric_writer.MetricWriter
  checkpoints: checkpoints_lib.Checkpoints
  stop: Callable[[], bool] = lambda: False
  on_cycle: Callable[[dict[str, Any]], None] = lambda record: None
  profile: profiling.Profile = profiling.Profile('', 0)


class Run:
  """One strategy, one seed, one stream."""

  def __init__(
    self,
    program: programs.Programs,
    stream: stream_lib.Stream,
    initial_model: initial_state.InitialModel | None,
    evaluator: evaluator.Evaluator | evaluator.HeldOutEvaluator | None,
    tools: Tools,
    *,
    plan: tuple[events.Event, ...],
    key: jax.Array,
    guard_tolerance: float | None,
    save_seconds: float,
    num_samples: int,
  ):
    """Args: guard_tolerance None switches the guard off."""
    self._program, self._stream = program, stream
    self._initial_model, self._evaluator, self._tools = (
      initial_model,
      evaluator,
      tools,
    )
    self._plan, self._key = plan, key
    self._tolerance = guard_tolerance
    self._guarded = guard_tolerance is not None and program.strategy.sleeps
    self._save_seconds = save_seconds
    self._reading = program.strategy.sources(stream)
    self._log = run_log.RunLog(
      tools.writer, stream.tokenizer.decode, num_samples=num_samples
    )
    self._event = 0
    self._under_way: dict[str, Any] = {}  # What is recorded of a night so far.
    self._saved = time.monotonic()

  def run(self) -> tuple[state_lib.State, dict[str, Any]]:
    """Lives, from the latest checkpoint on if there is one.

    Raises:
      Interrupted: `tools.stop` said so; the moment is saved.
    """
    state = self._start()
    while self._event < len(self._plan):
      event = self._plan[self._event]
      if event.kind == events.WAKE:
        state = self._wake_steps(state)
        continue
      if event.kind == events.EVALUATE:
        self._evaluate(state.weights, event)
        self._event += 1
      elif event.kind == events.SLEEP:
        state = self._sleep(state, event)
      elif event.kind == events.DREAM:
        state = self._dream(state, event)
      elif event.kind == events.EDIT:
        state = self._edit(state, event)
      else:
        self._event += 1
        self._save_cycle(state, event)
    self._tools.checkpoints.wait()
    return state, self.record()

  def forget(self, level: int, slot: int) -> None:
    """Switches an expert off where the life stands, and saves that.

    Raises:
      ValueError: nothing has been lived yet, or a night is under way.
    """
    if self._tools.checkpoints.latest_progress() is None:
      raise ValueError('Nothing has been lived yet: there is no expert.')
    state = self._start()
    if state.night is not None:
      raise ValueError('A night is under way: let it end first.')
    state = self._program.disable_expert(state, level, slot)
    self._log.forget(level, slot, step=int(state.step))
    self._tools.checkpoints.save_moment(state, self._progress(state))
    self._tools.checkpoints.wait()

  def record(self) -> dict[str, Any]:
    """Everything that has been recorded so far, JSON-able."""
    return self._log.record()

  def _start(self):
    saved = self._tools.checkpoints.latest_progress()
    if saved is None:
      self._tools.writer.truncate_after(0)
      guard = self._greet()
      state = self._program.begin(self._initial_model, self._key, guard=guard)
      if self._program.strategy.memory:
        state = self._program.fill_memory(state, self._stream.pretrain)
      self._hold(state)
      return state
    series, number, kept = saved
    asleep = self._plan[kept['event']].sender if kept['night'] else None
    phase = kept['nights'][-1]['phase'] if kept['night'] else CONSOLIDATE
    shapes = self._program.abstract(
      self._initial_model, night=asleep, phase=phase
    )
    state = self._tools.checkpoints.restore(series, number, shapes)
    self._event = kept['event']
    self._log.go_on(kept)
    where = f'goes on from {series[:-1]} {number}, step {int(state.step)}'
    self._tools.progress.say(f'{self._program.strategy.name}: {where}')
    return state

  def _greet(self) -> float:
    """Asks the newborn before anything is lived; returns its guard score."""
    if self._initial_model is None:
      return -1.0
    event = events.Event(
      events.EVALUATE, 0, 0, 0, moment=events.INITIAL, ends=True
    )
    self._evaluate(self._initial_model.weights, event)
    if not self._guarded:
      return -1.0
    return self._evaluator.guard_accuracy(self._initial_model.weights, 0)

  def _wake_steps(self, state):
    """The run of wake steps that starts at the next event.

    An evaluation at no moment of a cycle is part of it.
    """
    first = self._event
    stop = first
    while stop < len(self._plan) and _awake(self._plan[stop]):
      stop += 1
    total = sum(e.kind == events.WAKE for e in self._plan[first:stop])
    event = self._plan[first]
    name = self._program.strategy.name
    label = f'{name}: experience {event.experience}'
    if not event.experience:
      label = name
    with self._tools.progress.phase(label, total) as phase:
      while self._event < stop:
        event = self._plan[self._event]
        if event.kind == events.EVALUATE:
          self._evaluate(state.weights, event)
          self._event += 1
          continue
        with self._log.cost.measure_time():
          batch = self._reading(event.experience).batch(event.local_step)
          state, metrics = self._program.wake(state, batch, event.held)
          metrics = processes.fetch(metrics)
        self._tools.profile.record_call('wake')
        loss = float(metrics['loss'])
        self._log.cost.add(
          tokens_read=int(metrics['tokens']), steps=1,
          tokens_generated=int(metrics['written']),
        )  # fmt: skip
        self._event += 1
        if event.step % 20 == 0 or self._event == stop:
          shown = {k: float(metrics[k]) for k in ('grad_norm', 'strain')}
          self._log.write('wake', loss=loss, **shown, step=event.step)
        phase.advance(loss=loss)
        self._maybe_save(state)
    return state

  def _sleep(self, state, event):
    """A sender's night, and before it a merge if there is no room."""
    night = self._log.take_up() if state.night is not None else {}
    must = self._program.needs_merge
    merging = night['phase'] == MERGE if night else must(state, event.sender)
    if merging:
      state, night = self._seed(*self._asleep(state, event, night, MERGE))
      state, night = self._merge(state, event, night), {}
    state, night = self._seed(*self._asleep(state, event, night, CONSOLIDATE))
    return self._wake_up(state, event, night)

  def _asleep(self, state, event, night, phase):
    """Falls asleep, unless it is; `night` is its record so far."""
    if not night:
      with self._log.cost.measure_time():
        state = self._program.fall_asleep(state, event.sender, phase=phase)
      full = phase == CONSOLIDATE and self._program.is_full(state, event.sender)
      night = night_records.new_record(phase, _NO_ROOM * full)
    return state, event, night

  def _dream(self, state, event):
    """A night of dreams; what helped goes into the newest expert."""
    sender = event.sender
    if state.night is not None:
      night = self._log.take_up()
    else:
      state, night = self._begin_to_dream(state, event)
    if state.night is not None:
      state, night = self._seed(state, event, night)
    number = self._log.number
    reason, guard = night.pop('collapse'), None
    if not reason:
      self._log.sample(state.night.pools)
    if self._guarded and not reason:
      larger = self._program.committed(state, sender, phase=DREAM)
      before = self._evaluator.guard_accuracy(state.weights, event.experience)
      guard, reason = self._vetoed(before, larger, event)
    if state.night is not None:
      with self._log.cost.measure_time():
        state = self._program.wake_from_dream(state, sender, accept=not reason)
        jax.block_until_ready(state.step)
    if reason:
      self._tools.progress.say(
        f'night {number}, of dreams, discarded: {reason}'
      )
    row = night_records.finish_record(
      event, number, night, reason=reason, guard=guard
    )
    self._event += 1
    changes = [] if reason else [(night['slot'], 'dreamt')]
    self._log.night(row, changes, sender + 1)
    self._maybe_save(state)
    return state

  def _begin_to_dream(self, state, event):
    """Dreams, if it can; all of it goes into the journal."""
    sender, task = event.sender, self._stream.tasks.get(str(event.experience))
    slot = night_records.newest_slot(self._log.records['nights'], sender + 1)
    if slot is not None and not state.weights.active_NE[sender, slot]:
      slot = None  # It has been forgotten since.
    night = night_records.new_record(DREAM, '', slot=slot, dreams={})
    if task is None or slot is None:
      night['collapse'] = _NO_TASK if task is None else _NO_EXPERT
      return state, night
    with self._log.spent_on(night):
      state, found = self._program.dream(state, sender, slot, task)
      found = processes.fetch(found)
    night['collapse'] = self._dreamt(night, found, task)
    return state, night

  def _dreamt(self, night, found, task):
    """Records what was dreamt; returns why nothing is kept of it, or ''."""
    dreams = self._program.dreams
    self._log.cost.add(
      tokens_generated=int(found['written'].sum()),
      tokens_read=self._program.dream_tokens,
      steps=dreams.rounds * dreams.writer.steps,
    )
    self._log.dreams(night, found, task)
    return dream_records.discard_reason(found)

  def _edit(self, state, event):
    """The model edits itself about an experience, if that has a task."""
    task = self._stream.tasks.get(str(event.experience))
    night = night_records.new_record(EDIT, '' if task else _NO_TASK, dreams={})
    if task is not None:
      with self._log.spent_on(night):
        state, found = self._program.edit(state, task)
        found = processes.fetch(found)
      self._log.cost.add(steps=self._program.edit_steps)
      self._dreamt(night, found, task)
    reason = night.pop('collapse')
    self._event += 1
    row = night_records.finish_record(
      event, self._log.number, night, slot=None, reason=reason
    )
    self._log.night(row, [], 1)
    self._maybe_save(state)
    return state

  def _seed(self, state, event, night):
    """All rounds that are left of a night."""
    sender, phase = event.sender, night['phase']
    self._under_way = night
    label = f'{self._program.strategy.name}: night {self._log.number}'
    total = self._program.settings[phase].num_updates
    start = int(state.night.update)
    with self._tools.progress.phase(label, total, start=start) as bar:
      while int(state.night.update) < total and not night['collapse']:
        first = int(state.night.update)
        with self._log.spent_on(night):
          state, metrics = self._program.seed(state, sender, phase=phase)
          metrics = processes.fetch(metrics)
        self._tools.profile.record_call(phase)
        means = self._note(night, metrics, first, event)
        bar.advance(len(metrics['loss']), loss=means['loss'])
        self._maybe_save(state)
    return state, night

  def _note(self, night, metrics, first, event):
    """Records one round; returns the means of its losses."""
    tokens = self._program.settings[night['phase']].tokens
    means, earned = self._log.round(
      night, metrics, first, step=event.step, tokens=tokens
    )
    if earned:
      night['collapse'] = self._program.collapse(night['imitation'][0], earned)
    return means

  def _merge(self, state, event, night):
    """Two experts of the receiver become one; what that cost is asked."""
    sender, number = event.sender, self._log.number
    self._log.sample(state.night.pools)
    slot, free = map(int, np.asarray(state.night.pair_2))
    known = {}
    if self._evaluator is not None:
      # Of what was known before today: it has not reached these experts yet.
      ask, met = self._evaluator.known_accuracy, event.experience - 1
      two, one = self._program.merge_weights(state, sender)
      known = {'before': ask(two, met), 'after': ask(one, met)}
    with self._log.cost.measure_time():
      state = self._program.commit_merge(state, sender)
      jax.block_until_ready(state.step)
    del night['collapse']
    row = night_records.finish_record(
      event, number, night, sender=sender + 1, slot=slot, known=known,
      merged=[slot, free],
    )  # fmt: skip
    self._log.night(row, [(slot, 'merged'), (free, 'reset')], sender + 1)
    return state

  def _wake_up(self, state, event, night):
    sender, number = event.sender, self._log.number
    self._log.sample(state.night.pools)
    active_NE = np.asarray(state.weights.active_NE)
    grows = self._program.grows
    slot = int(np.argmin(active_NE[sender])) if grows else None
    emptied = np.flatnonzero(active_NE[sender - 1] * (sender > 0)).tolist()
    guard, reason = None, night.pop('collapse')
    if self._guarded and not reason:
      larger = self._program.committed(state, sender)
      before = float(np.asarray(state.guard_N)[sender])
      if not sender:  # The context clears nothing: the day's wear stays.
        before = self._evaluator.guard_accuracy(state.weights, event.experience)
      guard, reason = self._vetoed(before, larger, event)
    accept = not reason
    with self._log.cost.measure_time():
      state = self._program.wake_up(
        state, sender, accept=accept, guard=guard['after'] if guard else -1.0
      )
      jax.block_until_ready(state.step)
    if not accept:
      self._tools.progress.say(f'night {number} discarded: {reason}')
    row = night_records.finish_record(
      event, number, night, slot=slot, reason=reason, guard=guard
    )
    what = 'activated' if grows else 'rewritten'
    self._event += 1
    self._log.night(row, [(slot, what if accept else 'discarded')], sender + 1)
    if accept:
      self._log.enter(row, [(slot, 'reset') for slot in emptied], sender)
    self._hold(state)
    self._maybe_save(state)
    return state

  def _vetoed(self, before, larger, event):
    """The guard's scores, and why they forbid a night; '' if they do not."""
    after = self._evaluator.guard_accuracy(larger, event.experience)
    reason = (
      f'guard probes fell from {before:.3f} to {after:.3f}, more than '
      f'guard.tolerance {self._tolerance}'
    )
    fell = before - after > self._tolerance
    return {'before': before, 'after': after}, reason if fell else ''

  def _evaluate(self, weights, event):
    if self._evaluator is None:
      return
    numbers = self._evaluator.evaluate(weights, event.experience)
    row = {
      'cycle': event.cycle, 'moment': event.moment, 'step': event.step,
      'experience': event.experience if event.ends else None, **numbers,
    }  # fmt: skip
    last = self._event + 2 >= len(self._plan)
    if last or event.moment == events.INITIAL:
      row['second_scores'] = self._evaluator.second_scores(weights)
      row['gates'] = self._evaluator.expert_gates(weights)
    self._log.evaluation(row)
    self._tools.on_cycle(self.record())

  def _hold(self, state):
    self._log.cost.set_sizes(
      **night_records.sizes(state, self._program.model.config)
    )

  def _progress(self, state, *, night: dict | None = None) -> dict[str, Any]:
    return {
      'event': self._event,
      'night': state.night is not None,
      'night_updates': 0 if state.night is None else int(state.night.update),
      **self._log.kept(night),
    }

  def _maybe_save(self, state):
    """A moment, if it is time to, or if someone asked to stop."""
    due = time.monotonic() - self._saved >= self._save_seconds
    stop, due = processes.any_of((self._tools.stop(), due))
    if not stop and not due:
      return
    night = self._under_way if state.night is not None else None
    self._tools.writer.flush()  # It will count on these rows.
    self._tools.checkpoints.save_moment(
      state, self._progress(state, night=night)
    )
    self._saved = time.monotonic()
    if stop:
      self._tools.checkpoints.wait()
      raise Interrupted(
        f'stopped at event {self._event}: saved; the same command goes on'
      )

  def _save_cycle(self, state, event):
    self._tools.writer.flush()  # It will count on these rows.
    self._tools.checkpoints.save_cycle(
      event.cycle, state, self._progress(state)
    )
    self._saved = time.monotonic()
    if processes.any_of((self._tools.stop(),))[0]:
      self._tools.checkpoints.wait()
      raise Interrupted(f'stopped after cycle {event.cycle}: saved')


def _awake(event: events.Event) -> bool:
  read = event.kind == events.EVALUATE and not event.moment
  return event.kind == events.WAKE or read
