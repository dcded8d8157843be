"""A model on disk that learns one day after the other.

A session is what `Learner` and the chat keep in a folder:

    days/day_0001.jsonl   the rows of each day, in the order they were learned
    run/                  the work directory of the run that learns them

The run is a study with one strategy (`sleep`) and one seed. A new day makes its
schedule longer, and the study continues where it stopped, so a session can be
interrupted and resumed at any moment.
"""

import contextlib
import functools
import json
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import ml_collections

from sleep_jax import errors
from sleep_jax.interop import open_model
from sleep_jax.runs import (
  erased_state,
  export_forecast,
  progress,
  session_days,
  session_source,
)
from sleep_jax.runtime import host_memory
from sleep_jax.storage import checkpoint_reading, lock, private_files, workdir

if TYPE_CHECKING:
  from sleep_jax.runs import study

STRATEGY = session_source.STRATEGY
DAYS, RUN = session_days.FOLDER, session_source.RUN
_OLD_RUN = 'life'  # The name of `run/` before version 0.2.

Row = session_days.Row


class Session:
  """A model and the days that it learns.

  Args:
    source: model directory, work directory of a run, or earlier session.
    folder: where the session is kept; None: a temporary folder. The folder of
      an earlier session is continued.
    config: of the nights; None: of a run or a session its own, of a pretrained
      model `configs/chat.py`.
    seed: of the run; a session that was begun keeps its own.
    strategy: of the run; another than 'sleep' can only be read.
    dtype: of the parameters of a pretrained model.
    verbose: whether progress is printed to standard error.

  Raises:
    MissingFileError: `source` is not a model, a run or a session.
    ModelFileError: a file of the model cannot be used.
    ConfigError: the config has a wrong value.
    UsageError: the folder or strategy cannot be used, or a config names code.
    WorkdirError: the folder was written by version 0.1.
    ExistsError: a session would be copied to a folder that is not empty.
  """

  def __init__(
    self,
    source: str,
    folder: str | None = None,
    *,
    config: ml_collections.ConfigDict | str | None = None,
    seed: int = 0,
    strategy: str = STRATEGY,
    dtype: str = 'float32',
    verbose: bool = True,
  ):
    self._dtype = dtype
    self._progress = progress.Progress() if verbose else progress.silent()
    self._is_held = False
    self._strategy = strategy
    self._source = session_source.find(source, strategy)
    if self._source.kind == 'session' and folder is None:
      folder = str(self._source.path)
    if folder is None:
      self._temporary = tempfile.TemporaryDirectory(prefix='sleep_jax_')
      folder = self._temporary.name
    home = workdir.path(folder)
    if workdir.in_bucket(home):
      raise errors.UsageError(
        f'{folder} is in a bucket: days are kept on the machine that learns '
        'them. Name a folder on disk.'
      )
    if (home / _OLD_RUN).is_dir() and not (home / RUN).is_dir():
      raise errors.WorkdirError(
        f'{home} was written by version 0.1 of sleep_jax (it has a folder '
        f'{_OLD_RUN}/) and cannot be continued: its days are in {home / DAYS}; '
        'name a new folder and teach them again.'
      )
    session_source.refuse_home(self._source, home)
    session_source.begin(self._source, home)
    self.folder = home
    self._seed = seed = session_source.kept_seed(home, seed)
    self._programs: dict[Any, Any] = {}  # Compiled once for all days.
    self._config = session_source.make_config(
      self._source, config, folder=home, strategy=STRATEGY, seed=seed
    )
    is_born_here = not self._config.pretrain.base_model
    host_memory.configure(keep_freed_blocks=is_born_here)
    self.reopen()

  @property
  def days(self) -> list[pathlib.Path]:
    """Files of the days that are still there, in order."""
    return self.day_files.paths()

  @property
  def day_files(self) -> session_days.SessionDays:
    """Names and files of the days."""
    return session_days.SessionDays(self.folder, self.seed_folder)

  @functools.cached_property
  def loaded(self) -> open_model.LoadedModel:
    """The model as it was when it was first used, or last changed here.

    What another process changes is seen by the next change here, see `hold`.
    """
    self._seen = self.progress()  # First: if it is older, it is read again.
    if self._has_run():
      return open_model.open_model(
        str(self.folder / RUN), strategy=STRATEGY, seed=self._seed
      )
    source = str(self._source.path)
    if self._source.kind == 'model':
      return open_model.open_model(source, dtype=self._dtype)
    return open_model.open_model(
      source, strategy=self._strategy, seed=self._seed
    )

  @property
  def chat_folder(self) -> pathlib.Path | None:
    """Folder with the tokenizer and chat template, of a pretrained model."""
    base = self.loaded.base_model
    return None if base is None else base.folder

  def stored_prompts(self) -> list[list[int]]:
    """Returns the prompts that the run keeps, in tokens; at least BOS."""
    kept = self.folder / RUN if self._has_run() else self._source.path
    return open_model.stored_prompts(
      self.loaded, str(kept), strategy=self._strategy, seed=self._seed
    )

  def reopen(self) -> None:
    """Forgets the loaded weights: they are read again when they are needed."""
    self.__dict__.pop('loaded', None)
    host_memory.collect()

  def needs_night(self) -> bool:
    """Whether a day has not been consolidated yet, wholly or in part."""
    if not self.day_files.names() or not (self.days or self._has_run()):
      return False
    return not self._study().is_finished()

  @contextlib.contextmanager
  def hold(self) -> Iterator[None]:
    """Keeps others from changing the folder, and sees what they have changed.

    Each change of a session holds it, so that sessions of one folder, in one
    process or several, can change it in turns.

    Raises:
      InUseError: another process changes it now; says which.
    """
    if self._is_held:
      yield
      return
    is_new = not self.folder.exists()
    private_files.make_folder(self.folder)
    try:
      with lock.hold(self.folder):
        self._is_held = True
        progress_now = self.progress()
        if 'loaded' in self.__dict__ and progress_now != self._seen:
          self.reopen()
        if progress_now is None and self._source.kind == 'model':
          self._say_if_not_exportable()
        yield
    finally:
      self._is_held = False
      if is_new and not any(self.folder.iterdir()):
        self.folder.rmdir()  # Nothing was written: leave nothing behind.

  def add_day(
    self, rows: Iterable[Row], name: str | None = None
  ) -> pathlib.Path:
    """Writes the file of a new day; nothing is learned yet.

    Args:
      rows: texts, or dicts as in a file, see `datasets.row_formats`.
      name: of the day, see `SessionDays.next_name`.

    Raises:
      InUseError: another process changes the folder.
      UsageError: the last day still needs its night, or there are no rows.
      DataError: a row cannot be read; no file is left behind.
    """
    if self._strategy != STRATEGY:
      raise errors.UsageError(
        f'This is a run of strategy {self._strategy!r}, which can be read but '
        f'not taught further: load the strategy {STRATEGY!r}.'
      )
    rows = list(rows)
    lines = [session_days.as_line(n, row) for n, row in enumerate(rows)]
    if not lines:
      raise errors.UsageError('There are no rows: a day needs at least one.')
    with self.hold():
      if self.needs_night():
        raise errors.UsageError(
          f'{self.day_files.names()[-1]}.jsonl has been learned awake but not '
          'consolidated: sleep() first, then the next day can begin.'
        )
      self._start_run()
      written = self._questions(rows)
      lines += [session_days.as_line(n, row) for n, row in enumerate(written)]
      name = name or self.day_files.next_name()
      day = self.day_files.add(name, lines)
      try:
        self._study().check()
      except BaseException:
        self.day_files.remove(name)
        raise
    return day

  def _questions(self, rows: list[Row]) -> list[dict[str, Any]]:
    """Returns questions about the documents of a day, if the config asks."""
    # A model that is only asked does not wait for this import.
    from sleep_jax.runs import day_questions

    settings = day_questions.settings(self._config)
    if settings is None:
      return []
    return day_questions.write(
      self.loaded, rows, settings, self._config, self._progress
    )

  def run(self, *, awake_only: bool = False) -> list[dict[str, Any]]:
    """Learns what is left of the days; returns the records of all nights.

    Args:
      awake_only: stop before the nights of the last day.
    """
    with self.hold(), warnings.catch_warnings():
      # A night donates the buffers of what it replaces; some are not reused.
      warnings.filterwarnings('ignore', 'Some donated buffers were not usable')
      self.reopen()  # The run reads its own weights: these would be a copy.
      (record,) = self._study().run(awake_only=awake_only, show_schedule=False)
    self.reopen()  # Also frees what the run left.
    return record['nights']

  def forget(
    self, level: int, slot: int, erased: erased_state.Day | None = None
  ) -> None:
    """Switches an expert off; see `loop.Run.forget`."""
    with self.hold():
      self._start_run()
      self._study().change_runs(lambda run: run.forget(level, slot, erased))
    self.reopen()

  def go_back(self, cycle: int) -> None:
    """Drops everything that was learned after a cycle; 0 drops all."""
    with self.hold():
      if cycle:
        self._study().change_runs(lambda run: run.go_back(cycle))
      else:
        shutil.rmtree(self.seed_folder / STRATEGY)
    self.reopen()

  @property
  def seed_folder(self) -> pathlib.Path:
    """Folder of the run's only seed."""
    return self.folder / RUN / f'seed_{self._seed}'

  @property
  def _checkpoints(self) -> str:
    return str(self.seed_folder / STRATEGY / 'checkpoints')

  def progress(self) -> dict[str, Any] | None:
    """Returns the progress of the latest checkpoint, None before the first."""
    return checkpoint_reading.latest_progress(self._checkpoints)

  def cycles(self) -> list[int]:
    """Returns the cycles whose checkpoints are kept, ascending."""
    return checkpoint_reading.cycles(self._checkpoints)

  def save(self, folder: str) -> None:
    """Copies the session to a new folder.

    Raises:
      UsageError: nothing has been learned yet.
      ExistsError: the folder is not empty.
    """
    target = workdir.path(folder)
    if not self.day_files.names():
      raise errors.UsageError(
        'Nothing has been learned yet: there is nothing to save. The model '
        f'itself is in {self._source.path}.'
      )
    with self.hold():
      session_source.copy(self.folder, target)

  def _has_run(self) -> bool:
    return checkpoint_reading.exists(self._checkpoints)

  def _start_run(self) -> None:
    """Makes the folders; copies a finished run, which is never changed."""
    private_files.make_folder(self.folder)
    private_files.make_folder(self.folder / DAYS)
    run = self.folder / RUN
    if run.exists():
      return
    part = self.folder / f'{RUN}.part'
    shutil.rmtree(part, ignore_errors=True)
    private_files.make_folder(part)
    if self._source.kind == 'run':
      session_source.copy_run(
        self._source.path, part, seed=self._seed, strategy=STRATEGY
      )
      plain = json.loads(self._config.to_json_best_effort())
      workdir.write_json(part / 'config.json', plain)
    part.rename(run)

  def _say_if_not_exportable(self) -> None:
    notice = export_forecast.notice(
      json.loads(self._config.to_json_best_effort())
    )
    if notice:
      self._progress.say(notice)

  def _study(self) -> 'study.Study':
    # A model that is only asked does not wait for the imports of learning.
    from sleep_jax.runs import study

    return study.Study(
      self._config, str(self.folder / RUN), progress=self._progress,
      accept_changed_days=True, accept_changed_rates=True,
      days=[str(path) for path in self.days], programs=self._programs,
    )  # fmt: skip
