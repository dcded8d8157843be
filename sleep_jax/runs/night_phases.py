"""The nights of a run: consolidation, merging, dreaming, editing, on the log.

Each takes the state and the event of the schedule, continues a night that a
checkpoint was saved in, and returns the state after it.

Reference: 2606.03979 section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.dream import dream_records
from sleep_jax.runs import context as context_lib
from sleep_jax.runs import night_records
from sleep_jax.runtime import processes
from sleep_jax.schedule import events
from sleep_jax.sleep import imitation

CONSOLIDATE, MERGE = events.CONSOLIDATE, events.MERGE
DREAM, EDIT = events.DREAM, events.EDIT
# After a night that the guard discarded, a level's bank has not been reset.
_NO_ROOM = "no room: the receiver's bank is full of nights that it still holds"
_NO_TASK = 'there is nothing to dream about: this experience has no task'
_NO_EXPERT = 'there is no newest expert: no night before it was kept'

State = state_lib.State
Record = dict[str, Any]


class NightPhases:
  """Nights of one run."""

  def __init__(self, context: context_lib.RunContext):
    self._context, self._program = context, context.program
    self._log = context.log

  def sleep(self, state: State, event: events.Event) -> State:
    """Consolidates a sender; merges two experts first if the bank is full."""
    night = self._log.resume_night() if state.night is not None else {}
    if night:
      merging = night['phase'] == MERGE
    else:
      merging = self._program.needs_merge(state, event.sender)
    if merging:
      state, night = self._fall_asleep(state, event, night, MERGE)
      state, night = self._seed(state, event, night)
      state, night = self._merge(state, event, night), {}
    state, night = self._fall_asleep(state, event, night, CONSOLIDATE)
    state, night = self._seed(state, event, night)
    return self._wake_up(state, event, night)

  def dream(self, state: State, event: events.Event) -> State:
    """Dreams; what helped is trained into the newest expert."""
    sender = event.sender
    if state.night is not None:
      night = self._log.resume_night()
    else:
      state, night = self._begin_dream(state, event)
    if state.night is not None:
      state, night = self._seed(state, event, night)
    number = self._log.number
    reason, guard = night.pop('collapse'), None
    if not reason:
      self._log.sample(state.night.pools)
    if self._context.guarded and not reason:
      after = self._program.committed(state, sender, phase=DREAM)
      before = self._context.guard_score(state.weights)
      guard, reason = self._context.guard_veto(before, after)
    if state.night is not None:
      self._context.monitor.check_state(state)
      with self._log.cost.measure_time():
        state = self._program.wake_from_dream(state, sender, accept=not reason)
        jax.block_until_ready(state.step)
    if reason:
      self._context.tools.progress.say(
        f'{self._title(event)}, of dreams, discarded: {reason}'
      )
    row = night_records.finish_record(
      event, number, night, reason=reason, guard=guard
    )
    self._context.position += 1
    changes = [] if reason else [(night['slot'], 'dreamt')]
    self._log.night(row, changes, sender + 1)
    self._context.maybe_save(state)
    return state

  def edit(self, state: State, event: events.Event) -> State:
    """The model edits itself about an experience that has a task."""
    task = self._context.stream.tasks.get(str(event.experience))
    night = night_records.new_record(EDIT, '' if task else _NO_TASK, dreams={})
    if task is not None:
      with self._log.add_time(night):
        state, found = self._program.edit(state, task)
        found = processes.fetch(found)
      self._begin_phase(event, EDIT)
      self._log.cost.add(steps=self._program.edit_steps)
      self._record_dreams(night, found, task)
      self._context.monitor.check_state(state)
    reason = night.pop('collapse')
    self._context.position += 1
    row = night_records.finish_record(
      event, self._log.number, night, slot=None, reason=reason
    )
    self._log.night(row, [], 1)
    self._context.maybe_save(state)
    return state

  def _fall_asleep(
    self, state: State, event: events.Event, night: Record, phase: str
  ) -> tuple[State, Record]:
    """Starts a night, unless `night`, its record, says that it has started."""
    if not night:
      full = phase == CONSOLIDATE and self._program.is_full(state, event.sender)
      night = night_records.new_record(phase, _NO_ROOM * full)
      if phase == CONSOLIDATE and not full:
        state = self._ask(state, event, night)
      with self._log.cost.measure_time():
        state = self._program.fall_asleep(state, event.sender, phase=phase)
    return state, night

  def _ask(self, state: State, event: events.Event, night: Record) -> State:
    """Writes questions about the day, if the run does, and records them."""
    questions, program = self._context.questions, self._program
    if questions is None or not program.settings(event.sender).reads:
      return state
    with self._log.add_time(night):
      state, found = questions.write(state, event.sender, program)
    if found:
      self._log.cost.add(tokens_generated=found['tokens_written'])
      self._log.questions(found.pop('samples'))
      night['questions'] = found
      self._context.tools.progress.say(
        f'{self._title(event)}: {night_records.describe_questions(found)}'
      )
    return state

  def _begin_dream(
    self, state: State, event: events.Event
  ) -> tuple[State, Record]:
    """Generates, tries and records dreams, if there is a task and an expert."""
    sender = event.sender
    task = self._context.stream.tasks.get(str(event.experience))
    slot = night_records.newest_slot(self._log.records['nights'], sender + 1)
    if slot is not None and not state.weights.active_NE[sender, slot]:
      slot = None  # It has been forgotten since.
    night = night_records.new_record(DREAM, '', slot=slot, dreams={})
    if task is None or slot is None:
      night['collapse'] = _NO_TASK if task is None else _NO_EXPERT
      return state, night
    with self._log.add_time(night):
      state, found = self._program.dream(state, sender, slot, task)
      found = processes.fetch(found)
    self._begin_phase(event, DREAM)
    night['collapse'] = self._record_dreams(night, found, task)
    return state, night

  def _record_dreams(
    self, night: Record, found: Mapping[str, Any], task: types.Task
  ) -> str:
    """Records dreams; returns the reason why none is used, or ''."""
    self._context.monitor.check_dreams(found)
    dreams = self._program.dreams
    self._log.cost.add(
      tokens_generated=int(found['written'].sum()),
      tokens_read=self._program.dream_tokens,
      steps=dreams.rounds * dreams.writer.steps,
    )
    self._log.dreams(night, found, task)
    return dream_records.discard_reason(found)

  def _title(self, event: events.Event) -> str:
    """Returns the name of the day and the number of its night."""
    day = self._context.stream.experiences[event.experience - 1].name
    return f'{day}, night {self._log.number}'

  def _seed(
    self, state: State, event: events.Event, night: Record
  ) -> tuple[State, Record]:
    """Runs the remaining rounds of a night."""
    sender, phase = event.sender, night['phase']
    self._context.night = night
    label = f'{self._context.name}: {self._title(event)}'
    end = lambda: self._program.night_end(state, sender, phase=phase)
    start = int(state.night.update)
    tools = self._context.tools
    self._begin_phase(event, phase)
    with tools.progress.phase(label, end(), start=start) as bar:
      while int(state.night.update) < end() and not night['collapse']:
        first = int(state.night.update)
        with self._log.add_time(night):
          state, metrics = self._program.seed(state, sender, phase=phase)
          metrics = processes.fetch(metrics)
        tools.profile.record_call(phase)
        self._observe(metrics, first)
        means = self._record_round(night, metrics, first, event)
        bar.advance(len(metrics['loss']), loss=means['loss'])
        self._context.maybe_save(state)
    self._context.monitor.end(state)
    night['updates'] = int(state.night.update)
    return state, night

  def _begin_phase(self, event: events.Event, phase: str) -> None:
    """Tells the monitor which phase begins or continues."""
    self._context.monitor.begin(
      phase, f'{self._context.name}: {self._title(event)} ({phase})'
    )

  def _observe(self, metrics: Mapping[str, Any], first: int) -> None:
    """Shows the numbers of one round to the monitor.

    With imitation the loss has a reward in it, so the divergences from the
    teachers are watched for an explosion.
    """
    divergences = night_records.divergences(metrics)
    self._context.monitor.observe(
      f'update {first + len(metrics["loss"])}',
      np.mean([*divergences.values()], 0).tolist(),
      loss=metrics['loss'],
      imitation=[*metrics.get('imitation', {}).values()],
    )

  def _record_round(
    self,
    night: Record,
    metrics: Mapping[str, Any],
    first: int,
    event: events.Event,
  ) -> dict[str, float]:
    """Records one round; returns the means of its losses."""
    settings = self._program.settings(event.sender, night['phase'])
    means, rewards = self._log.round(
      night, metrics, first, step=event.step, tokens=settings.tokens
    )
    if rewards:
      night['collapse'] = imitation.detect_collapse(
        night['imitation'][0], rewards, settings=settings.imitation
      )
    return means

  def _merge(self, state: State, event: events.Event, night: Record) -> State:
    """Commits what made room in the receiver's bank, and records its effect."""
    sender, number = event.sender, self._log.number
    self._log.sample(state.night.pools)
    slot, free = self._slots_that_merge(state, sender)
    accuracy = {}
    if self._context.evaluator is not None:
      # Today's experience has not reached these experts yet.
      score, experience = (
        self._context.evaluator.known_accuracy, event.experience - 1
      )  # fmt: skip
      two, one = self._program.merge_weights(state, sender)
      accuracy = {'before': score(two, experience),
                  'after': score(one, experience)}  # fmt: skip
    with self._log.cost.measure_time():
      state = self._program.commit_merge(state, sender)
      jax.block_until_ready(state.step)
    del night['collapse']
    row = night_records.finish_record(
      event, number, night, sender=sender + 1, slot=slot, known=accuracy,
      merged=[slot, *free],
    )  # fmt: skip
    changes = [(slot, 'merged'), *((own, 'reset') for own in free)]
    self._log.night(row, changes, sender + 1)
    return state

  def _slots_that_merge(
    self, state: State, sender: int
  ) -> tuple[int | None, list[int]]:
    """Returns the slot that receives, None for the base, and those it frees."""
    if state.night.pair_2 is None:
      active_E = np.asarray(state.weights.active_NE)[sender]
      return None, np.flatnonzero(active_E).tolist()
    slot, free = map(int, np.asarray(state.night.pair_2))
    return slot, [free]

  def _wake_up(self, state: State, event: events.Event, night: Record) -> State:
    """Commits a night, or discards it if the guard vetoes it."""
    sender, number = event.sender, self._log.number
    self._log.sample(state.night.pools)
    adds_expert = self._program.grows(sender)
    slot = None
    if adds_expert:
      slot = int(np.argmin(np.asarray(state.weights.active_NE)[sender]))
    reset = self._context.active_slots(state, sender)
    guard, reason = None, night.pop('collapse')
    if self._context.guarded and not reason:
      after = self._program.committed(state, sender)
      before = float(np.asarray(state.guard_N)[sender])
      if not sender:  # The context resets nothing: compare with the evening.
        before = self._context.guard_score(state.weights)
      guard, reason = self._context.guard_veto(before, after)
    accept = not reason
    with self._log.cost.measure_time():
      state = self._program.wake_up(
        state, sender, accept=accept, guard=guard['after'] if guard else -1.0
      )
      jax.block_until_ready(state.step)
    if not accept:
      title = self._title(event)
      self._context.tools.progress.say(f'{title} discarded: {reason}')
    row = night_records.finish_record(
      event, number, night, slot=slot, reason=reason, guard=guard
    )
    change = 'activated' if adds_expert else 'rewritten'
    self._context.position += 1
    self._log.night(
      row, [(slot, change if accept else 'discarded')], sender + 1
    )
    if accept:
      self._log.add_history(row, [(slot, 'reset') for slot in reset], sender)
    self._context.record_sizes(state)
    self._context.maybe_save(state)
    return state
