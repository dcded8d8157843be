"""List what a work directory still holds of a text.

    sleep-jax trace 'Ann lives in Oslo' --workdir=runs/chat

Searches every file, and decodes token caches and checkpoints. Three consecutive
words of the text count as a part of it. Weights cannot be searched; the nights
that learned the text are named instead. Exits with 0 if nothing is found, and
with 2 otherwise.
"""

import pathlib
import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line, day_search, text_search
from sleep_jax.storage import workdir

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Work directory of a study, or folder of a chat.'
)
_FOUND = 2


def main(argv):
  command_line.show_errors_only()
  try:
    if len(argv) != 2:
      raise errors.UsageError(
        f"Expected one text, found {len(argv) - 1}: quote it, as in 'in Oslo'."
      )
    text = argv[1]
    found = text_search.find(_WORKDIR.value, text)
    weights = list(day_search.learned(_WORKDIR.value, text))
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


if __name__ == '__main__':
  flags.mark_flags_as_required(['workdir'])
  app.run(main, flags_parser=command_line.parser(takes_words=True))
