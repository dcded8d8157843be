"""Draws the page of a comparison again, from its files of results.

python -m benchmarks.compare_page docs/results/compare/facts

`sleep-jax compare` refuses results of other source files. This command runs
nothing and takes them as they are; the page has the revision of each unit. It
refuses results of different configs.
"""

import json
import pathlib
import sys

from absl import app

from sleep_jax import errors
from sleep_jax.compare import result_files
from sleep_jax.report import comparison
from sleep_jax.storage import workdir
from sleep_jax.strategies import registry


def check(found, names) -> None:
  """Refuses results of different configs.

  Args:
    found: results of units.
    names: of their files.

  Raises:
    UsageError: names two files and the fields that differ.
  """
  # What a unit may have of its own: its seed, order, and its strategy's values.
  own = (
    *registry.settings(),
    'strategies',
    'seeds',
    'tuned_with_seed',
    'data.order',
  )
  first, *others = (workdir.without(r['config'], own) for r in found)
  for config, name in zip(others, names[1:], strict=True):
    differ = list(workdir.differences(first, config))
    if differ:
      raise errors.UsageError(
        f'{names[0]} and {name} are of different configs: '
        f'{"; ".join(map(str, differ))}. Draw a page for each.'
      )


def main(argv):
  if len(argv) != 2:
    raise app.UsageError('Expected one folder, which has a folder results/.')
  folder = pathlib.Path(argv[1])
  files = sorted((folder / result_files.FOLDER).glob('*.json'))
  if not files:
    raise app.UsageError(f'{folder} has no results/*.json.')
  found = [json.loads(file.read_text()) for file in files]
  try:
    check(found, [file.name for file in files])
  except errors.UsageError as error:
    sys.exit(f'error: {error}')
  config = {**found[0]['config'], 'name': found[0]['study']}
  comparison.write(folder, found, config, num_planned=None)


if __name__ == '__main__':
  app.run(main)
