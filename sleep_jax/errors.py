"""Errors that a user can cause and correct.

Each message names the file, line or field, what was found, what was expected
and what to do. `SleepJaxError` catches all of them. Each is also the built-in
error that it specializes, so `except ValueError` works too. Any other exception
that leaves the package is a defect of the package.
"""


class SleepJaxError(Exception):
  """Base of all errors of this package."""


class ConfigError(SleepJaxError, ValueError):
  """A field of the config or a flag has an impossible value."""


class UsageError(SleepJaxError, ValueError):
  """A call cannot be carried out, or not in the present state."""


class DataError(SleepJaxError, ValueError):
  """A file of text or a row of it cannot be used."""


class TooLongError(DataError):
  """Rows have more tokens than the settings allow.

  Attributes:
    summary: of the rows, a `data.long_rows.Summary`.
  """

  def __init__(self, message: str, *, summary=None):
    super().__init__(message)
    self.summary = summary


class ModelFileError(SleepJaxError, ValueError):
  """A file of a model cannot be used: weights, config, tokenizer, template."""


class ModelFileWarning(SleepJaxError, UserWarning):
  """A model is read, but not every file of it, or not as its config says.

  It is issued with `warnings.warn`; commands print it as one line.
  """


class CacheWarning(SleepJaxError, UserWarning):
  """Compiled programs cannot be kept for the next process.

  It is issued like `ModelFileWarning`.
  """


class WorkdirError(SleepJaxError, ValueError):
  """A work directory cannot be used: damaged, or of another config."""


class ChangedDaysError(WorkdirError):
  """Days that were learned are not what they were."""


class InUseError(WorkdirError):
  """Another process uses the work directory."""


class DivergedError(SleepJaxError, ArithmeticError):
  """The loss or the weights are not finite any more."""


class OutOfMemoryError(SleepJaxError, MemoryError):
  """A device or the machine has not enough memory."""


class MissingFileError(SleepJaxError, FileNotFoundError):
  """A file or folder does not exist."""


class ExistsError(SleepJaxError, FileExistsError):
  """A file or folder exists and is not overwritten."""


class StorageError(SleepJaxError, OSError):
  """A disk or bucket cannot be read or written."""


class MissingPackageError(SleepJaxError, ImportError):
  """An optional package is not installed."""


class LostProcessError(SleepJaxError, ConnectionError):
  """Another process of the same run cannot be reached."""
