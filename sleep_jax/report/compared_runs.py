"""Groups the results of units into the rows of a comparison.

A seed decides the initial model, the data and the draws, so units of one seed
with several orders are not independent. A number of a seed is its mean over
orders, and intervals are over seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sleep_jax.evaluate import budgets, cycles
from sleep_jax.report import figures, html

SLEEP = 'sleep'
_BOUND = 'joint'  # Strategies that read everything at once, by prefix.
Result = Mapping[str, Any]  # As a file of results has it.


def is_bound(name: str) -> bool:
  """Whether a strategy is an upper bound and no way of learning day by day."""
  return name.startswith(_BOUND)


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
  trained on and generated.

  Args:
    results: of units.
  """
  failed = {
    (r['unit']['strategy'], r['unit']['seed'])
    for r in results
    if r['status'] == 'failed'
  }
  cells: dict[tuple[str, int], list[figures.Run]] = {}
  unit_of: dict[str, str] = {}
  for result in results:
    for run in result['runs']:
      key = run['strategy'], result['unit']['seed']
      cells.setdefault(key, []).append(run)
      unit_of[run['strategy']] = result['unit']['strategy']
  # A unit may be of several runs, such as joint_wake and joint_night.
  rows: figures.Groups = {}
  for (name, seed), members in cells.items():
    status = 'failed' if (unit_of[name], seed) in failed else 'finished'
    rows.setdefault(name, []).append(
      {
        'strategy': name, 'seed': seed, 'status': status,
        'summary': _mean_summary(members),
        'evaluations': members[0]['evaluations'],
      }
    )  # fmt: skip
  for strategy, seed in sorted(failed):
    own = [name for name, unit in unit_of.items() if unit == strategy]
    for name in own or [strategy]:
      if (name, seed) not in cells:
        rows.setdefault(name, []).append(
          {'strategy': name, 'seed': seed, 'status': 'failed', 'summary': {},
           'evaluations': []}
        )  # fmt: skip
  return _sorted(rows)


def paired(
  groups: figures.Groups, other: str, key: str, sign: int
) -> tuple[float, float | None] | None:
  """Returns how much better another strategy is than `sleep`, seed by seed.

  Args:
    groups: see `by_seed`.
    other: the other strategy.
    key: of the summary.
    sign: 1 if higher is better, -1 if lower is.

  Returns:
    (mean difference, half its 95 % interval, None for one seed); None without
    a seed that both finished.
  """
  ours, theirs = _values(groups, SLEEP, key), _values(groups, other, key)
  common = sorted(ours.keys() & theirs.keys())
  mean, half = cycles.mean_and_interval(
    sign * (theirs[seed] - ours[seed]) for seed in common
  )
  return None if mean is None else (mean, half)


def at_share(
  results: Iterable[Result], budget: str, share: float
) -> figures.Groups:
  """Returns rows as `by_seed`, read at a share of what `sleep` spends.

  Args:
    results: of units.
    budget: 'tokens' or 'seconds'.
    share: of the most that a run of `sleep` spends in all.
  """
  groups = runs(results)
  totals = [budgets.spent(run['cost'], budget) for run in groups.get(SLEEP, [])]
  known = [total for total in totals if total]
  rows: figures.Groups = {}
  if not known:
    return rows
  limit = share * max(known)
  for name, members in groups.items():
    read: dict[int, list[figures.Run]] = {}
    for run in members:
      found = budgets.at(run['evaluations'], budget, limit)
      if found is not None:
        read.setdefault(run['seed'], []).append({'summary': found})
    rows[name] = [
      {'strategy': name, 'seed': seed, 'status': 'finished',
       'summary': _mean_summary(same)}
      for seed, same in sorted(read.items())
    ]  # fmt: skip
  return rows


def seeds_of_several_data(results: Iterable[Result]) -> list[int]:
  """Returns the seeds whose units did not read the same texts."""
  digests: dict[int, set[str]] = {}
  for result in results:
    if result['status'] == 'finished':
      digests.setdefault(result['unit']['seed'], set()).add(result['data'])
  return sorted(seed for seed, found in digests.items() if len(found) > 1)


def _values(groups: figures.Groups, name: str, key: str) -> dict[int, float]:
  return {
    row['seed']: row['summary'][key]
    for row in groups.get(name, [])
    if row['status'] == 'finished' and row['summary'].get(key) is not None
  }


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
