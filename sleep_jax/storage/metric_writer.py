"""Writers: every number of a run, in a file and where else one looks.

`metrics.jsonl` is the record: one row per line, flushed, so that whatever
ends a run costs at most the line under way; in a bucket, where nothing can be
appended to, what came since it was last written. TensorBoard and Weights &
Biases see the same numbers when asked for. Rows carry an integer `event`; a run
that goes back to a checkpoint drops the rows after it, and repeats them.
"""

import json
import os
from collections.abc import Iterable
from typing import Any, Self

from sleep_jax.storage import metric_backends, workdir

OPTIONAL_WRITERS = ('tensorboard', 'wandb')


class MetricWriter:
  """The record of one run, open for appending; used as `with`."""

  def __init__(
    self,
    folder: str | os.PathLike[str],
    *,
    writers: Iterable[str] = (),
    name: str | None = None,
  ):
    """Opens the record in `folder`, made if need be.

    Args:
      folder: where `metrics.jsonl` stands.
      writers: further writers, of 'tensorboard' and 'wandb'.
      name: what W&B calls the run; by default the folder's name.

    Raises:
      ValueError: an unknown writer, one that cannot write to a bucket, or a
        broken line inside the record.
      ImportError: a writer that was asked for is not installed.
    """
    folder = workdir.path(folder)
    unknown = [w for w in writers if w not in OPTIONAL_WRITERS]
    if unknown:
      raise ValueError(
        f'Unknown writers {unknown}; known are {", ".join(OPTIONAL_WRITERS)} '
        '(metrics.jsonl is always written).'
      )
    if writers and workdir.in_bucket(folder):
      raise ValueError(
        f'config.writers={tuple(writers)}: they write to a disk, and {folder} '
        'is in a bucket. Set config.writers=() (metrics.jsonl has all that '
        'they would show), or choose a --workdir on disk.'
      )
    self.path = folder / 'metrics.jsonl'
    self._open(read(self.path))  # Sheds a half-written last line.
    made: dict[str, Any] = {
      'tensorboard': metric_backends.TensorBoardWriter,
      'wandb': metric_backends.WandbWriter,
    }
    self._others = [made[w](folder, name or folder.name) for w in writers]

  def write(self, row: metric_backends.Row) -> None:
    """Appends a row; its `event` is an integer.

    Numbers that JSON has no word for (NaN, infinity) are stored as null.
    """
    row = metric_backends.to_plain(row)
    event = metric_backends.get_event(row)
    self._lines.add(json.dumps(row, allow_nan=False) + '\n')
    numbers = metric_backends.flatten(row)
    for other in self._others:
      other.write(event, numbers)

  def write_dreams(self, rows: list[metric_backends.Row]) -> None:
    """Writes `dreams.jsonl` anew, whole or not at all; nothing if empty."""
    if not rows:
      return
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    workdir.write_text(self.path.with_name('dreams.jsonl'), text)

  def flush(self) -> None:
    """Returns once all rows are where they last, before a checkpoint is."""
    self._lines.flush()

  def truncate_after(self, event: int) -> list[metric_backends.Row]:
    """Drops the rows after `event`; returns those that stay."""
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
  """The rows of a record; none where there is no file.

  A last line without its end was under way when a run was killed: it is left
  out.

  Raises:
    ValueError: any other line that is no row; names file and line.
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
      raise ValueError(
        f'{path}:{number}: {line[:80]!r} is no row of metrics ({error}). '
        'Mend or remove this line.'
      ) from error
    rows.append(row)
  return rows
