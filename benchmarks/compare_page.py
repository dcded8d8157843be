"""Draws the page of a comparison again, from its files of results.

python -m benchmarks.compare_page docs/results/compare/facts

`sleep-jax compare` refuses results of other source files. This command runs
nothing and takes them as they are; the page has the revision of each unit.
"""

import json
import pathlib

from absl import app

from sleep_jax.compare import result_files
from sleep_jax.report import comparison


def main(argv):
  if len(argv) != 2:
    raise app.UsageError('Expected one folder, which has a folder results/.')
  folder = pathlib.Path(argv[1])
  files = sorted((folder / result_files.FOLDER).glob('*.json'))
  if not files:
    raise app.UsageError(f'{folder} has no results/*.json.')
  found = [json.loads(file.read_text()) for file in files]
  config = {**found[0]['config'], 'name': found[0]['study']}
  comparison.write(folder, found, config, num_planned=None)


if __name__ == '__main__':
  app.run(main)
