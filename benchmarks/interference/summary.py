"""Summarizes the pairs of all units: correlations with the measured damage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.interference import correlation

# Predictor -> its sign, so that a larger value predicts more damage.
PREDICTORS = {
  'both_orders': 1,
  'second_order': 1,
  'first_order': 1,
  'cosine': -1,
  'jaccard': 1,
  'cosine_shared': -1,
  'sign_conflict_shared': 1,
}
# Predictors whose correlations are compared with that of the global cosine.
COMPARED = ('both_orders', 'second_order')
DAMAGES = ('measured', *COMPARED)  # Increases of the loss.
ALL = 'together'
NOTE = (
  'Pairs of one run are not independent: they share updates and days. With '
  f'{correlation.MIN_SEEDS} seeds or more the bootstrap draws whole seeds, '
  'otherwise pairs, and the intervals are then too narrow. Few seeds give few '
  'different draws. The update of a night that adds an expert is in a slot of '
  'its own: its cosine with that of another such night is 0. All pairs '
  'together also differ by strategy.'
)
_CORRELATIONS = {
  'spearman': correlation.spearman,
  'pearson': correlation.pearson,
}
_LABELS = {
  'both_orders': 'first and second order',
  'second_order': 'second order, 1/2 delta^T H delta',
  'first_order': 'first order, g^T delta',
  'cosine': 'global cosine, negative',
  'jaccard': 'Jaccard overlap of changed channels',
  'cosine_shared': 'cosine on shared channels, negative',
  'sign_conflict_shared': 'sign conflict on shared channels',
}


def rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns all pairs of the results of units, each with its unit.

  'same_domain' says whether both days are of one domain, if their names end in
  one ('day 2, arithmetic'), and is None otherwise.
  """
  return [
    {
      'strategy': unit['strategy'],
      'seed': unit['seed'],
      'same_domain': _same_domain(*(unit['days'][pair[x] - 1] for x in 'ab')),
      **pair,
    }
    for unit in results
    for pair in unit['pairs']
  ]


def _same_domain(one: str, other: str) -> bool | None:
  domains = one.partition(', ')[2], other.partition(', ')[2]
  return domains[0] == domains[1] if all(domains) else None


def summarize(
  pairs: Sequence[Mapping[str, Any]], *, draws: int = 2000
) -> dict[str, Any]:
  """Returns the summary of each strategy, and of all pairs together.

  Args:
    pairs: see `rows`.
    draws: number of draws of each bootstrap.

  Returns:
    By strategy, and as 'together', a dict with 'pairs' and 'seeds', numbers of
    them; 'predictors', name -> 'pairs' (in which it is defined), 'resampled'
    ('seeds' or 'pairs'), 'spearman' and 'pearson', see `correlation.estimate`;
    'minus_cosine', for the names in `COMPARED` the same of the difference to
    the global cosine, over pairs in which both are defined; 'damage', the means
    over pairs of what was measured and what was predicted, in nats per token;
    'damage_same_domain' and 'damage_other_domain', the same of such pairs, None
    without any.
  """
  names = dict.fromkeys(pair['strategy'] for pair in pairs)
  groups = {
    name: [pair for pair in pairs if pair['strategy'] == name] for name in names
  }
  return {
    name: _summarize(group, draws)
    for name, group in {**groups, ALL: list(pairs)}.items()
  }


def _summarize(pairs, draws) -> dict[str, Any]:
  return {
    'pairs': len(pairs), 'seeds': len({pair['seed'] for pair in pairs}),
    'predictors': {name: _estimates(pairs, draws, name) for name in PREDICTORS},
    'minus_cosine': {
      name: _estimates(pairs, draws, name, 'cosine') for name in COMPARED
    },
    'damage': _damage(pairs),
    **{
      f'damage_{label}_domain': _damage(
        [pair for pair in pairs if pair['same_domain'] is same]
      )
      for label, same in (('same', True), ('other', False))
    },
  }  # fmt: skip


def _damage(pairs) -> dict[str, float] | None:
  if not pairs:
    return None
  return {
    name: float(np.mean([pair[name] for pair in pairs])) for name in DAMAGES
  }


def _estimates(pairs, draws, name, less=None) -> dict[str, Any]:
  """Returns both correlations of a predictor, or their differences."""
  used = [name] if less is None else [name, less]
  pairs = [
    pair for pair in pairs if all(pair[other] is not None for other in used)
  ]
  seeds = np.array([pair['seed'] for pair in pairs])
  whole = correlation.draws_seeds(seeds)
  found: dict[str, Any] = {
    'pairs': len(pairs), 'resampled': 'seeds' if whole else 'pairs'
  }  # fmt: skip
  if not pairs:
    return {**found, **dict.fromkeys(_CORRELATIONS)}
  counts = correlation.draw_counts(seeds, draws=draws)
  damage = np.array([pair['measured'] for pair in pairs])
  predictors = [
    PREDICTORS[other] * np.array([pair[other] for pair in pairs], float)
    for other in used
  ]
  for kind, function in _CORRELATIONS.items():
    found[kind] = correlation.estimate(
      function, predictors[0], damage, counts,
      less=None if less is None else predictors[1],
    )  # fmt: skip
  return found


def table(summary: Mapping[str, Any], title: str) -> str:
  """Returns the summary as a page of Markdown.

  Args:
    summary: see `summarize`.
    title: of the page.
  """
  lines = [
    f'# {title}', '',
    'Correlation of each predictor with the measured increase of the loss on '
    'an earlier day, with the 95 % interval of a bootstrap. The sign of a '
    'predictor is chosen so that a larger value predicts more damage.', '',
    NOTE, '',
  ]  # fmt: skip
  for name, group in summary.items():
    lines += [
      f'## {name}', '',
      f'{group["pairs"]} pairs, seeds: {group["seeds"]}. Mean increase of the '
      f'loss, nats per token: {_damages(group["damage"])}.', '',
    ]  # fmt: skip
    for label in ('same', 'other'):
      if found := group[f'damage_{label}_domain']:
        lines += [f'Pairs of {label} domain: {_damages(found)}.', '']
    lines += ['| predictor | pairs | Spearman | Pearson |', '|---|---|---|---|']
    shown = [(_LABELS[p], row) for p, row in group['predictors'].items()]
    shown += [
      (f'{_LABELS[p]}, minus global cosine', row)
      for p, row in group['minus_cosine'].items()
    ]
    lines += [
      f'| {label} | {row["pairs"]} | {_cell(row["spearman"])} | '
      f'{_cell(row["pearson"])} |'
      for label, row in shown
    ]
    lines.append('')
  return '\n'.join(lines)


def _damages(found: Mapping[str, float]) -> str:
  measured, both, second = (found[name] for name in DAMAGES)
  return (
    f'{measured:.4f} measured, {both:.4f} predicted by first and second order, '
    f'{second:.4f} by the second order alone'
  )


def _cell(found: Mapping[str, float] | None) -> str:
  """Returns a correlation and its interval, or a dash if it is undefined."""
  if found is None:
    return '-'
  return f'{found["value"]:.2f} [{found["low"]:.2f}, {found["high"]:.2f}]'
