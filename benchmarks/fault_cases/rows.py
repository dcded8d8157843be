"""Files of rows of every kind: read exactly, or refused with file and line.

Runs the reader of the dataset in this process. A case states the texts that are
read and what of them is learned, or a pattern that the message must match.
`check-data` must find a fault in exactly the files that are refused.
"""

import dataclasses
import os
import pathlib
import re
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_WORKERS = 1
_SLOW = 10.0  # Seconds: longer is a failure.

Content = bytes | Callable[[pathlib.Path], None]


@dataclasses.dataclass(frozen=True)
class Case:
  """Files, and what is right.

  Attributes:
    name: unique.
    group: heading in the table.
    files: name -> content, or a function that writes it.
    rows: (text before what is learned, what is learned) of each row; None if
      the files are refused.
    message: pattern of the message, if they are refused.
    how: arguments of `jsonl.make` besides the path.
    path: what is read, below the folder of the case.
    template: whether rows are shown as a model with a chat template reads
      them; then a row is one text with marks around what is learned.
  """

  name: str
  group: str
  files: dict[str, Content]
  rows: tuple[tuple[str, str], ...] | None = None
  message: str = ''
  how: dict[str, Any] = dataclasses.field(default_factory=dict)
  path: str = ''
  template: bool = False
  scenario: str = ''


def cases() -> list[Case]:
  """Returns all cases."""
  from benchmarks.fault_cases import row_chats, row_files, row_texts

  found = [*row_texts.CASES, *row_chats.CASES, *row_files.CASES]
  names = [case.name for case in found]
  assert len(set(names)) == len(names), 'names of cases are not unique'
  return found


def prepare(
  home: pathlib.Path, cache: pathlib.Path, names: set[str], workers: int
) -> pathlib.Path:
  """Writes the model whose chat template is used; returns its folder."""
  from launch import tiny_llama
  from sleep_jax.datasets import jsonl  # noqa: F401  Before time is measured.
  from sleep_jax.runs import data_check, row_reader  # noqa: F401

  del cache, names, workers
  tiny_llama.write(home / 'llama')
  return home / 'llama'


def attempt(case: Case, model: pathlib.Path) -> dict[str, Any]:
  """Runs one case; returns its row."""
  from sleep_jax import errors
  from sleep_jax.runs import data_check

  with tempfile.TemporaryDirectory(prefix='faults_') as folder:
    home = pathlib.Path(folder)
    for name, content in case.files.items():
      if isinstance(content, bytes):
        (home / name).write_bytes(content)
      else:
        content(home / name)
    path = str(home / case.path) if case.path else folder
    began, found, message, trace = time.monotonic(), None, '', ''
    try:
      found = _read(case, path, model)
    except errors.SleepJaxError as error:
      message = str(error).replace(folder, '.')
    except Exception as error:
      trace = f'{type(error).__name__}: {error}'[:300]
    seconds = time.monotonic() - began
    try:
      faults = data_check.read([path], case.how.get('field'))[1]
    except errors.SleepJaxError as error:
      faults = [str(error)]
    except Exception as error:
      trace += f' check-data: {type(error).__name__}: {error}'[:300]
      faults = []
  outcome, right = _judge(case, found, message)
  listed = bool(faults) == (case.rows is None) or bool(case.how)
  why = []
  if not right:
    why.append(f'read {found}' if found is not None else message)
  if not listed:
    why.append(f'check-data lists {faults}')
  if seconds > _SLOW:
    why.append(f'{seconds:.0f} s')
  if trace:
    why.append(trace)
  return {
    'name': case.name, 'scenario': case.group,
    'right': 'read' if case.rows is not None else 'refused',
    'outcome': outcome if not trace else 'traceback',
    'survived': not why, 'differences': [w[:400] for w in why],
    'message': message[:400], 'seconds': round(seconds, 2),
  }  # fmt: skip


def _judge(case, found, message) -> tuple[str, bool]:
  """Returns what happened, and whether it is right."""
  if found is None:
    matches = re.search(case.message, message) is not None
    return 'refused', case.rows is None and matches and bool(message)
  return 'read', case.rows is not None and tuple(found) == case.rows


def _read(case: Case, path: str, model: pathlib.Path):
  """Returns (text before, learned text) of each row, in order of the days."""
  from sleep_jax.config import files
  from sleep_jax.datasets import jsonl
  from sleep_jax.runs import row_display, row_reader

  made = jsonl.make(path=path, **case.how)
  rows = [row for _, day in made.experiences for row in day]
  if case.template:
    config = files.load('documents')
    config.data.update(context=256, max_prompt=256)
    reader = row_reader.make(str(model), config, [])
    shown = [
      row_display.show_tokens(
        reader.encode(row)[0], reader.tokenizer, row_display.BRACKETS
      )
      for row in rows
    ]
    return [tuple(text.split('[[', 1)) for text in shown]
  start = [row.response_start or 0 for row in rows]
  return [(r.text[:s], r.text[s:]) for r, s in zip(rows, start, strict=True)]


def growing(path: pathlib.Path) -> None:
  """Writes a file to which another thread appends for a while."""
  path.write_bytes(b'{"text": "A row."}\n' * 20_000)

  def append():
    for _ in range(400):
      if not path.exists():
        return
      with open(path, 'ab') as file:
        file.write(b'{"text": "A late row."}\n')
        os.fsync(file.fileno())
      time.sleep(0.005)

  threading.Thread(target=append, daemon=True).start()
