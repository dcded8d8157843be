"""Writers: every number of a run, in a file and where else one looks.

`metrics.jsonl` is the record: one row per line, flushed, so that whatever
ends a run costs at most the line under way; in a bucket, where nothing can be
appended to, what came since it was last written. TensorBoard and Weights &
Biases see the same numbers when asked for. Rows carry an integer `event`; a run
that goes back to a checkpoint drops the rows after it, and repeats them.
"""

import importlib
import json
import math
import os
import time
from collections.abc import Iterable
from typing import Any, Self

from sleep_jax import workdir

Row = dict[str, Any]
EXTRAS = ('tensorboard', 'wandb')
# A bucket takes about one write a second to an object, and bills each.
_REWRITE_SECONDS = 30.0


class Writers:
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
    unknown = [w for w in writers if w not in EXTRAS]
    if unknown:
      raise ValueError(
        f'Unknown writers {unknown}; known are {", ".join(EXTRAS)} '
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
    made: dict[str, Any] = {'tensorboard': _TensorBoard, 'wandb': _WandB}
    self._others = [made[w](folder, name or folder.name) for w in writers]

  def write(self, row: Row) -> None:
    """Appends a row; its `event` is an integer.

    Numbers that JSON has no word for (NaN, infinity) are stored as null.
    """
    row = _plain(row)
    event = _event(row)
    self._lines.add(json.dumps(row, allow_nan=False) + '\n')
    numbers = _flatten(row)
    for other in self._others:
      other.write(event, numbers)

  def journal(self, rows: list[Row]) -> None:
    """Writes `dreams.jsonl` anew, whole or not at all; nothing if empty."""
    if not rows:
      return
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    workdir.write_text(self.path.with_name('dreams.jsonl'), text)

  def flush(self) -> None:
    """Returns once all rows are where they last, before a checkpoint is."""
    self._lines.flush()

  def truncate_after(self, event: int) -> list[Row]:
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
    kind = _Object if workdir.in_bucket(self.path) else _File
    self._lines = kind(self.path, text)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, error_type, error, trace) -> None:
    self.close()


def read(path: str | os.PathLike[str]) -> list[Row]:
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
      _event(row)
    except (ValueError, TypeError) as error:
      raise ValueError(
        f'{path}:{number}: {line[:80]!r} is no row of metrics ({error}). '
        'Mend or remove this line.'
      ) from error
    rows.append(row)
  return rows


class _File:
  """Lines on a disk: each is there as soon as it is added."""

  def __init__(self, path: workdir.Folder, text: str):
    del text  # Stands there already.
    self._file = path.open('a')

  def add(self, line: str) -> None:
    self._file.write(line)
    self._file.flush()

  def flush(self) -> None:
    """Nothing to do."""

  def close(self) -> None:
    self._file.close()


class _Object:
  """Lines in a bucket: all are written anew, now and then."""

  def __init__(self, path: workdir.Folder, text: str):
    self._path, self._text, self._written = path, text, len(text)
    self._time = time.monotonic()

  def add(self, line: str) -> None:
    self._text += line
    if time.monotonic() - self._time >= _REWRITE_SECONDS:
      self.flush()

  def flush(self) -> None:
    if len(self._text) > self._written:
      workdir.write_text(self._path, self._text)
      self._written, self._time = len(self._text), time.monotonic()

  def close(self) -> None:
    self.flush()


class _TensorBoard:
  """Event files by the `tensorboard` package alone, without TensorFlow."""

  def __init__(self, folder: workdir.Folder, name: str):
    del name  # TensorBoard names a run by its folder.
    _need('tensorboard')
    load = importlib.import_module
    self._event_pb2 = load('tensorboard.compat.proto.event_pb2')
    self._summary_pb2 = load('tensorboard.compat.proto.summary_pb2')
    writer = load('tensorboard.summary.writer.event_file_writer')
    self._writer = writer.EventFileWriter(str(folder / 'tensorboard'))

  def write(self, event: int, numbers: dict[str, float]) -> None:
    values = [
      self._summary_pb2.Summary.Value(tag=tag, simple_value=number)
      for tag, number in numbers.items()
    ]
    self._add(event, summary=self._summary_pb2.Summary(value=values))

  def truncate_after(self, event: int) -> None:
    # TensorBoard forgets what stands at or after a session's first step.
    log = self._event_pb2.SessionLog
    self._add(event + 1, session_log=log(status=log.START))

  def close(self) -> None:
    self._writer.close()

  def _add(self, event: int, **content: Any) -> None:
    self._writer.add_event(
      self._event_pb2.Event(step=event, wall_time=time.time(), **content)
    )
    self._writer.flush()


class _WandB:
  """Weights & Biases, offline unless WANDB_MODE says otherwise."""

  def __init__(self, folder: workdir.Folder, name: str):
    wandb = _need('wandb')
    self._run = wandb.init(
      project='sleep-jax',
      name=name,
      dir=str(folder),
      mode=os.environ.get('WANDB_MODE', 'offline'),
    )
    # W&B's own step may not go back; `event` may, when a run resumes.
    self._run.define_metric('*', step_metric='event')

  def write(self, event: int, numbers: dict[str, float]) -> None:
    self._run.log({**numbers, 'event': event})

  def truncate_after(self, event: int) -> None:
    """Nothing to do: repeated events stand at the same place."""

  def close(self) -> None:
    self._run.finish()


def _need(package: str) -> Any:
  try:
    return importlib.import_module(package)
  except ImportError as error:
    raise ImportError(
      f'The writer {package!r} was asked for, but the package {package!r} is '
      f"not installed: pip install 'sleep-jax[{package}]', or take it out of "
      'the config.'
    ) from error


def _event(row: Row) -> int:
  event = row.get('event') if isinstance(row, dict) else None
  if isinstance(event, bool) or not isinstance(event, int):
    raise ValueError(f'a row needs an integer "event", found {event!r}')
  return event


def _plain(value: Any) -> Any:
  """Arrays as lists, scalars as Python's own, NaN and infinity as None."""
  if isinstance(value, dict):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if hasattr(value, 'tolist'):
    return _plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _flatten(row: Row, prefix: str = '') -> dict[str, float]:
  """All numbers of a row, nested names joined by '/'."""
  numbers: dict[str, float] = {}
  for key, value in row.items():
    if isinstance(value, dict):
      numbers.update(_flatten(value, f'{prefix}{key}/'))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      numbers[prefix + key] = value
  return numbers
