"""Backends of `metric_writer`: files, bucket objects, TensorBoard and W&B."""

import importlib
import math
import os
import time
from typing import Any

from sleep_jax import errors
from sleep_jax.storage import workdir

Row = dict[str, Any]
# A bucket accepts about one write per second to an object and bills each.
_REWRITE_SECONDS = 30.0


class FileWriter:
  """Appends lines to a file on disk and flushes each line at once."""

  def __init__(self, path: workdir.Folder, text: str):
    del text  # Already in the file.
    self._file = path.open('a')

  def add(self, line: str) -> None:
    self._file.write(line)
    self._file.flush()

  def flush(self) -> None:
    """Does nothing: every line is flushed when it is added."""

  def close(self) -> None:
    self._file.close()


class BucketWriter:
  """Keeps all lines in memory and rewrites the object from time to time.

  Objects in a bucket cannot be appended to.
  """

  def __init__(self, path: workdir.Folder, text: str):
    self._path, self._text, self._num_written = path, text, len(text)
    self._time = time.monotonic()

  def add(self, line: str) -> None:
    self._text += line
    if time.monotonic() - self._time >= _REWRITE_SECONDS:
      self.flush()

  def flush(self) -> None:
    if len(self._text) > self._num_written:
      workdir.write_text(self._path, self._text)
      self._num_written = len(self._text)
      self._time = time.monotonic()

  def close(self) -> None:
    self.flush()


class TensorBoardWriter:
  """Writes TensorBoard event files without TensorFlow."""

  def __init__(self, folder: workdir.Folder, name: str):
    del name  # TensorBoard names a run by its folder.
    _import_optional('tensorboard')
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
    # TensorBoard drops all events at or after the first step of a session.
    log = self._event_pb2.SessionLog
    self._add(event + 1, session_log=log(status=log.START))

  def close(self) -> None:
    self._writer.close()

  def _add(self, event: int, **content: Any) -> None:
    self._writer.add_event(
      self._event_pb2.Event(step=event, wall_time=time.time(), **content)
    )
    self._writer.flush()


class WandbWriter:
  """Writes to Weights & Biases, offline unless WANDB_MODE is set."""

  def __init__(self, folder: workdir.Folder, name: str):
    wandb = _import_optional('wandb')
    self._run = wandb.init(
      project='sleep-jax',
      name=name,
      dir=str(folder),
      mode=os.environ.get('WANDB_MODE', 'offline'),
    )
    # W&B's own step may not decrease; `event` does when a run is rewound.
    self._run.define_metric('*', step_metric='event')

  def write(self, event: int, numbers: dict[str, float]) -> None:
    self._run.log({**numbers, 'event': event})

  def truncate_after(self, event: int) -> None:
    """Does nothing: repeated events have the same position on the axis."""

  def close(self) -> None:
    self._run.finish()


def _import_optional(package: str) -> Any:
  try:
    return importlib.import_module(package)
  except ImportError as error:
    raise errors.MissingPackageError(
      f'config.writers names {package!r}, but the package {package!r} is not '
      f'installed: pip install {package}, or remove it from '
      'config.writers.'
    ) from error


def get_event(row: Row) -> int:
  """Returns the event of a row; raises ValueError if it is no integer."""
  event = row.get('event') if isinstance(row, dict) else None
  if isinstance(event, bool) or not isinstance(event, int):
    raise ValueError(f'the field "event" is {event!r}: expected an integer')
  return event


def to_plain(value: Any) -> Any:
  """Converts arrays and scalars to Python values; NaN and infinity to None."""
  if isinstance(value, dict):
    return {str(key): to_plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_plain(item) for item in value]
  if hasattr(value, 'tolist'):
    return to_plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def flatten(row: Row, prefix: str = '') -> dict[str, float]:
  """Returns all numbers of a row, with nested names joined by '/'."""
  numbers: dict[str, float] = {}
  for key, value in row.items():
    if isinstance(value, dict):
      numbers.update(flatten(value, f'{prefix}{key}/'))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      numbers[prefix + key] = value
  return numbers
