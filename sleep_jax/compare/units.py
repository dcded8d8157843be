"""The units of a comparison: one strategy, one seed, one order of experiences.

A unit is the smallest thing that is run, stored and counted. Every unit of a
seed starts from the same initial model.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence

from sleep_jax import errors


@dataclasses.dataclass(frozen=True, order=True)
class Unit:
  """One run of a strategy.

  Attributes:
    strategy: its name, as in `config.strategies`.
    seed: of the initial model, the data and the run.
    order: of the experiences, see `datasets.orders`.
  """

  strategy: str
  seed: int
  order: int

  @property
  def name(self) -> str:
    """The unit as the user writes it: sleep:0:0."""
    return f'{self.strategy}:{self.seed}:{self.order}'

  @property
  def file_name(self) -> str:
    """Name of its file of results."""
    return f'{self.strategy}_{self.seed}_{self.order}.json'


def plan(
  strategies: Iterable[str], seeds: Iterable[int], orders: Iterable[int]
) -> tuple[Unit, ...]:
  """Returns all units, in the order in which they are run.

  The first seed and order of every strategy come first, so that a comparison
  that is stopped early still compares.

  Args:
    strategies, seeds, orders: of the comparison, without repetitions.
  """
  seeds, orders, strategies = [*seeds], [*orders], [*strategies]
  places = sorted(
    ((i + j, i, j) for i, _ in enumerate(seeds) for j, _ in enumerate(orders))
  )
  return tuple(
    Unit(strategy, int(seeds[i]), int(orders[j]))
    for _, i, j in places
    for strategy in dict.fromkeys(strategies)
  )


def select(units: Sequence[Unit], chosen: str) -> tuple[Unit, ...]:
  """Returns the units that `--units` names, in the order of the plan.

  Args:
    units: all units of the comparison.
    chosen: names as in 'sleep:0:0,er:0:0'; '' for all.

  Raises:
    ConfigError: a name is not one of the units.
  """
  if not chosen.strip():
    return tuple(units)
  known = {unit.name: unit for unit in units}
  names = [name.strip() for name in chosen.split(',') if name.strip()]
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, known, 1, 0.0)
      raise errors.ConfigError(
        f'--units: {name!r} is not a unit of this comparison: expected '
        f'STRATEGY:SEED:ORDER, such as {near[0]}. Strategies, seeds and orders '
        'are those of config.strategies, config.seeds and config.compare.'
      )
  return tuple(unit for unit in units if unit.name in names)
