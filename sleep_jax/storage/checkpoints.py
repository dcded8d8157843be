"""Saves and restores the whole state of a run, atomically.

A folder holds two series. `cycles/cycle_N` has one checkpoint per cycle, to
which a run can be rewound. `moments/moment_N` has only the newest state inside
a cycle, so that little is lost when a run is stopped. Arrays that never change
are written once, see `constant_arrays`. Orbax writes each
checkpoint under a temporary name and renames it when it is complete, so a
partial checkpoint is never read and is deleted at the next start. An old
checkpoint is deleted only after a newer one is complete.
"""

import contextlib
import dataclasses
import errno
import json
from collections.abc import Callable
from typing import Any

import jax
from etils import epath

from sleep_jax import errors
from sleep_jax.runtime import processes
from sleep_jax.storage import (
  checkpoint_reading,
  checkpoint_retention,
  constant_arrays,
  optional_fields,
  workdir,
)


class Checkpoints:
  """The checkpoints of one run.

  A checkpoint is a `state` (any tree of jax arrays, typed keys included) and
  its `progress`, a JSON dict with the integers `event` and `night_updates`. The
  checkpoint with the larger pair is the more advanced; of equal ones it is the
  moment. Therefore the end of a cycle needs a larger `event` than any moment
  before it.

  Saving returns when the arrays are copied, so they may be donated at once.
  Writing continues in the background, and the next call raises its error: an
  OSError that says so if the disk is full. On a CPU, saving waits until all is
  written. With several processes, all must make the same calls.
  """

  def __init__(
    self,
    folder: str,
    *,
    config: dict[str, Any],
    keep: int = 3,
    disk_budget_bytes: int | None = None,
    bound: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config,
  ):
    """Opens the folder and creates it if it is missing.

    Args:
      folder: folder of the checkpoints.
      config: the part of the resolved config that must be the same for a
        checkpoint to be continued, as JSON values. Stored with each checkpoint.
      keep: number of newest cycles kept; 2 or more allow a rewind.
      disk_budget_bytes: older cycles are deleted until the rest and one moment
        fit in this many bytes; the newest cycle is never deleted. During a
        save the folder holds one more checkpoint. None sets no limit.
      bound: returns the part of `config` that must be the same.

    Raises:
      ConfigError: `keep` is below 1.
      StorageError: the folder cannot be created or written to.
    """
    # Its import takes 0.2 seconds: only a run that saves pays for it.
    import orbax.checkpoint as ocp

    if keep < 1:
      raise errors.ConfigError(
        f'config.checkpoint.keep is {keep}: expected 1 or more checkpoints.'
      )
    root = workdir.path(folder)
    workdir.check_writable(root)
    self.folder = epath.Path(root)
    # As JSON returns it, for comparison with saved configs.
    self._config = json.loads(json.dumps(config))
    self._bound = bound
    self._args = ocp.args
    cycles = self.folder / 'cycles'
    policies = {
      'cycles': checkpoint_retention.NewestThatFit(
        cycles, keep, disk_budget_bytes
      ),
      'moments': ocp.checkpoint_managers.LatestN(1),
    }
    self._constant = frozenset(constant_arrays.shapes(self.folder))
    self._managers = {
      series: ocp.CheckpointManager(
        self.folder / series,
        options=ocp.CheckpointManagerOptions(
          step_prefix=checkpoint_reading.PREFIXES[series],
          preservation_policy=policy,
          cleanup_tmp_directories=True,
          lightweight_initialize=True,  # Opens despite damaged files.
        ),
      )
      for series, policy in policies.items()
    }

  def keep_constant(
    self, state: Any, is_constant: Callable[[str], bool]
  ) -> None:
    """Saves arrays that no later state of the run changes.

    The checkpoints that follow do not have them. Called before the first one.

    Args:
      state: the first state.
      is_constant: (name) -> whether an array is one of them, see
        `constant_arrays.select`.
    """
    found = constant_arrays.select(state, is_constant)
    if found:
      with _explain_full_disk(self.folder):
        constant_arrays.write(self.folder, found)
    self._constant = frozenset(found)

  def save_cycle(
    self, cycle: int, state: Any, progress: dict[str, Any]
  ) -> None:
    """Saves the end of a cycle; a cycle that already exists is an error."""
    self._save('cycles', cycle, state, progress)

  def save_moment(self, state: Any, progress: dict[str, Any]) -> None:
    """Saves a moment inside a cycle and replaces the previous moment."""
    number = max(self._numbers('moments'), default=-1) + 1
    self._save('moments', number, state, progress)

  def available_cycles(self) -> list[int]:
    """Returns the numbers of the cycles on disk, ascending."""
    return self._numbers('cycles')

  def latest_progress(self) -> tuple[str, int, dict[str, Any]] | None:
    """Returns (series, number, progress) of the most advanced checkpoint.

    Returns None if there is no checkpoint.

    Raises:
      WorkdirError: it is damaged or was saved under another config.
    """
    newest = [
      (series, self._numbers(series)[-1])
      for series in checkpoint_reading.PREFIXES
      if self._numbers(series)
    ]
    found = [(*place, self.progress(*place)) for place in newest]
    return max(
      found,
      key=lambda one: checkpoint_reading.progress_order(one[0], one[2]),
      default=None,
    )

  def progress(self, series: str, number: int) -> dict[str, Any]:
    """Returns the progress saved with one checkpoint.

    Args:
      series: 'cycles' or 'moments'.
      number: number of the checkpoint in the series.

    Raises:
      MissingFileError: there is no such checkpoint; lists the existing ones.
      WorkdirError: it is damaged or was saved under another config.
    """
    progress = self._read_progress(series, number)
    progress.pop(constant_arrays.KEY, None)
    config = workdir.without_removed(progress.pop('config'))
    saved = self._bound(config)
    differences = list(
      workdir.differences(saved, self._bound(self._config), 'config')
    )
    if differences:
      shown = '\n  '.join(differences[:5])
      raise errors.WorkdirError(
        f'{self._path(series, number)} was saved under another config, with '
        f'{len(differences)} different values:\n  {shown}\n'
        'Run with the config of the checkpoint, or choose another --workdir.'
      )
    return progress

  def restore(self, series: str, number: int, abstract_state: Any) -> Any:
    """Reads a state; deletes nothing.

    Args:
      series: 'cycles' or 'moments'.
      number: number of the checkpoint in the series.
      abstract_state: the same tree of `jax.ShapeDtypeStruct`, each with a
        sharding, which may differ from the sharding at saving. A field
        without arrays may be missing on disk, or only be there, as in earlier
        versions.

    Raises:
      MissingFileError: there is no such checkpoint; lists the existing ones.
      WorkdirError: it is damaged, or its tree is not that of `abstract_state`.
    """
    names = frozenset(
      self._read_progress(series, number).get(constant_arrays.KEY, ())
    )
    rest = constant_arrays.without(abstract_state, names)
    state = self._read_state(series, number, rest)
    if not names:
      return state
    wanted = constant_arrays.select(abstract_state, names.__contains__)
    with checkpoint_reading.explain_damage(self.folder):
      kept = constant_arrays.read(self.folder, wanted)
    return constant_arrays.joined(state, kept)

  def rewind(self, cycle: int) -> None:
    """Makes `cycle` the most advanced: deletes later cycles and the moment.

    To read an old cycle, `restore` is enough. To continue from it, rewind
    first; otherwise the next start continues from the most advanced one.

    Raises:
      MissingFileError: there is no such cycle; nothing is deleted.
    """
    self._check_exists('cycles', cycle)
    moments = self._numbers('moments')
    processes.wait_for_all('rewind')  # All have listed the same files.
    for number in moments:
      self._managers['moments'].delete(number)
    self.delete_cycles(cycle + 1)

  def delete_cycles(self, first: int) -> None:
    """Deletes the cycles from `first` on; the moment, if any, stays."""
    cycles = self._numbers('cycles')
    processes.wait_for_all('delete')  # All have listed the same files.
    # Latest first: an interruption leaves the checkpoints of one history.
    for number in reversed(cycles):
      if number >= first:
        self._managers['cycles'].delete(number)

  def wait(self) -> None:
    """Waits until all saved checkpoints are on disk."""
    with _explain_full_disk(self.folder):
      for manager in self._managers.values():
        manager.wait_until_finished()

  def close(self) -> None:
    """Waits until all is saved, then stops the background threads."""
    with _explain_full_disk(self.folder):
      for manager in self._managers.values():
        manager.close()

  def _save(self, series, number, state, progress):
    self.wait()  # One save at a time, so that sizes on disk do not change.
    args = self._args.Composite(
      state=self._args.StandardSave(
        constant_arrays.without(state, self._constant)
      ),
      progress=self._args.JsonSave({
        **progress, 'config': self._config,
        constant_arrays.KEY: sorted(self._constant),
      }),
    )  # fmt: skip
    with _explain_full_disk(self.folder):
      # Without force, Orbax silently skips numbers below the newest.
      self._managers[series].save(number, args=args, force=True)
    if jax.default_backend() == 'cpu':
      # Until it is written, the copy takes memory that the next steps need, and
      # writing takes their cores.
      self.wait()

  def _read_progress(self, series, number):
    return self._read(series, number, progress=self._args.JsonRestore())

  def _read(self, series, number, **item):
    self._check_exists(series, number)
    args = self._args.Composite(**item)
    try:
      (value,) = self._managers[series].restore(number, args=args).values()
      return value
    except Exception as error:  # Orbax and TensorStore raise many types.
      cause = f'{type(error).__name__}: {str(error)[:200]}'
      raise errors.WorkdirError(
        f'{self._path(series, number)} cannot be read. If its files are '
        'damaged, delete that folder, or pass --restore_cycle=N with N one of '
        f'{self.available_cycles()}. If the code has changed since, use the '
        f'version that saved it.\n{cause}'
      ) from error

  def _read_state(self, series, number, abstract_state):
    """Reads a state, which may be any tree."""
    if dataclasses.is_dataclass(abstract_state):
      return self._read_fields(series, number, abstract_state)
    return self._read_tree(series, number, abstract_state)

  def _read_fields(self, series, number, abstract_state):
    """Reads a dataclass; fields without arrays need not be on both sides."""
    wanted = {
      field.name: getattr(abstract_state, field.name)
      for field in dataclasses.fields(abstract_state)
    }
    try:
      found = self._read_tree(series, number, wanted)
    except errors.WorkdirError:
      saved = checkpoint_reading.fields(self._path(series, number))
      same = optional_fields.as_saved(wanted, saved)
      found = self._read_tree(series, number, same)
      found = optional_fields.as_wanted(wanted, found)
    return dataclasses.replace(abstract_state, **found)

  def _read_tree(self, series, number, abstract_tree):
    restore = self._args.StandardRestore(abstract_tree)
    return self._read(series, number, state=restore)

  def _check_exists(self, series, number):
    if number not in self._numbers(series):
      raise errors.MissingFileError(
        f'There is no checkpoint {self._path(series, number)}: the existing '
        f'{series} are {self._numbers(series)}. Pass one of these, or none.'
      )

  def _numbers(self, series):
    self.wait()
    self._managers[series].reload()  # Its cached list includes failed saves.
    return sorted(self._managers[series].all_steps())

  def _path(self, series, number):
    return (
      self.folder / series / f'{checkpoint_reading.PREFIXES[series]}_{number}'
    )


@contextlib.contextmanager
def _explain_full_disk(folder):
  """Turns the errors of a full disk into an OSError that says what to do."""
  try:
    yield
  except Exception as error:  # TensorStore gives text only.
    full = getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT)
    if full or 'No space left' in str(error) or 'quota' in str(error):
      raise errors.StorageError(
        f'The disk is full: a checkpoint could not be saved under {folder}. '
        'Earlier checkpoints are complete. Free some space and run the same '
        'command again: it continues from the newest checkpoint. A lower '
        'config.checkpoint.disk_budget_bytes or .keep needs less space.'
      ) from error
    raise
