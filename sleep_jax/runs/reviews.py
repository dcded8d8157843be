"""Runs a review: a strategy reads rows between wake steps, and updates itself.

A review is one event. Nothing is saved inside it, so a run that is interrupted
there repeats it from its beginning.
"""

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.runs import context as context_lib
from sleep_jax.runtime import processes
from sleep_jax.schedule import events


def check_room(context: context_lib.RunContext) -> None:
  """Checks that a strategy has room for all experiences of its run.

  Raises:
    ConfigError: there are more than its arrays hold.
  """
  if not any(event.kind == events.REVIEW for event in context.plan):
    return
  most = context.program.method.most_experiences
  found = max(event.experience for event in context.plan)
  if most is not None and found > most:
    raise errors.ConfigError(
      f'config.{context.name}.tasks is {most}, but the run has {found} '
      f'experiences: set it to {found} or more.'
    )


def review(
  context: context_lib.RunContext, state: state_lib.State, event: events.Event
) -> state_lib.State:
  """Reads rows of an experience, or of pretraining, and ends the review.

  Args:
    context: of the run; its position moves on.
    state: of the run.
    event: the review.
  """
  program, cost = context.program, context.log.cost
  if event.moment == events.INITIAL:
    source, name = context.stream.pretrain, 'pretraining'
  else:
    source = program.strategy.sources(context.stream)(event.experience)
    name = f'experience {event.experience} ({source.name}), its {event.moment}'
  num = 0
  if source is not None and event.moment in program.method.read_at:
    num = min(program.method.num_batches, source.num_batches)
  label = f'{context.name}: review of {name}'
  with context.tools.progress.phase(label, num + 1) as bar:
    for index in range(num + 1):
      with cost.measure_time():
        if index < num:
          state, counts = program.review(state, source.batch(index))
        else:
          state, counts = program.finish_review(state, event.moment)
        counts = processes.fetch(counts)
      cost.add(
        tokens_read=int(counts['tokens']),
        tokens_generated=int(counts['written']),
        tokens_forward=int(counts['forward']),
        steps=int(counts['steps']),
      )
      bar.advance()
  context.position += 1
  context.maybe_save(state)
  return state
