"""Files of results: one JSON file per unit, written whole when it is done.

A file says which unit, config and source files it is of. A file of another
config or of other sources is refused, because a table of both would compare
what is not comparable.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.compare import units
from sleep_jax.storage import workdir

FOLDER = 'results'
FINISHED, FAILED, SKIPPED = 'finished', 'failed', 'skipped'
Result = dict[str, Any]
_NUM_SHOWN = 5


def read(
  folder: pathlib.Path, expected: Mapping[units.Unit, Mapping[str, Any]]
) -> dict[units.Unit, Result]:
  """Returns the results that a folder has of some units.

  The result of a unit that has to be run again, see `is_final`, may be of
  another config or of other sources; then it is left out.

  Args:
    folder: with one file per unit.
    expected: unit -> 'config' (values its numbers depend on), 'key' (their
      hash) and 'sources' (hash of its source files).

  Raises:
    WorkdirError: a file is damaged, or of another config or other sources.
  """
  found = {}
  for unit, wanted in expected.items():
    file = folder / unit.file_name
    if not file.exists():
      continue
    result = _load(file)
    if is_final(result):
      _check(file, result, wanted)
    if all(result[name] == wanted[name] for name in ('key', 'sources')):
      found[unit] = result
  return found


def is_final(result: Mapping[str, Any]) -> bool:
  """Whether running the unit again would give the same.

  Of failures, only a divergence is final: other reasons may be gone.
  """
  diverged = result.get('error') == errors.DivergedError.__name__
  return result['status'] != FAILED or diverged


def write(folder: pathlib.Path, unit: units.Unit, result: Result) -> None:
  """Writes the file of a unit, whole."""
  # Without line breaks: most of it are scores of single probe sets.
  workdir.write_text(folder / unit.file_name, json.dumps(result) + '\n')


def _load(file: pathlib.Path) -> Result:
  try:
    result = json.loads(file.read_text())
    missing = {'unit', 'key', 'sources', 'status', 'runs'} - set(result)
    found = f'{", ".join(sorted(missing))} missing' if missing else ''
  except ValueError as error:
    found = str(error)
  if found:
    raise errors.WorkdirError(
      f'{file} is no file of results ({found}): delete it to run the unit '
      'again, or restore it.'
    )
  return result


def _check(
  file: pathlib.Path, result: Result, wanted: Mapping[str, Any]
) -> None:
  """Refuses the result of another config or of other source files."""
  do = (
    'Delete it to run the unit again, choose another --workdir, or go back to '
    'what it was made with'
  )
  if result['key'] != wanted['key']:
    lines: Sequence[str] = [
      *workdir.differences(result.get('config'), wanted['config'])
    ]
    more = len(lines) - _NUM_SHOWN
    shown = [*lines[:_NUM_SHOWN], *([f'and {more} more'] if more > 0 else [])]
    raise errors.WorkdirError(
      f'{file} is of another config (found {result["key"]}, expected '
      f'{wanted["key"]}):\n  ' + '\n  '.join(shown) + f'\n{do}.'
    )
  if result['sources'] != wanted['sources']:
    raise errors.WorkdirError(
      f'{file} is of other source files (found {result["sources"]}, of '
      f'revision {result.get("revision")}; expected {wanted["sources"]}). '
      f'{do}.'
    )
