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
  """Rewinds all runs that have completed a cycle to its end, or none.

  Args:
    folder: work directory.
    cycle: number of the cycle; later cycles are deleted.
    open_run: opens the checkpoints of the run in a folder.
    but: name of runs that are not rewound.

  Raises:
    MissingFileError: no run has completed the cycle, or a run does not keep
      its checkpoint any more.
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
