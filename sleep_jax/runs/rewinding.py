"""Takes all runs of a study back to the end of an earlier cycle."""

from collections.abc import Callable

from sleep_jax import errors
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.storage import workdir


def rewind(
  folder: workdir.Folder,
  cycle: int,
  *,
  open_run: Callable[[workdir.Folder], checkpoints_lib.Checkpoints],
  but: str,
) -> None:
  """Takes all runs that came so far back to a cycle, or none.

  Args:
    folder: work directory.
    cycle: where they go back to; later cycles are deleted.
    open_run: opens the checkpoints of the run in a folder.
    but: name of the runs that stay.

  Raises:
    MissingFileError: no run came so far, or the cycle was deleted.
  """
  runs = [
    open_run(found.parent)
    for found in sorted(folder.glob('seed_*/*/checkpoints'))
    if found.parent.name != but
  ]
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
