"""Says in sentences where `sleep` does not win, and then where it does.

A comparison is read for what it claims, so the losses come first and are found
by rule: every metric in which another strategy has the better mean is named,
also where the difference may be chance.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence

from sleep_jax.evaluate import budgets, cycles
from sleep_jax.report import compared_runs, figures, tables, text_format

_SLEEP = compared_runs.SLEEP
_AT_BUDGET = tables.Metric('acc', 'accuracy on the whole stream', '')
_TOKENS = tables.Metric('tokens', 'tokens', '', better=-1)
METRICS = (
  tables.FINAL, tables.PRIOR_AFTER, tables.LEARNING, tables.BACKWARD,
  tables.FORGETTING, tables.FORWARD, tables.HARM, _TOKENS, tables.MINUTES,
)  # fmt: skip
SHARES = (0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Statements:
  """Sentences, in the order of the page.

  Attributes:
    losses: where `sleep` does not win.
    wins: where it does, or where no one is better.
    limits: what these sentences cannot say.
  """

  losses: Sequence[str]
  wins: Sequence[str]
  limits: Sequence[str]


def make(
  groups: figures.Groups,
  at: Mapping[tuple[str, float], figures.Groups],
  mixed: Sequence[int] = (),
  ends: Mapping[str, float] = types.MappingProxyType({}),
) -> Statements:
  """Returns the sentences of a comparison.

  Args:
    groups: see `compared_runs.by_seed`.
    at: (budget, share) -> rows at that share of what `sleep` spends.
    mixed: seeds whose units read different texts.
    ends: strategy -> its learning rate, where that is at an end of those tried.
  """
  finished = [
    row for row in groups.get(_SLEEP, []) if row['status'] == 'finished'
  ]
  if not finished:
    return Statements(
      ['`sleep` has no finished seed: nothing can be said about it.'], [], []
    )
  losses: list[str] = []
  wins: list[str] = []
  for metric in METRICS:
    found = _compare(groups, metric)
    if found is None:
      continue
    sentence, is_loss = found
    (losses if is_loss else wins).append(sentence)
  for (budget, share), rows in at.items():
    found = _compare(rows, _AT_BUDGET)
    if found is not None and found[1]:
      losses.append(
        f'At {100 * share:.0f} % of the {budget} that `sleep` spends: '
        f'{found[0]}'
      )
  if not losses and wins:
    losses = ['No other strategy has a better mean in any metric below.']
  if not losses:
    losses = ['No other strategy has a finished seed that `sleep` has too.']
  limits = _limits(groups, len(finished))
  if mixed:
    limits.append(
      f'Units of seed {", ".join(map(str, mixed))} read different texts '
      '(column "data" of the units): their numbers do not compare.'
    )
  if ends:
    named = ', '.join(f'{name} {rate:g}' for name, rate in ends.items())
    limits.append(
      f'The chosen learning rate is the lowest or highest that was tried: '
      f'{named}. A rate beyond it may be better.'
    )
  return Statements(losses, wins, limits)


def _compare(
  groups: figures.Groups, metric: tables.Metric
) -> tuple[str, bool] | None:
  """Returns a sentence about a metric, and whether `sleep` does not win."""
  mean, _ = cycles.mean_and_interval(
    tables.values(groups.get(_SLEEP, []), metric.key)
  )
  others = {
    name: compared_runs.paired(groups, name, metric.key, metric.better)
    for name in groups
    if name != _SLEEP and not compared_runs.is_bound(name)
  }
  known = {name: found for name, found in others.items() if found}
  if mean is None or not known:
    return None
  ours = f'{metric.name}: `sleep` {_show(metric, mean)}'
  better = {n: d for n, d in known.items() if round(d.mean, 4) > 0}
  if not better:
    return f'{ours}; no other strategy is better ({", ".join(known)}).', False
  order = sorted(better, key=lambda n: (-_is_clear(better[n]), -better[n].mean))
  parts = [
    f'{name} {_show(metric, better[name].value)} '
    f'({_describe(metric, better[name])})'
    for name in order
  ]
  return f'{ours}; better: {"; ".join(parts)}.', True


def _is_clear(difference: compared_runs.Difference) -> bool:
  """Whether the 95 % interval of a difference is above 0."""
  half = difference.half
  return half is not None and difference.mean - half > 0


def _describe(
  metric: tables.Metric, difference: compared_runs.Difference
) -> str:
  text = f'by {_show(metric, difference.mean)}'
  if difference.half is None:
    text += ', one seed'
  else:
    clear = 'clear' if _is_clear(difference) else 'may be chance'
    text += f' ± {_show(metric, difference.half)}, {clear}'
  if difference.whole:
    return text
  seeds = ', '.join(map(str, difference.seeds))
  return (
    f'{text}; on what both have of seed {seeds}, where `sleep` has '
    f'{_show(metric, difference.own)}'
  )


def _limits(groups: figures.Groups, num_seeds: int) -> list[str]:
  found = []
  if num_seeds < 3:
    found.append(
      f'`sleep` has {num_seeds} finished seed{"s" * (num_seeds > 1)}: a claim '
      'needs 3.'
    )
  bounds = [name for name in groups if compared_runs.is_bound(name)]
  if bounds:
    found.append(
      f'{" and ".join(bounds)}: learned from everything at once, an upper '
      'bound that these sentences leave out.'
    )
  return found


def _show(metric: tables.Metric, value: float) -> str:
  if metric.key == budgets.TOKENS:
    return text_format.quantity(value)
  if metric.key == budgets.SECONDS:
    return text_format.duration(value)
  return text_format.signed(value, 3)
