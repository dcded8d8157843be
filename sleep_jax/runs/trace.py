"""List what a work directory still holds of a text.

    sleep-jax trace 'Ann lives in Oslo' --workdir=runs/chat

Searches every file, and decodes token caches and checkpoints. Three consecutive
words of the text count as a part of it. Weights cannot be searched; the nights
that learned the text are named instead. Exits with 0 if nothing is found, and
with 2 otherwise.
"""

import json
import pathlib
import sys
from collections.abc import Iterator

from absl import app, flags

from sleep_jax import errors
from sleep_jax.datasets import jsonl, row_files
from sleep_jax.runs import (
  command_line,
  day_records,
  expert_history,
  session,
  text_search,
)
from sleep_jax.storage import checkpoint_reading, workdir

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Work directory of a study, or folder of a chat.'
)
_FOUND = 2


def main(argv):
  command_line.show_errors_only()
  if len(argv) != 2:
    raise app.UsageError(
      f"Expected one text, found {len(argv) - 1}: quote it, as in 'in Oslo'."
    )
  text = argv[1]
  try:
    found = text_search.find(_WORKDIR.value, text)
    weights = list(learned(_WORKDIR.value, text))
  except (errors.SleepJaxError, OSError) as error:
    command_line.exit_with_error(error)
  num_words = len(text_search.Needle(text).words)
  for place in found:
    print(describe(place, num_words))
  for line in weights:
    print(line)
  if not (found or weights):
    folder = pathlib.Path(workdir.path(_WORKDIR.value))
    num = sum(path.is_file() for path in folder.rglob('*'))
    print(f'nothing found in {num:,} files')
    return
  print(f'{len(found)} places; weights cannot be searched.')
  sys.exit(_FOUND)


def describe(place: text_search.Found, num_words: int) -> str:
  """Returns a place as one line.

  Args:
    place: where it is.
    num_words: words of the text that was searched for.
  """
  return (
    f'{place.path}: {place.num} {place.what}, '
    f'{place.words} of {num_words} words: {place.excerpt!r}'
  )


def learned(folder: str, text: str) -> Iterator[str]:
  """Yields a sentence for each day whose rows hold a text and were learned.

  Args:
    folder: work directory of a study, or folder of a chat.
    text: what to search for.
  """
  home, needle = workdir.path(folder), text_search.Needle(text)
  run = home / session.RUN if (home / session.RUN).is_dir() else home
  data = (workdir.read_config(run) or {}).get('data', {})
  places = [str(home / session.DAYS), data.get('path'), data.get('extra_days')]
  files = [file for place in places for file in _files_with(needle, place)]
  for seed in sorted(run.glob('seed_*')):
    names = [record['name'] for record in day_records.read(seed)]
    begun = [
      (number, name)
      for number, name in enumerate(names)
      if any(file == name or file.startswith(f'{name}.') for file in files)
    ]
    for checkpoints in sorted(seed.glob('*/checkpoints')):
      progress = checkpoint_reading.latest_progress(str(checkpoints))
      for number, name in begun if progress is not None else ():
        where = expert_history.where_is_day(progress, number)
        yield f'{checkpoints.parent.relative_to(home)}: {name}: {where}'


def _files_with(
  needle: text_search.Needle, place: str | list[str] | None
) -> list[str]:
  """Returns the names of the files of a data path that hold the text."""
  try:
    files = jsonl.find_files(place) if place else []
  except errors.SleepJaxError:  # The files were moved or deleted.
    return []
  return [
    pathlib.Path(file).name
    for file in files
    if any(needle.longest(text) for text in _texts(file))
  ]


def _texts(file: str) -> Iterator[str]:
  """Yields the rows of a file of any kind, as far as they can be read."""
  try:
    for _, row in row_files.read(file, on_error=lambda error: None):
      text = json.dumps(row, ensure_ascii=False, default=str)
      yield text.replace('\\n', '\n')
  except errors.SleepJaxError:
    if pathlib.Path(file).is_file():
      yield from text_search.lines(pathlib.Path(file))


if __name__ == '__main__':
  flags.mark_flags_as_required(['workdir'])
  app.run(main, flags_parser=command_line.parser(takes_words=True))
