"""Draws the page of a comparison again, from its files of results.

python -m benchmarks.compare_page docs/results/compare/facts

`sleep-jax compare` refuses results of other source files. This command runs
nothing and takes them as they are; the page has the revision of each unit. It
refuses results of different configs.
"""

import json
import pathlib

from absl import app

from sleep_jax import errors
from sleep_jax.compare import result_files
from sleep_jax.report import comparison
from sleep_jax.strategies import registry


def check(found, names) -> None:
  """Refuses results of different configs.

  Args:
    found: results of units.
    names: of their files.

  Raises:
    UsageError: names two files and the fields that differ.
  """
  # What a unit may have of its own: its seed, and settings of strategies.
  own = {*registry.settings(), 'strategies', 'seeds', 'tuned_with_seed'}
  parts = [
    {k: v for k, v in result['config'].items() if k not in own}
    for result in found
  ]
  for part, name in zip(parts, names, strict=True):
    keys = sorted(part.keys() | parts[0].keys())
    differ = [key for key in keys if part.get(key) != parts[0].get(key)]
    differ = [key for key in differ if key != 'data'] + _differ_in_data(
      part, parts[0]
    )
    if differ:
      raise errors.UsageError(
        f'{names[0]} and {name} are of different configs (they differ in '
        f'{", ".join(differ)}): draw a page for each.'
      )


def _differ_in_data(one, other) -> list[str]:
  keys = sorted((one['data'].keys() | other['data'].keys()) - {'order'})
  return [
    f'data.{key}'
    for key in keys
    if one['data'].get(key) != other['data'].get(key)
  ]


def main(argv):
  if len(argv) != 2:
    raise app.UsageError('Expected one folder, which has a folder results/.')
  folder = pathlib.Path(argv[1])
  files = sorted((folder / result_files.FOLDER).glob('*.json'))
  if not files:
    raise app.UsageError(f'{folder} has no results/*.json.')
  found = [json.loads(file.read_text()) for file in files]
  check(found, [file.name for file in files])
  config = {**found[0]['config'], 'name': found[0]['study']}
  comparison.write(folder, found, config, num_planned=None)


if __name__ == '__main__':
  app.run(main)
