"""A model on disk that learns one day after the other.

A session is what `Learner` and the chat keep in a folder:

    days/day_0001.jsonl   the rows of each day, in the order they were learned
    run/                  the work directory of the run that learns them

The run is a study with one strategy (`sleep`) and one seed. A new day makes its
schedule longer, and the study continues where it stopped, so a session can be
interrupted and resumed at any moment.
"""

import dataclasses
import functools
import json
import pathlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.interop import hf_checkpoint, open_model
from sleep_jax.runs import day_records, erased_state, progress, study
from sleep_jax.storage import checkpoint_reading, workdir

STRATEGY = 'sleep'
DAYS, RUN = 'days', 'run'
_DEFAULT_CONFIG = 'chat'  # Of a pretrained model: documents, read overnight.
_OLD_RUN = 'life'  # The name of `run/` before version 0.2.

Row = str | Mapping[str, Any]


class Session:
  """A model and the days that it learns.

  Args:
    source: Hugging Face model directory, work directory of a finished run, or
      folder of an earlier session.
    folder: where the session is kept; None: a temporary folder. The folder of
      an earlier session is continued.
    config: of the nights; None: of a run or a session its own, of a pretrained
      model `configs/chat.py`.
    seed: of the run.
    strategy: of the run; another than 'sleep' can only be read.
    dtype: of the parameters of a pretrained model.
    verbose: whether progress is printed to standard error.

  Raises:
    MissingFileError: `source` is not a model, a run or a session.
    UsageError: the folder was written by an older version. A folder of another
      config is refused when a day is added.
  """

  def __init__(
    self,
    source: str,
    folder: str | None = None,
    *,
    config: ml_collections.ConfigDict | None = None,
    seed: int = 0,
    strategy: str = STRATEGY,
    dtype: str = 'float32',
    verbose: bool = True,
  ):
    self._seed, self._dtype, self._verbose = seed, dtype, verbose
    self._strategy = strategy
    self._source = _find(source)
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
    if self._source.kind == 'session' and home != self._source.path:
      self._copy(self._source.path, home)
    self.folder = home
    self._programs: dict[Any, Any] = {}  # Compiled once for all days.
    self._config = self._make_config(config)
    self.reopen()

  @property
  def days(self) -> list[pathlib.Path]:
    """Files of the days, in order."""
    return sorted((self.folder / DAYS).glob('day_*.jsonl'))

  @functools.cached_property
  def loaded(self) -> open_model.LoadedModel:
    """The model as it is now."""
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

  def needs_night(self) -> bool:
    """Whether a day has not been consolidated yet, wholly or in part."""
    return bool(self.days) and not self._study().is_finished()

  def add_day(self, rows: Iterable[Row]) -> pathlib.Path:
    """Writes the file of a new day; nothing is learned yet.

    Args:
      rows: texts, or dicts as in a JSON-lines file: {'text': ...} or
        {'prompt': ..., 'response': ...}.

    Raises:
      UsageError: the last day still needs its night; there are no rows; or a
        row cannot be read or does not fit. No file is left behind.
    """
    if self._strategy != STRATEGY:
      raise errors.UsageError(
        f'This is a run of strategy {self._strategy!r}, which can be read but '
        f'not taught further: load the strategy {STRATEGY!r}.'
      )
    if self.needs_night():
      raise errors.UsageError(
        f'{self.days[-1].name} has been learned awake but not consolidated: '
        'sleep() first, then the next day can begin.'
      )
    lines = [json.dumps(_as_dict(n, row)) for n, row in enumerate(rows)]
    if not lines:
      raise errors.UsageError('There are no rows: a day needs at least one.')
    self._start_run()
    day = self.folder / DAYS / f'day_{self._next_number():04d}.jsonl'
    workdir.write_text(day, '\n'.join(lines) + '\n')
    try:
      self._study().check()
    except Exception:
      day.unlink()
      raise
    return day

  def run(self, *, awake_only: bool = False) -> list[dict[str, Any]]:
    """Learns what is left of the days; returns the records of all nights.

    Args:
      awake_only: stop before the nights of the last day.
    """
    with warnings.catch_warnings():
      # A night donates the buffers of what it replaces; some are not reused.
      warnings.filterwarnings('ignore', 'Some donated buffers were not usable')
      (record,) = self._study().run(awake_only=awake_only, show_schedule=False)
    self.reopen()
    return record['nights']

  def forget(
    self, level: int, slot: int, erased: erased_state.Day | None = None
  ) -> None:
    """Switches an expert off; see `loop.Run.forget`."""
    self._start_run()
    self._study().change_runs(lambda run: run.forget(level, slot, erased))
    self.reopen()

  def go_back(self, cycle: int) -> None:
    """Drops everything that was learned after a cycle; 0 drops all."""
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
    if not self.days:
      raise errors.UsageError(
        'Nothing has been learned yet: there is nothing to save. The model '
        f'itself is in {self._source.path}.'
      )
    self._copy(self.folder, target)

  @staticmethod
  def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    if target.exists() and any(target.iterdir()):
      raise errors.ExistsError(f'{target} is not empty: name a new folder.')
    shutil.copytree(source, target, dirs_exist_ok=True)

  def _next_number(self) -> int:
    """Returns the number of a new day; no file or learned day has it."""
    records = day_records.read(self.seed_folder)
    names = [path.stem for path in self.days] + [r['name'] for r in records]
    numbers = [re.fullmatch(r'day_(\d+)', name) for name in names]
    return 1 + max((int(match[1]) for match in numbers if match), default=0)

  def _has_run(self) -> bool:
    return checkpoint_reading.exists(self._checkpoints)

  def _make_config(self, given) -> ml_collections.ConfigDict:
    """Returns the config of the run, without the place of its days."""
    kept = workdir.read_config(self.folder / RUN)
    if given is not None:
      config = given.copy_and_resolve_references()
    elif kept is not None:
      config = ml_collections.ConfigDict(kept)
    elif self._source.kind == 'model':
      config = files.load(_DEFAULT_CONFIG)
    else:
      config = ml_collections.ConfigDict(self._source.config)
    with config.unlocked():
      config.strategies = (STRATEGY,)
      config.seeds = (self._seed,)
      if self._source.kind == 'model':
        config.pretrain.base_model = str(self._source.path)
    return config

  def _start_run(self) -> None:
    """Makes the folders; copies a finished run, which is never changed."""
    (self.folder / DAYS).mkdir(parents=True, exist_ok=True)
    run = self.folder / RUN
    if run.exists() or self._source.kind != 'run':
      return
    seed = f'seed_{self._seed}'
    part = self.folder / f'{RUN}.part'
    shutil.rmtree(part, ignore_errors=True)
    for name in ('tokenizer', 'pretrain', STRATEGY):
      if (self._source.path / seed / name).exists():
        shutil.copytree(self._source.path / seed / name, part / seed / name)
    plain = json.loads(self._config.to_json_best_effort())
    workdir.write_json(part / 'config.json', plain)
    part.rename(run)

  def _study(self) -> study.Study:
    shown = progress.Progress() if self._verbose else progress.silent()
    with self._config.unlocked():
      # Before the first day there is no file to read.
      self._config.data.extra_days = (
        str(self.folder / DAYS) if self.days else ''
      )
    return study.Study(
      self._config, str(self.folder / RUN), progress=shown,
      accept_changed_days=True,
      programs=self._programs,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Source:
  """What a session starts from.

  Attributes:
    path: of the folder.
    kind: 'model', 'run' or 'session'.
    config: its config.json; empty for a session.
  """

  path: pathlib.Path
  kind: str
  config: Mapping[str, Any]


def _find(source: str) -> _Source:
  """Finds what `source` is.

  Raises:
    MissingFileError: it is nothing that can be loaded.
  """
  path = workdir.path(source)
  if (path / RUN / 'config.json').is_file():
    return _Source(path, 'session', {})
  if (path / 'config.json').is_file():
    config = hf_checkpoint.read_config(path)
    return _Source(path, 'run' if 'strategies' in config else 'model', config)
  if not path.exists():
    found = 'it does not exist'
  elif not path.is_dir():
    found = 'it is a file'
  else:
    names: Sequence[str] = sorted(p.name for p in path.iterdir())
    shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
    found = f'it contains {shown or "nothing"}'
  raise errors.MissingFileError(
    f'{path} is neither a model nor a run: {found}. Expected a Hugging Face '
    'model directory (config.json, *.safetensors, tokenizer.json), the work '
    'directory of a run (config.json, seed_0/), or a folder written by '
    'Learner.save or the chat (days/, run/).'
  )


def _as_dict(number: int, row: Row) -> Mapping[str, Any]:
  if isinstance(row, str):
    return {'text': row}
  if isinstance(row, Mapping):
    return row
  raise errors.DataError(
    f'rows[{number}] is {row!r}: expected a text, or a dict such as '
    "{'text': ...} or {'prompt': ..., 'response': ...}."
  )
