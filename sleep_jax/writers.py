"""Writers: every number of a run, in a file and where else one looks.

`metrics.jsonl` is the record: one row per line, flushed, so that whatever
ends a run costs at most the line under way. TensorBoard and Weights & Biases
see the same numbers when asked for. Rows carry an integer `event`; a run that
goes back to a checkpoint drops the rows after it, and repeats them.
"""

import importlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterable
from typing import Any, Self

Row = dict[str, Any]
EXTRAS = ('tensorboard', 'wandb')


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
      ValueError: an unknown writer, or a broken line inside the record.
      ImportError: a writer that was asked for is not installed.
    """
    folder = pathlib.Path(folder)
    unknown = [w for w in writers if w not in EXTRAS]
    if unknown:
      raise ValueError(
        f'Unknown writers {unknown}; known are {", ".join(EXTRAS)} '
        '(metrics.jsonl is always written).'
      )
    folder.mkdir(parents=True, exist_ok=True)
    self.path = folder / 'metrics.jsonl'
    _rewrite(self.path, read(self.path))  # Sheds a half-written last line.
    self._file = self.path.open('a')
    made: dict[str, Any] = {'tensorboard': _TensorBoard, 'wandb': _WandB}
    self._others = [made[w](folder, name or folder.name) for w in writers]

  def write(self, row: Row) -> None:
    """Appends a row; its `event` is an integer.

    Numbers that JSON has no word for (NaN, infinity) are stored as null.
    """
    row = _plain(row)
    event = _event(row)
    self._file.write(json.dumps(row, allow_nan=False) + '\n')
    self._file.flush()
    numbers = _flatten(row)
    for other in self._others:
      other.write(event, numbers)

  def journal(self, rows: list[Row]) -> None:
    """Writes `dreams.jsonl` anew, whole or not at all; nothing if empty."""
    if not rows:
      return
    path = self.path.with_name('dreams.jsonl')
    new = path.with_suffix('.jsonl.new')
    new.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    new.replace(path)

  def truncate_after(self, event: int) -> list[Row]:
    """Drops the rows after `event`; returns those that stay."""
    rows = [row for row in read(self.path) if row['event'] <= event]
    self._file.close()
    _rewrite(self.path, rows)
    self._file = self.path.open('a')
    for other in self._others:
      other.truncate_after(event)
    return rows

  def close(self) -> None:
    self._file.close()
    for other in self._others:
      other.close()

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
  path = pathlib.Path(path)
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


class _TensorBoard:
  """Event files by the `tensorboard` package alone, without TensorFlow."""

  def __init__(self, folder: pathlib.Path, name: str):
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

  def __init__(self, folder: pathlib.Path, name: str):
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


def _rewrite(path: pathlib.Path, rows: list[Row]) -> None:
  """Replaces the record in one move, so that no moment has half of it."""
  if not path.exists():
    return
  new = path.with_suffix('.jsonl.new')
  new.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  new.replace(path)


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
