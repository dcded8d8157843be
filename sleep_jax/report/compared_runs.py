"""Groups the results of units into the rows of a comparison.

A seed decides the initial model, the data and the draws, so units of one seed
with several orders are not independent. A number of a seed is its mean over
orders, and intervals are over seeds. Two strategies are compared on the seeds
and orders that both have.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sleep_jax.evaluate import budgets, cycles
from sleep_jax.report import figures, html

SLEEP = 'sleep'
_BOUND = 'joint'  # Strategies that read everything at once, by prefix.
Result = Mapping[str, Any]  # As a file of results has it.


def is_bound(name: str) -> bool:
  """Whether a strategy is an upper bound and no way of learning day by day."""
  return name.startswith(_BOUND)


@dataclasses.dataclass(frozen=True)
class Difference:
  """How much better a strategy is than `sleep`, on what both finished.

  Attributes:
    mean: over seeds.
    half: half the 95 % interval of `mean`; None for one seed.
    value: mean of the other strategy.
    own: mean of `sleep`.
    seeds: over which the means are taken.
    whole: whether these are all seeds and orders that `sleep` finished.
  """

  mean: float
  half: float | None
  value: float
  own: float
  seeds: tuple[int, ...]
  whole: bool


def with_comparable_times(results: Iterable[Result]) -> list[Result]:
  """Returns results in which 'seconds' do not depend on other processes.

  A unit on a CPU has one core, which other processes may use as well. Its
  seconds are replaced by its CPU-seconds. Those on an accelerator stay.

  Args:
    results: of units; without 'backend', as in earlier versions, of a CPU.
  """

  def by_cpu(cost: Mapping[str, Any]) -> dict[str, Any]:
    known = 'cpu_seconds' in cost
    return {**cost, 'seconds': cost['cpu_seconds']} if known else {**cost}

  def changed(run: figures.Run) -> figures.Run:
    rows = [
      {**row, 'cost': by_cpu(row['cost'])} if row.get('cost') else row
      for row in run['evaluations']
    ]
    found = {**run, 'evaluations': rows}
    return found | {
      name: by_cpu(run[name] or {}) for name in ('summary', 'cost')
    }

  return [
    {**result, 'runs': [changed(run) for run in result['runs']]}
    if result.get('backend', 'cpu') == 'cpu' else result
    for result in results
  ]  # fmt: skip


def runs(results: Iterable[Result]) -> figures.Groups:
  """Returns the runs of all finished units by strategy.

  Args:
    results: of units.
  """
  found: figures.Groups = {}
  for result in results:
    for run in result['runs']:
      found.setdefault(run['strategy'], []).append(
        {**run, 'order': result['unit']['order'], 'nights': [], 'ledger': []}
      )
  return _sorted(found)


def by_seed(results: Sequence[Result]) -> figures.Groups:
  """Returns one row per strategy and seed: means over the orders.

  A seed of which a unit failed has the status 'failed', and its numbers do not
  count beside those of finished seeds. 'summary' also has 'tokens', those
  trained on, generated and read in forward passes; 'orders' has the summary of
  each order.

  Args:
    results: of units.
  """
  rows: figures.Groups = {}
  for name, members in runs(results).items():
    rows[name] = _rows(name, members, lambda run: run['summary'])
  return _with_failures(rows, results)


def paired(
  groups: figures.Groups, other: str, key: str, sign: int
) -> Difference | None:
  """Compares a strategy with `sleep`, seed by seed and order by order.

  Args:
    groups: see `by_seed`.
    other: the other strategy.
    key: of the summary.
    sign: 1 if higher is better, -1 if lower is.

  Returns:
    How much better it is; None without a seed and order that both finished.
  """
  ours, theirs = _values(groups, SLEEP, key), _values(groups, other, key)
  pairs: dict[int, tuple[float, float]] = {}
  for seed in sorted(ours.keys() & theirs.keys()):
    orders = ours[seed].keys() & theirs[seed].keys()
    if orders:
      over = lambda values, o=orders: sum(values[n] for n in o) / len(o)
      pairs[seed] = over(ours[seed]), over(theirs[seed])
  if not pairs:
    return None
  own, value = (
    sum(numbers) / len(pairs) for numbers in zip(*pairs.values(), strict=True)
  )
  mean, half = cycles.mean_and_interval(
    sign * (y - x) for x, y in pairs.values()
  )
  whole = all(
    seed in pairs and orders.keys() <= theirs[seed].keys()
    for seed, orders in ours.items()
  )
  return Difference(mean, half, value, own, tuple(pairs), whole)


def at_share(
  results: Sequence[Result], budget: str, share: float
) -> figures.Groups:
  """Returns rows as `by_seed`, read at a share of what `sleep` spends.

  Args:
    results: of units.
    budget: 'tokens' or 'seconds'.
    share: of what `sleep` spends in all with the same seed and order, or, where
      it has no such run, of the mean of its runs.
  """
  groups = runs(results)
  totals = {
    (run['seed'], run['order']): total
    for run in groups.get(SLEEP, [])
    if (total := budgets.spent(run['cost'], budget))
  }
  rows: figures.Groups = {}
  if not totals:
    return rows
  mean = sum(totals.values()) / len(totals)

  def read(run: figures.Run) -> Mapping[str, Any] | None:
    limit = share * totals.get((run['seed'], run['order']), mean)
    return budgets.at(run['evaluations'], budget, limit)

  for name, members in groups.items():
    rows[name] = _rows(name, members, read)
  return _with_failures(rows, results)


def rates_at_an_end(results: Iterable[Result]) -> dict[str, float]:
  """Returns strategies whose chosen rate is the lowest or highest of several.

  A better rate may be outside of what was tried.
  """
  found: dict[str, float] = {}
  for result in results:
    tried = result['config']['tune']['learning_rates']
    for run in result['runs']:
      rate = run['summary'].get('learning_rate')
      if len(tried) > 1 and rate in (min(tried), max(tried)):
        found[run['strategy']] = rate
  return found


def seeds_of_several_data(results: Iterable[Result]) -> list[int]:
  """Returns the seeds whose units did not read the same texts."""
  digests: dict[int, set[str]] = {}
  for result in results:
    if result['status'] == 'finished':
      digests.setdefault(result['unit']['seed'], set()).add(result['data'])
  return sorted(seed for seed, found in digests.items() if len(found) > 1)


def _rows(
  name: str,
  members: Iterable[figures.Run],
  read: Callable[[figures.Run], Mapping[str, Any] | None],
) -> list[figures.Run]:
  """Returns one row per seed of the numbers that `read` finds in each run."""
  by_seed: dict[int, dict[int, Any]] = {}
  evaluations: dict[int, Any] = {}
  for run in members:
    found = read(run)
    if found is not None:
      by_seed.setdefault(run['seed'], {})[run['order']] = {'summary': found}
      evaluations.setdefault(run['seed'], run['evaluations'])
  return [
    {
      'strategy': name, 'seed': seed, 'status': 'finished',
      'summary': _mean_summary([*orders.values()]),
      'orders': {n: _mean_summary([run]) for n, run in orders.items()},
      'evaluations': evaluations[seed],
    }
    for seed, orders in sorted(by_seed.items())
  ]  # fmt: skip


def _with_failures(
  rows: figures.Groups, results: Iterable[Result]
) -> figures.Groups:
  """Marks the seeds of which a unit failed, and adds those without a run."""
  failed = set()
  names: dict[str, set[str]] = {}  # A unit of `joint` has two runs.
  for result in results:
    unit = result['unit']
    if result['status'] == 'failed':
      failed.add((unit['strategy'], unit['seed']))
    names.setdefault(unit['strategy'], set()).update(
      run['strategy'] for run in result['runs']
    )
  for strategy, seed in sorted(failed):
    for name in names[strategy] or {strategy}:
      empty = {
        'strategy': name, 'seed': seed, 'summary': {}, 'orders': {},
        'evaluations': [],
      }  # fmt: skip
      own = rows.setdefault(name, [])
      if seed not in {row['seed'] for row in own}:
        own.append(empty)
      for row in own:
        if row['seed'] == seed:
          row['status'] = 'failed'
  return _sorted(rows)


def _values(
  groups: figures.Groups, name: str, key: str
) -> dict[int, dict[int, float]]:
  """Returns seed -> order -> value of the finished seeds."""
  found = {
    row['seed']: {
      order: summary[key]
      for order, summary in row['orders'].items()
      if summary.get(key) is not None
    }
    for row in groups.get(name, [])
    if row['status'] == 'finished'
  }
  return {seed: orders for seed, orders in found.items() if orders}


def _mean_summary(members: Sequence[figures.Run]) -> dict[str, float | None]:
  """Returns the mean of each number over runs."""
  summaries = []
  for run in members:
    summary = dict(run['summary'])
    tokens = budgets.spent(summary, budgets.TOKENS)
    summaries.append(
      summary if tokens is None else summary | {'tokens': tokens}
    )
  keys = dict.fromkeys(key for summary in summaries for key in summary)
  return {
    key: cycles.mean_known([summary.get(key) for summary in summaries])
    for key in keys
  }


def _sorted(groups: figures.Groups) -> figures.Groups:
  """Returns strategies in the order of reports, seeds ascending."""
  known = [name for name in html.STRATEGIES if name in groups]
  names = [*known, *sorted(set(groups) - set(known))]
  order = lambda run: (run['seed'], run.get('order', 0))
  return {name: sorted(groups[name], key=order) for name in names}
