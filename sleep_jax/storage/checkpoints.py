"""Checkpoints: everything that changes, on disk, whole or not at all.

Two series share a folder. `cycles/cycle_N` holds one checkpoint per cycle, to
go back to; `moments/moment_N` only the newest state inside a cycle, to lose
little when stopped. Orbax writes each under a temporary name and renames it
when complete: what an interruption left half-written is never read and is
swept away at the next start. Old ones go only after a newer one stands.
"""

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from sleep_jax.runtime import processes
from sleep_jax.storage import checkpoint_reading, workdir


class Checkpoints:
  """The checkpoints of one run.

  A checkpoint is a `state` (any tree of jax arrays, typed keys included) and
  its `progress`, a JSON dict with the integers `event` and `night_updates`:
  the larger this pair, the more advanced the checkpoint; of equal ones it is
  the moment. So a cycle's end needs a larger `event` than any moment before it.

  Saving returns when the arrays are copied, so they may be donated at once.
  Writing goes on in the background; its error is raised by the next call: an
  OSError in words if the disk is full. Among several processes, all make the
  same calls.
  """

  def __init__(
    self,
    folder: str,
    *,
    config: dict[str, Any],
    keep: int = 3,
    disk_budget_bytes: int | None = None,
  ):
    """Opens the folder, making it where it is missing.

    Args:
      folder: where checkpoints live.
      config: JSON-able; the part of the resolved config that must be the same
        for a checkpoint to be continued. Stored with each of them.
      keep: number of newest cycles kept; 2 or more leave one to go back to.
      disk_budget_bytes: cycles beyond it are dropped too, oldest first, never
        the newest; room for a moment is set aside. While a save is under way
        the folder holds one checkpoint more. None: no limit.

    Raises:
      OSError: the folder cannot be made or written to.
      ValueError: `keep` is not positive.
    """
    if keep < 1:
      raise ValueError(f'keep={keep} checkpoints: must be 1 or more.')
    home = workdir.path(folder)
    workdir.check_writable(home)
    self.folder = epath.Path(home)
    self._config = json.loads(json.dumps(config))  # As it will be read back.
    cycles = self.folder / 'cycles'
    policies = {
      'cycles': _NewestThatFit(cycles, keep, disk_budget_bytes),
      'moments': ocp.checkpoint_managers.LatestN(1),
    }
    self._managers = {
      series: ocp.CheckpointManager(
        self.folder / series,
        options=ocp.CheckpointManagerOptions(
          step_prefix=checkpoint_reading.PREFIXES[series],
          preservation_policy=policy,
          cleanup_tmp_directories=True,
          lightweight_initialize=True,  # Damaged files must not stop a start.
        ),
      )
      for series, policy in policies.items()
    }

  def save_cycle(
    self, cycle: int, state: Any, progress: dict[str, Any]
  ) -> None:
    """Saves the end of a cycle. One that stands already is an error."""
    self._save('cycles', cycle, state, progress)

  def save_moment(self, state: Any, progress: dict[str, Any]) -> None:
    """Saves a moment inside a cycle, in place of the one before it."""
    number = max(self._numbers('moments'), default=-1) + 1
    self._save('moments', number, state, progress)

  def available_cycles(self) -> list[int]:
    """Numbers of the cycles that stand on disk, ascending."""
    return self._numbers('cycles')

  def latest_progress(self) -> tuple[str, int, dict[str, Any]] | None:
    """(series, number, progress) of the most advanced checkpoint, or None.

    Raises:
      ValueError: it is damaged or was made under another config.
    """
    newest = [
      (s, self._numbers(s)[-1])
      for s in checkpoint_reading.PREFIXES
      if self._numbers(s)
    ]
    found = [(*which, self.progress(*which)) for which in newest]
    return max(
      found,
      key=lambda one: checkpoint_reading.progress_order(one[0], one[2]),
      default=None,
    )

  def progress(self, series: str, number: int) -> dict[str, Any]:
    """The progress saved with one checkpoint of 'cycles' or 'moments'.

    Raises:
      FileNotFoundError: there is no such checkpoint; lists those there are.
      ValueError: it is damaged or was made under another config.
    """
    progress = self._read(series, number, progress=ocp.args.JsonRestore())
    differences = list(_differences(progress.pop('config'), self._config))
    if differences:
      shown = '\n  '.join(differences[:5])
      raise ValueError(
        f'{self._path(series, number)} was made under another config, with '
        f'{len(differences)} different values:\n  {shown}\n'
        'Continue with its own config, or choose another --workdir.'
      )
    return progress

  def restore(self, series: str, number: int, abstract_state: Any) -> Any:
    """Reads a state back, placed as asked. Deletes nothing.

    Args:
      series: 'cycles' or 'moments'.
      number: which one of the series.
      abstract_state: the same tree of `jax.ShapeDtypeStruct`, each with a
        sharding, which may differ from the one it was saved under.

    Raises:
      FileNotFoundError: there is no such checkpoint; lists those there are.
      ValueError: it is damaged, or its tree is not that of `abstract_state`.
    """
    state = ocp.args.StandardRestore(abstract_state)
    return self._read(series, number, state=state)

  def rewind(self, cycle: int) -> None:
    """Makes `cycle` the most advanced: deletes later cycles and the moment.

    To look at an old cycle, `restore` is enough. To go on from there, rewind
    first, or the next start would go on from the abandoned future.

    Raises:
      FileNotFoundError: there is no such cycle; nothing is deleted.
    """
    self._check_exists('cycles', cycle)
    # Latest first: interrupted anywhere, what is left is still one history.
    moments, cycles = self._numbers('moments'), self._numbers('cycles')
    processes.wait_for_all('rewind')  # All must have seen the same.
    for number in moments:
      self._managers['moments'].delete(number)
    for number in reversed(cycles):
      if number > cycle:
        self._managers['cycles'].delete(number)

  def wait(self) -> None:
    """Waits until all that was saved is on disk."""
    with _explain_full_disk(self.folder):
      for manager in self._managers.values():
        manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then stops the background threads."""
    with _explain_full_disk(self.folder):
      for manager in self._managers.values():
        manager.close()

  def _save(self, series, number, state, progress):
    self.wait()  # One writer at a time, so that sizes on disk hold still.
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(state),
      progress=ocp.args.JsonSave({**progress, 'config': self._config}),
    )
    with _explain_full_disk(self.folder):
      # Without force, Orbax silently skips a number below the newest.
      self._managers[series].save(number, args=args, force=True)

  def _read(self, series, number, **item):
    self._check_exists(series, number)
    args = ocp.args.Composite(**item)
    try:
      (value,) = self._managers[series].restore(number, args=args).values()
      return value
    except Exception as error:  # Orbax and TensorStore raise a dozen kinds.
      cause = f'{type(error).__name__}: {str(error)[:200]}'
      raise ValueError(
        f'{self._path(series, number)} cannot be read. If its files are '
        'damaged, delete that folder, or pass --restore_cycle=N, one of '
        f'{self.available_cycles()}. If the code has changed since, use the '
        f'version that wrote it.\n{cause}'
      ) from error

  def _check_exists(self, series, number):
    if number not in self._numbers(series):
      raise FileNotFoundError(
        f'There is no checkpoint {self._path(series, number)}; there are '
        f'{series} {self._numbers(series)}. Pass one of these, or none.'
      )

  def _numbers(self, series):
    self.wait()
    self._managers[series].reload()  # Its own count includes failed saves.
    return sorted(self._managers[series].all_steps())

  def _path(self, series, number):
    return (
      self.folder / series / f'{checkpoint_reading.PREFIXES[series]}_{number}'
    )


@dataclasses.dataclass
class _NewestThatFit(ocp.checkpoint_managers.PreservationPolicy):
  """Keeps the newest cycles, as many as allowed and as fit the budget.

  Orbax asks while a save is under way, and deletes after it is complete.
  """

  folder: epath.Path
  keep: int
  budget: int | None

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    del context
    earlier = [checkpoint.step for checkpoint in checkpoints[:-1]]
    if self.budget is None:  # Measuring takes many requests in a bucket.
      return [n < self.keep for n in reversed(range(len(checkpoints)))]
    sizes = [_size(self.folder / f'cycle_{number}') for number in earlier]
    # The new one and the moment will be about as large as the latest on disk.
    total = 2 * sizes[-1] if sizes else 0
    kept = [True]
    for size in reversed(sizes):
      total += size
      kept.append(total <= self.budget and len(kept) < self.keep)
    return kept[::-1]


def _differences(saved: Any, now: Any, path: str = '') -> Iterator[str]:
  """A line for each key at which two nested dicts differ."""
  if isinstance(saved, dict) and isinstance(now, dict):
    for key in sorted(saved.keys() | now.keys()):
      inner = f'{path}.{key}' if path else key
      yield from _differences(saved.get(key), now.get(key), inner)
  elif saved != now:
    yield f'{path}: {saved!r} in the checkpoint, {now!r} now'


def _size(path):
  """Bytes of a file, or of all files below a folder."""
  if path.is_dir():
    return sum(_size(inner) for inner in path.iterdir())
  return path.stat().length


@contextlib.contextmanager
def _explain_full_disk(folder):
  try:
    yield
  except Exception as error:  # TensorStore has only text: 'No space left ...'.
    full = getattr(error, 'errno', None) in (errno.ENOSPC, errno.EDQUOT)
    if full or 'No space left' in str(error) or 'quota' in str(error):
      raise OSError(
        f'The disk is full: a checkpoint could not be saved under {folder}. '
        'Earlier ones are untouched. Free some space, then run the same '
        'command: it goes on from the newest. A lower disk budget or fewer '
        'kept cycles need less.'
      ) from error
    raise
