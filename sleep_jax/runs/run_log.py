"""Everything a run records besides its state: evaluations, nights, cost.

A checkpoint keeps these records beside the state, so a run that continues
appends to them where it stopped.
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
  """Records of one run.

  Attributes:
    records: JSON-able rows by name, see `RECORDS`. 'ledger' is the expert
      history.
    cost: totals of tokens, steps and time.
  """

  def __init__(
    self,
    writer: metric_writer.MetricWriter,
    decode: Callable[[Sequence[int]], str],
    *,
    num_samples: int,
  ):
    """Starts an empty log.

    Args:
      writer: writes rows of metrics.
      decode: converts tokens to text.
      num_samples: rehearsals of each teacher and night that are recorded.
    """
    self.records: dict[str, list] = {name: [] for name in RECORDS}
    self.cost = cost.Cost()
    self._writer, self._decode = writer, decode
    self._num_samples, self._num_rows = num_samples, 0

  @property
  def number(self) -> int:
    """Number of the night under way, from 1."""
    return len(self.records['nights']) + 1

  def record(self) -> dict[str, Any]:
    """Returns all rows and the cost."""
    return {**self.records, 'cost': self.cost.totals()}

  def to_save(self, night: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns what a checkpoint keeps.

    Args:
      night: record of the night under way, if there is one.
    """
    rows = {name: list(own) for name, own in self.records.items()}
    if night is not None:
      # A copy: it is written in the background while the night goes on.
      rows['nights'].append(copy.deepcopy(night))
    return {'rows': self._num_rows, 'cost': self.cost.totals(), **rows}

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Continues from `to_save`; drops metrics that were written after it."""
    self.records = {name: saved[name] for name in RECORDS}
    self.cost, self._num_rows = cost.Cost(saved['cost']), saved['rows']
    self._writer.truncate_after(self._num_rows)

  def resume_night(self) -> dict[str, Any]:
    """Removes and returns the record of the night that was interrupted."""
    return self.records['nights'].pop()

  @contextlib.contextmanager
  def add_time(self, night: dict[str, Any]) -> Iterator[None]:
    """Adds the time spent inside to a night's record and to the cost."""
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
    """Records one round of a night.

    Args:
      night: its record, updated in place.
      metrics: see `Seeding.seed`, fetched.
      first: updates before this round.
      step: wake steps done.
      tokens: tokens that one update reads.

    Returns:
      Means of the losses, and means of the imitation rewards (empty if there is
      no imitation).
    """
    means, rewards, costs = night_records.summarize_round(metrics)
    num = costs['steps']
    self.cost.add(**costs, tokens_read=num * tokens)
    if first == 0:
      night['divergence_at_0'] = night_records.first_divergences(metrics)
    night['divergence'].append({'update': first + num, **means})
    if 'held_out' in metrics:
      value = float(metrics['held_out'])
      night['held_out'].append({'update': first, 'divergence': value})
    if rewards:
      night['imitation'].append({'update': first + num, **rewards})
    more = {'imitation': rewards} if rewards else {}
    self.write('night_round', update=first + num, step=step, **means, **more)
    return means, rewards

  def dreams(
    self, night: dict[str, Any], found: Mapping[str, Any], task: types.Task
  ) -> None:
    """Records the dreams about a task.

    Args:
      night: its record, updated in place.
      found: what `DreamRounds.dream` returns, fetched.
      task: what the dreams are about.
    """
    night['dreams'] = dream_records.summarize(found)
    self.records['dreams'] += dream_records.rows(
      found, self._decode, task.prompts.context, night=self.number
    )

  def sample(self, pools: Mapping[str, types.Rollout]) -> None:
    """Records a few rehearsals of the night under way."""
    self.records['samples'] += night_records.samples(
      pools, self._decode, night=self.number, num=self._num_samples
    )

  def questions(self, samples: Sequence[Mapping[str, str]]) -> None:
    """Records a few questions of the evening under way, with their answers."""
    self.records['samples'] += [
      {
        'night': self.number,
        'teacher': 'question',
        'prompt': one['text'],
        'text': f'{one["question"]} {one["answer"]}'.strip(),
      }
      for one in samples[: self._num_samples]
    ]

  def night(
    self,
    row: dict[str, Any],
    changes: Sequence[tuple[int | None, str]],
    level: int,
  ) -> None:
    """Records a finished night, and what it did to a level's slots."""
    self.records['nights'].append(row)
    self.add_history(row, changes, level)
    long = ('divergence', 'imitation')
    self.write('night', **{k: v for k, v in row.items() if k not in long})

  def add_history(
    self,
    row: Mapping[str, Any],
    changes: Sequence[tuple[int | None, str]],
    level: int,
  ) -> None:
    """Records in the expert history what a night did to a level's slots."""
    self.records['ledger'] += night_records.history_rows(row, changes, level)

  def forget(self, level: int, slot: int, *, step: int) -> None:
    """Records that an expert was switched off by hand."""
    row = {'night': len(self.records['nights']), 'step': step, 'sender': None}
    self.add_history(row, [(slot, expert_history.FORGOTTEN)], level)

  def drop_texts(self, night: int) -> None:
    """Drops the texts of a night and of later ones, which may repeat them."""
    for name in ('samples', 'dreams'):
      kept = [row for row in self.records[name] if row['night'] < night]
      self.records[name] = kept
    self._writer.write_dreams(self.records['dreams'])

  def evaluation(self, row: dict[str, Any]) -> None:
    """Records an evaluation; the dreams so far are written with it."""
    self.records['evaluations'].append(row)
    self.write('evaluation', **row)
    self._writer.write_dreams(self.records['dreams'])

  def write(self, kind: str, **row: Any) -> None:
    """Writes one row of metrics."""
    self._num_rows += 1
    self._writer.write({'event': self._num_rows, 'kind': kind, **row})
