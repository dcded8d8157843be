"""The loop of one run: wake, sleep, evaluate, save.

A run walks through the events of `schedule.events`. A checkpoint holds the
state, the number of the next event and everything recorded so far, so an
interrupted run ends with the same bits as an uninterrupted one.
"""

from typing import Any

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.runs import context as context_lib
from sleep_jax.runs import erased_state, night_phases, reviews
from sleep_jax.runtime import host_memory, processes
from sleep_jax.schedule import events

# Wake steps between two rows of metrics.
_LOG_PERIOD = 20


class Run:
  """One strategy, one seed, one stream."""

  def __init__(self, context: context_lib.RunContext):
    self._context, self._program = context, context.program
    self._nights = night_phases.NightPhases(context)

  def run(
    self, until: int | None = None
  ) -> tuple[state_lib.State, dict[str, Any]]:
    """Runs from the latest checkpoint, or from the start.

    Args:
      until: number of the event to stop before; None runs all. The state is
        saved there.

    Returns:
      The state, and the record of everything so far.

    Raises:
      Interrupted: `tools.stop` returned True; the state is saved.
      ConfigError: see `reviews.check_room`.
    """
    context = self._context
    reviews.check_room(context)
    state = self._start()
    host_memory.trim()  # What earlier runs and reading the checkpoint freed.
    stop = len(context.plan) if until is None else until
    while context.position < stop:
      event = context.plan[context.position]
      if event.kind == events.WAKE:
        state = self._wake_steps(state)
      elif event.kind == events.EVALUATE:
        context.evaluate(state.weights, event)
        context.position += 1
      elif event.kind == events.SLEEP:
        state = self._nights.sleep(state, event)
      elif event.kind == events.DREAM:
        state = self._nights.dream(state, event)
      elif event.kind == events.EDIT:
        state = self._nights.edit(state, event)
      elif event.kind == events.REVIEW:
        state = reviews.review(context, state, event)
      else:
        context.position += 1
        context.save_cycle(state, event)
    if until is not None:
      context.save(state)
    context.tools.checkpoints.wait()
    return state, context.log.record()

  def forget(
    self, level: int, slot: int, erased: erased_state.Day | None = None
  ) -> None:
    """Switches an expert off in the latest checkpoint, and saves that.

    Args:
      level, slot: of the expert.
      erased: also erases what the run keeps of this day: the expert's weights,
        stored prompts, samples and the checkpoints that hold them.

    Raises:
      UsageError: nothing has been learned yet, or a night is under way.
    """
    context = self._context
    if context.tools.checkpoints.latest_progress() is None:
      raise errors.UsageError(
        'Nothing has been learned yet: there is no expert.'
      )
    state = self._start()
    if state.night is not None:
      raise errors.UsageError('A night is under way: finish it first.')
    state = self._program.disable_expert(state, level, slot)
    context.log.forget(level, slot, step=int(state.step))
    if erased is not None:
      state = erased_state.without_day(state, level, slot, erased)
      context.log.drop_texts(erased.night)
    context.save(state)
    context.tools.checkpoints.wait()
    if erased is not None:
      context.tools.checkpoints.delete_cycles(erased.cycle)

  def go_back(self, cycle: int) -> None:
    """Makes a cycle the most advanced one and drops what came after it.

    Raises:
      MissingFileError: there is no checkpoint of that cycle.
    """
    self._context.tools.checkpoints.rewind(cycle)
    self._start()  # Drops the later rows of the metrics.

  def _start(self) -> state_lib.State:
    """Returns the state of the latest checkpoint, or the first state."""
    context = self._context
    saved = context.tools.checkpoints.latest_progress()
    if saved is None:
      context.tools.writer.truncate_after(0)
      guard = self._evaluate_initial_model()
      state = self._program.begin(
        context.initial_model, context.key, guard=guard
      )
      context.tools.checkpoints.keep_constant(state, self._program.is_constant)
      if self._program.strategy.stores_rows:
        state = self._program.fill_row_buffer(state, context.stream.pretrain)
      context.record_sizes(state)
      return state
    series, number, kept = saved
    sender, phase = None, events.CONSOLIDATE
    if kept['night']:
      sender = context.plan[kept['event']].sender
      phase = kept['nights'][-1]['phase']
    shapes = self._program.abstract(
      context.initial_model, night=sender, phase=phase
    )
    state = context.tools.checkpoints.restore(series, number, shapes)
    context.position = kept['event']
    context.log.restore(kept)
    context.monitor.restore(kept.get('phase', {}))
    context.tools.progress.say(
      f'{context.name}: continues from {series[:-1]} {number}, '
      f'step {int(state.step)}'
    )
    return state

  def _evaluate_initial_model(self) -> float:
    """Evaluates before the first step; returns the guard's score."""
    initial = self._context.initial_model
    if initial is None:
      return -1.0
    event = events.Event(
      events.EVALUATE, 0, 0, 0, moment=events.INITIAL, ends=True
    )
    self._context.evaluate(initial.weights, event)
    return self._context.guard_score(initial.weights)

  def _day(self, number: int) -> str:
    """Returns the name of an experience, counted from 1."""
    return self._context.stream.experiences[number - 1].name

  def _wake_steps(self, state: state_lib.State) -> state_lib.State:
    """Runs consecutive wake steps, and evaluations that are at no moment."""
    context, log = self._context, self._context.log
    stop = context.position
    while stop < len(context.plan) and _is_awake(context.plan[stop]):
      stop += 1
    ahead = context.plan[context.position : stop]
    label = context.name
    if ahead[0].experience:
      number = ahead[0].experience
      label += f': experience {number} ({self._day(number)})'
    total = sum(event.kind == events.WAKE for event in ahead)
    sources = self._program.strategy.sources(context.stream)
    context.monitor.begin(
      events.WAKE, label if ahead[0].experience else f'{label}: pretraining'
    )
    with context.tools.progress.phase(label, total) as bar:
      while context.position < stop:
        event = context.plan[context.position]
        if event.kind == events.EVALUATE:
          context.evaluate(state.weights, event)
          context.position += 1
          continue
        with log.cost.measure_time():
          batch = sources(event.experience).batch(event.local_step)
          state, metrics = self._program.wake(
            state, batch, event.held, context.day_share(event)
          )
          metrics = processes.fetch(metrics)
        context.tools.profile.record_call('wake')
        loss = float(metrics['loss'])
        context.monitor.observe(
          f'wake step {event.local_step + 1}', [loss],
          gradient_norm=metrics['grad_norm'],
          penalty_loss=metrics['penalty_loss'],
        )  # fmt: skip
        log.cost.add(
          tokens_read=int(metrics['tokens']), steps=1,
          tokens_generated=int(metrics['written']),
          tokens_forward=int(metrics['forward']),
        )  # fmt: skip
        context.position += 1
        if event.step % _LOG_PERIOD == 0 or context.position == stop:
          more = {
            name: float(metrics[name]) for name in ('grad_norm', 'penalty_loss')
          }
          log.write('wake', loss=loss, **more, step=event.step)
        bar.advance(loss=loss)
        context.maybe_save(state)
    context.monitor.end(state)
    return state


def _is_awake(event: events.Event) -> bool:
  """Whether an event belongs to a phase of wake steps."""
  at_no_moment = event.kind == events.EVALUATE and not event.moment
  return event.kind == events.WAKE or at_no_moment
