"""The logbook of a life: what it did, what it cost, and rows of metrics.

Everything that a record holds and a checkpoint keeps beside the state, so that
a life that goes on writes on where it stopped.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sleep_jax import types
from sleep_jax.dream import dream_records
from sleep_jax.evaluate import cost
from sleep_jax.runs import expert_history, night_records
from sleep_jax.storage import metric_writer

RECORDS = ('evaluations', 'nights', 'ledger', 'samples', 'dreams')


class RunLog:
  """See above.

  Args:
    writer: of metrics.
    decode: tokens -> text.
    num_samples: rehearsals kept of each teacher and night.

  Attributes:
    records: JSON-able rows by name, see `RECORDS`.
    cost: see `evaluate.cost`.
  """

  def __init__(
    self,
    writer: metric_writer.MetricWriter,
    decode: Callable[[Sequence[int]], str],
    *,
    num_samples: int,
  ):
    self.records: dict[str, list] = {name: [] for name in RECORDS}
    self.cost = cost.Cost()
    self._writer, self._decode, self._num = writer, decode, num_samples
    self._rows = 0

  @property
  def number(self) -> int:
    """Of the night under way, from 1."""
    return len(self.records['nights']) + 1

  def record(self) -> dict[str, Any]:
    """All rows, and what was spent."""
    return {**self.records, 'cost': self.cost.totals()}

  def kept(self, night: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a checkpoint keeps.

    Args:
      night: record of a night under way, if there is one.
    """
    rows = {name: list(own) for name, own in self.records.items()}
    if night is not None:
      # Written in the background, while the night goes on.
      rows['nights'].append(copy.deepcopy(night))
    return {'rows': self._rows, 'cost': self.cost.totals(), **rows}

  def go_on(self, kept: Mapping[str, Any]) -> None:
    """Takes up what `kept` gave; rows of metrics written since are dropped."""
    self.records = {name: kept[name] for name in RECORDS}
    self.cost, self._rows = cost.Cost(kept['cost']), kept['rows']
    self._writer.truncate_after(self._rows)

  def take_up(self) -> dict[str, Any]:
    """The record of the night that a checkpoint was saved in."""
    return self.records['nights'].pop()

  @contextlib.contextmanager
  def spent_on(self, night: dict[str, Any]) -> Iterator[None]:
    """Adds the time spent inside to a night and to the life."""
    before = self.cost.totals()
    with self.cost.measure_time():
      yield
    for name, spent in self.cost.times_since(before).items():
      night[name] += spent

  def round(
    self,
    night: dict[str, Any],
    metrics: Mapping[str, Any],
    first: int,
    *,
    step: int,
    tokens: int,
  ) -> tuple[dict[str, float], dict[str, float]]:
    """One round of seeding.

    Args:
      night: its record, written to.
      metrics: see `Seeding.seed`, fetched.
      first: updates before it.
      step: wake steps done.
      tokens: that one update reads.

    Returns:
      Means of the losses, and of what imitation earned (empty without).
    """
    means, earned, written, num = night_records.round_of(metrics)
    self.cost.add(tokens_generated=written, steps=num, tokens_read=num * tokens)
    if first == 0:
      night['divergence_at_0'] = night_records.first_of(metrics)
    night['divergence'].append({'update': first + num, **means})
    if earned:
      night['imitation'].append({'update': first + num, **earned})
    more = {'imitation': earned} if earned else {}
    self.write('seed', update=first + num, step=step, **means, **more)
    return means, earned

  def dreams(
    self, night: dict[str, Any], found: Mapping[str, Any], task: types.Task
  ) -> None:
    """What was dreamt about a task.

    Args:
      night: its record, written to.
      found: the journal of `Curriculum.dream`, fetched.
    """
    night['dreams'] = dream_records.summarize(found)
    self.records['dreams'] += dream_records.rows(
      found, self._decode, task.prompts.context, night=self.number
    )

  def sample(self, pools: Mapping[str, types.Rollout]) -> None:
    """A few rehearsals of the night under way."""
    self.records['samples'] += night_records.samples(
      pools, self._decode, night=self.number, num=self._num
    )

  def night(
    self,
    row: dict[str, Any],
    changes: Sequence[tuple[int | None, str]],
    level: int,
  ) -> None:
    """A night that is over, and what it did to a level's slots."""
    self.records['nights'].append(row)
    self.enter(row, changes, level)
    long = ('divergence', 'imitation')
    self.write('night', **{k: v for k, v in row.items() if k not in long})

  def enter(
    self,
    row: Mapping[str, Any],
    changes: Sequence[tuple[int | None, str]],
    level: int,
  ) -> None:
    """What became of a level's slots, into the ledger."""
    self.records['ledger'] += night_records.entries(row, changes, level)

  def forget(self, level: int, slot: int, *, step: int) -> None:
    """An expert that was switched off by hand, into the ledger."""
    row = {'night': len(self.records['nights']), 'step': step, 'sender': None}
    self.enter(row, [(slot, expert_history.FORGOTTEN)], level)

  def evaluation(self, row: dict[str, Any]) -> None:
    """What was answered; the journal of dreams is written with it."""
    self.records['evaluations'].append(row)
    self.write('evaluation', **row)
    self._writer.write_dreams(self.records['dreams'])

  def write(self, kind: str, **row: Any) -> None:
    """A row of metrics."""
    self._rows += 1
    self._writer.write({'event': self._rows, 'kind': kind, **row})
