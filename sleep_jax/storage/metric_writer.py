"""Writes the metrics of a run to `metrics.jsonl` and to optional writers.

`metrics.jsonl` has one row per line. Each line is flushed, so an interruption
loses at most the line being written; in a bucket, where objects cannot be
appended to, it loses the rows since the last rewrite. TensorBoard and Weights &
Biases receive the same numbers if configured. Each row has an integer `event`:
a run that returns to a checkpoint drops the rows after it and writes them
again.
"""

import json
import os
from collections.abc import Iterable
from typing import Any, Self

from sleep_jax import errors
from sleep_jax.storage import metric_backends, workdir

OPTIONAL_WRITERS = ('tensorboard', 'wandb')


class MetricWriter:
  """Appends metrics of one run; a context manager."""

  def __init__(
    self,
    folder: str | os.PathLike[str],
    *,
    writers: Iterable[str] = (),
    name: str | None = None,
  ):
    """Opens `metrics.jsonl` in a folder, which is created if it is missing.

    Args:
      folder: folder of `metrics.jsonl`.
      writers: optional writers, any of 'tensorboard' and 'wandb'.
      name: name of the run in W&B; by default the name of the folder.

    Raises:
      ConfigError: a writer is unknown or cannot write to a bucket.
      WorkdirError: `metrics.jsonl` has a broken line.
      MissingPackageError: the package of a writer is not installed.
    """
    folder = workdir.path(folder)
    unknown = [w for w in writers if w not in OPTIONAL_WRITERS]
    if unknown:
      raise errors.ConfigError(
        f'config.writers names {unknown}: expected any of '
        f'{", ".join(OPTIONAL_WRITERS)} (metrics.jsonl is always written).'
      )
    if writers and workdir.in_bucket(folder):
      raise errors.ConfigError(
        f'config.writers={tuple(writers)} write to a disk, but {folder} is in '
        'a bucket. Set config.writers=() (metrics.jsonl has the same numbers), '
        'or choose a --workdir on disk.'
      )
    self.path = folder / 'metrics.jsonl'
    self._open(read(self.path))  # Drops a half-written last line.
    classes: dict[str, Any] = {
      'tensorboard': metric_backends.TensorBoardWriter,
      'wandb': metric_backends.WandbWriter,
    }
    self._others = [classes[w](folder, name or folder.name) for w in writers]

  def write(self, row: metric_backends.Row) -> None:
    """Appends a row, which must have an integer `event`.

    NaN and infinity are not valid JSON and are stored as null.

    Raises:
      ValueError: the row has no integer `event`.
    """
    row = metric_backends.to_plain(row)
    event = metric_backends.get_event(row)
    self._lines.add(json.dumps(row, allow_nan=False) + '\n')
    numbers = metric_backends.flatten(row)
    for other in self._others:
      other.write(event, numbers)

  def write_dreams(self, rows: list[metric_backends.Row]) -> None:
    """Rewrites `dreams.jsonl` atomically; does nothing if `rows` is empty."""
    if not rows:
      return
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    workdir.write_text(self.path.with_name('dreams.jsonl'), text)

  def flush(self) -> None:
    """Writes all rows to permanent storage; call before a checkpoint."""
    self._lines.flush()

  def truncate_after(self, event: int) -> list[metric_backends.Row]:
    """Drops the rows after `event` and returns the remaining rows."""
    rows = [row for row in read(self.path) if row['event'] <= event]
    self._lines.close()
    self._open(rows)
    for other in self._others:
      other.truncate_after(event)
    return rows

  def close(self) -> None:
    self._lines.close()
    for other in self._others:
      other.close()

  def _open(self, rows):
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    workdir.write_text(self.path, text)
    kind = (
      metric_backends.BucketWriter
      if workdir.in_bucket(self.path)
      else metric_backends.FileWriter
    )
    self._lines = kind(self.path, text)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, error_type, error, trace) -> None:
    self.close()


def read(path: str | os.PathLike[str]) -> list[metric_backends.Row]:
  """Returns the rows of a `metrics.jsonl`; no rows if the file is missing.

  A last line without a line break was being written when the run was killed; it
  is skipped.

  Raises:
    WorkdirError: any other line is no row; names the file and line.
  """
  path = workdir.path(path)
  if not path.exists():
    return []
  rows = []
  lines = path.read_text().split('\n')
  for number, line in enumerate(lines[:-1], start=1):
    try:
      row = json.loads(line)
      metric_backends.get_event(row)
    except (ValueError, TypeError) as error:
      raise errors.WorkdirError(
        f'{path}:{number}: {line[:80]!r} is no row of metrics ({error}). '
        'Repair or remove this line.'
      ) from error
    rows.append(row)
  return rows
