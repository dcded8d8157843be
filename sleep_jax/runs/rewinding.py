"""Takes all runs of a study back to the end of an earlier cycle."""

from collections.abc import Sequence

from sleep_jax import errors
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import workdir


def rewind(
  folder: workdir.Folder,
  runs: Sequence[checkpoints_lib.Checkpoints],
  cycle: int,
) -> None:
  """Takes all runs that came so far back to a cycle, or none.

  Args:
    folder: work directory, for messages.
    runs: checkpoints of every run; closed afterwards.
    cycle: where they go back to; later cycles are deleted.

  Raises:
    MissingFileError: no run came so far, or the cycle was deleted.
  """
  last = [max(run.available_cycles(), default=0) for run in runs]
  if max(last, default=0) < cycle:
    raise errors.MissingFileError(
      f'--restore_cycle={cycle}: no run in {folder} has come further than '
      f'cycle {max(last, default=0)}.'
    )
  ahead = [
    run for run, number in zip(runs, last, strict=True) if number >= cycle
  ]
  for run in ahead:
    run.progress('cycles', cycle)  # Raises if it is not kept any more.
  for run in ahead:
    run.rewind(cycle)
  for run in runs:
    run.close()
