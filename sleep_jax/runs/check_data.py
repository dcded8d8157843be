"""Read data as a run would, and list everything that is wrong with it.

sleep-jax check-data DAYS [--model=FOLDER] [--config=NAME]

Lists all faults with file and line, the rows of each day, the rows that are too
long for the model, and shows three rows as the model reads them, with what is
learned marked. The exit status is 1 if there are faults. Nothing is computed.
"""

import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.runs import command_line, data_check, row_display

_CONFIG = command_line.define_config(
  'Lengths, and what is learned of a row. Without it, that of the run; of a '
  'Hugging Face model, chat.'
)
_MODEL = flags.DEFINE_string(
  'model', None, 'Hugging Face directory, GGUF file, fetched name, run, or '
  'folder of a learner, that is to read the data.',
)  # fmt: skip
_DEFAULT_CONFIG = 'jsonl'


def main(argv):
  try:
    if len(argv) < 2:
      raise errors.UsageError('Name the data: sleep-jax check-data DAYS.')
    sys.exit(_run(argv[1:]))
  except (errors.SleepJaxError, ValueError, OSError, ImportError) as error:
    command_line.exit_with_error(error)
  except KeyboardInterrupt:
    print(file=sys.stderr)
    sys.exit(130)


def _run(path: list[str]) -> int:
  command_line.show_errors_only()
  model, config = _MODEL.value, _CONFIG.value
  data = (config or files.load(_DEFAULT_CONFIG)).data
  field = data.settings.to_dict().get('field') if config else None
  days, faults = data_check.read(path, field)
  reader = None
  if model is not None or config is not None:
    from sleep_jax.runs import row_reader

    texts = (row.text for rows in days.values() for row in rows)
    reader = row_reader.make(model, config, texts)
    data = reader.data
  found = data_check.examine(days, reader)
  found.faults = data_check.in_order(faults + found.faults)
  marks = row_display.COLOR if sys.stdout.isatty() else row_display.BRACKETS
  print(
    data_check.describe(
      found, reader=reader, loss_on=data['loss_on'], marks=marks
    )
  )
  is_refused = found.too_long and data.get('too_long') != 'skip'
  return int(bool(found.faults or is_refused))


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  app.run(main, flags_parser=command_line.parser(takes_words=True))
