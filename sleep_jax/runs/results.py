"""Results of a study so far: summary.json and report.html, written again often.

Both files are replaced whole, so a reader never sees half of one.
"""

from collections.abc import Sequence
from typing import Any

from sleep_jax.evaluate import ability_summary, retention
from sleep_jax.report import report
from sleep_jax.runtime import processes
from sleep_jax.storage import workdir


class Results:
  """Records of all runs of a study.

  Attributes:
    provenance: versions, revision and command.
    days: how much of each day is read, see `coverage.rows`.

  Args:
    folder: work directory of the study.
    name: of the study.
    config: as JSON returns it.
  """

  def __init__(self, folder: workdir.Folder, name: str, config: dict[str, Any]):
    self._folder, self._name, self._config = folder, name, config
    self._runs: dict[tuple[str, int], dict[str, Any]] = {}
    self.provenance: dict[str, Any] = {}
    self.days: list[dict[str, Any]] = []

  @property
  def runs(self) -> list[dict[str, Any]]:
    """One record per strategy and seed, in the order they started."""
    return list(self._runs.values())

  def add(
    self,
    strategy: str,
    seed: int,
    record: dict[str, Any],
    *,
    days: Sequence[str] = (),
    rate: float | None = None,
    status: str = 'under way',
  ) -> None:
    """Adds or replaces the record of one run, and writes both files.

    Args:
      strategy, seed: of the run.
      record: see `run_log.RunLog.record`.
      days: names of the experiences, in order.
      rate: its tuned learning rate, if it has one.
      status: 'under way' or 'finished'.
    """
    summary = retention.summarize(record['evaluations'], record['cost'])
    summary |= ability_summary.summarize(record['evaluations'])
    if rate is not None:
      summary['learning_rate'] = rate
    last = record['evaluations'][-1] if record['evaluations'] else {}
    self._runs[strategy, seed] = {
      'strategy': strategy, 'seed': seed, 'status': status,
      'summary': {'seed': seed, **summary}, 'days': list(days),
      'second_scores': last.get('second_scores'), **record,
    }  # fmt: skip
    self.write()

  def write(self) -> None:
    """Writes summary.json and report.html."""
    if not processes.is_first():
      return
    workdir.write_json(
      self._folder / 'summary.json',
      {'study': self._name, 'strategies': report.summaries(self.runs)},
    )
    report.write(
      self.runs, str(self._folder / 'report.html'), study=self._name,
      config=self._config, about=self.provenance, days=self.days,
    )  # fmt: skip
