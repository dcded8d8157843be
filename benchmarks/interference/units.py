"""All units of the study, and the summary of their pairs."""

import pathlib
from collections.abc import Sequence

import ml_collections

from benchmarks.interference import summary, unit
from sleep_jax import errors
from sleep_jax.storage import workdir
from sleep_jax.strategies import registry, strategy


def run(
  config: ml_collections.ConfigDict,
  strategies: Sequence[str],
  *,
  folder: pathlib.Path,
  out: pathlib.Path,
) -> str:
  """Runs what is left of all units; returns the table.

  Args:
    config: see `unit.run`; all of its seeds are run.
    strategies: names.
    folder, out: see `unit.run`.

  Raises:
    ConfigError: a strategy is unknown, repeated or has no updates of days, or
      see `unit.run`.
  """
  _check(config, strategies)
  results = []
  for seed in config.seeds:
    for name in strategies:
      results.append(unit.run(config, name, int(seed), folder=folder, out=out))
  rows = summary.rows(results)
  found = summary.summarize(rows)
  about = [
    {name: value for name, value in result.items() if name != 'pairs'}
    for result in results
  ]
  workdir.write_json(
    out / 'interference.json',
    {'units': about, 'note': summary.NOTE, 'summary': found, 'pairs': rows},
  )
  text = summary.table(found, f'Interference: {config.name}')
  workdir.write_text(out / 'table.md', text)
  return text


def _check(config, strategies) -> None:
  """Refuses names of strategies whose updates cannot be compared."""
  if not strategies or len({*strategies}) < len(strategies):
    raise errors.ConfigError(
      f'--strategies is {",".join(strategies)!r}: expected one or more '
      'different names.'
    )
  for name in strategies:
    made = registry.make(name, num_levels=len(config.levels))
    learns = all(one.owners or one.edits for one in made)
    if not learns or any(
      one.sources is not strategy.sequential_sources for one in made
    ):
      raise errors.ConfigError(
        f'--strategies: {name!r} does not change its weights one day after the '
        'other, so it has no update of a day. Expected others, such as sft: '
        'leave it out.'
      )
