"""TODO: storage.metric_backends (from writers)."""

import importlib
import math
import os
import time
from typing import Any

from sleep_jax.storage import workdir

Row = dict[str, Any]
# A bucket takes about one write a second to an object, and bills each.
_REWRITE_SECONDS = 30.0


class FileWriter:
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


class BucketWriter:
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


class TensorBoardWriter:
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


class WandbWriter:
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


def get_event(row: Row) -> int:
  event = row.get('event') if isinstance(row, dict) else None
  if isinstance(event, bool) or not isinstance(event, int):
    raise ValueError(f'a row needs an integer "event", found {event!r}')
  return event


def to_plain(value: Any) -> Any:
  """Arrays as lists, scalars as Python's own, NaN and infinity as None."""
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
  """All numbers of a row, nested names joined by '/'."""
  numbers: dict[str, float] = {}
  for key, value in row.items():
    if isinstance(value, dict):
      numbers.update(flatten(value, f'{prefix}{key}/'))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
      numbers[prefix + key] = value
  return numbers
