"""The days of a study: read, compared with what was learned, and recorded."""

from collections.abc import Sequence
from typing import Protocol

import ml_collections

from sleep_jax import errors
from sleep_jax.runs import day_changes, day_records, inputs
from sleep_jax.storage import workdir

Record = day_records.Record


class Factory(Protocol):
  """What is needed of `run_factory.RunFactory`."""

  def num_begun(
    self, seed: int, days: Sequence[Record], last: int | None
  ) -> tuple[int, dict[str, int]]: ...


class StudyDays:
  """Makes the inputs of each seed, with the learned days in their places.

  Attributes:
    restore_cycle: cycle to which the runs go back first; None once they have.
    has_end: whether the last day is known; a session may always have another.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    folder: workdir.Folder,
    factory: Factory,
    *,
    accept: bool,
    restore_cycle: int | None,
    days: Sequence[str] | None = None,
  ):
    """Keeps what is needed to read days.

    Args:
      config: of the study.
      folder: its work directory.
      factory: knows how far each run is.
      accept: whether changes of learned days are accepted.
      restore_cycle: cycle to which the runs go back first.
      days: files of the days after those of the dataset; None: those that
        `data.extra_days` names.

    Raises:
      ConfigError: `data.growing` is set, and there are no files of days.
    """
    data = config.data
    if data.get('growing') and data.dataset != 'jsonl' and not data.extra_days:
      raise errors.ConfigError(
        f'config.data.growing is True, but the days of {data.dataset!r} are no '
        'files of yours: set it to False, or name files with '
        '--config.data.extra_days.'
      )
    self._config, self._folder, self._factory = config, folder, factory
    self._accept, self.restore_cycle = accept, restore_cycle
    self._days = days
    self.has_end = days is None

  def open(self, seed: int) -> tuple[inputs.RunInputs, day_changes.Comparison]:
    """Returns the inputs of a seed and what has changed, if that is accepted.

    Raises:
      ChangedDaysError: days that were learned have changed.
    """
    old, num_begun, complete = self._begun(seed)
    dataset = inputs.read_dataset(
      self._config, self._folder, seed, ends=self._ends(seed), days=self._days
    )
    found = day_changes.compare(dataset, old, num_begun)
    folder = self._folder / f'seed_{seed}'
    for strategy, num_days in complete.items():
      day_changes.check_complete(folder, strategy, found, num_days)
    if found.changes and not self._accept:
      raise day_changes.error(folder, found)
    made = inputs.make(self._config, self._folder, seed, found.dataset)
    return made, found

  def _begun(self, seed: int) -> tuple[list[Record], int, dict[str, int]]:
    """Returns the records, and what `num_begun` returns."""
    old = day_records.read(self._folder / f'seed_{seed}')
    num, complete = self._factory.num_begun(seed, old, self.restore_cycle)
    return old, num, complete

  def _ends(self, seed: int) -> dict[str, tuple[int, ...]] | None:
    """Returns where growing files are cut; None if files do not grow."""
    if not self._config.data.get('growing'):
      return None
    begun: dict[int, Sequence[Record]] = {}
    for other in {seed, *map(int, self._config.seeds)}:
      old, num, _ = self._begun(other)
      begun[other] = old[1:num]
    own = begun.pop(seed)
    return day_records.ends_of_parts(own, begun.values())
