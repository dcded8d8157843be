"""Records: what a life writes down of a state, as what JSON can show."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.evaluate import cost
from sleep_jax.model import config as config_lib
from sleep_jax.runtime import processes
from sleep_jax.schedule import events

_APART = ('written', 'imitation')


def new_record(phase: str, collapse: str, **more: Any) -> dict[str, Any]:
  """What is recorded of a night that has just begun.

  Args:
    phase: what it is, see `programs`.
    collapse: why it is over already; '': it is not.
  """
  return {
    'divergence_at_0': {}, 'divergence': [], 'imitation': [], 'phase': phase,
    'collapse': collapse, **dict.fromkeys(cost.TIMES, 0.0), **more,
  }  # fmt: skip


def finish_record(
  event: events.Event,
  number: int,
  night: Mapping[str, Any],
  *,
  reason: str = '',
  guard: Mapping[str, float] | None = None,
  **more: Any,
) -> dict[str, Any]:
  """The record of a night that is over.

  Args:
    night: see `night`, filled.
    reason: why it was discarded; '': it was kept.
    guard: scores 'before' and 'after', if it was asked.
    more: what else there is to say, or to say otherwise.
  """
  return {
    'cycle': event.cycle, 'night': number, 'step': event.step,
    'sender': event.sender, 'receiver': event.sender + 1,
    'accepted': not reason, 'reason': reason, 'guard': guard, **more, **night,
  }  # fmt: skip


def newest_slot(
  nights: Sequence[Mapping[str, Any]], receiver: int
) -> int | None:
  """Slot of the newest expert, if the last night that made one is kept."""
  for row in reversed(nights):
    if row['phase'] == 'consolidate':
      mine = row['accepted'] and row['receiver'] == receiver
      return row['slot'] if mine else None
  return None


def round_of(
  metrics: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, float], int, int]:
  """What a round of seeding found.

  Args:
    metrics: see `Seeding.seed`, fetched.

  Returns:
    Means over its updates, what imitation earned, tokens written, updates.
  """
  found = {name: x for name, x in metrics.items() if name not in _APART}
  means = {name: float(np.mean(x)) for name, x in found.items()}
  earned = {k: float(v) for k, v in metrics.get('imitation', {}).items()}
  return means, earned, int(metrics['written']), len(metrics['loss'])


def first_of(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Divergence from each teacher before a round's first update."""
  return {
    name: float(x[0])
    for name, x in metrics.items()
    if name not in ('loss', *_APART)
  }


def samples(
  pools: Mapping[str, types.Rollout],
  decode: Callable[[Sequence[int]], str],
  *,
  night: int,
  num: int,
) -> list[dict[str, Any]]:
  """A few rehearsals of a night, as text."""
  made = []
  for name, pool in pools.items():
    rows = processes.fetch(jax.tree.map(lambda x: x[:num], pool))
    for tokens, prompt, end in zip(
      rows.tokens_BT, rows.prompt_length_B, rows.length_B, strict=True
    ):
      made.append(
        {
          'night': night,
          'teacher': name,
          'prompt': decode(tokens[:prompt].tolist()),
          'text': decode(tokens[prompt:end].tolist()),
        }
      )
  return made


def entries(
  night: Mapping[str, Any],
  changes: Sequence[tuple[int | None, str]],
  level: int,
) -> list[dict[str, Any]]:
  """Rows of the ledger: what a night did to a level's slots, (slot, what)."""
  return [
    {
      'night': night['night'],
      'step': night['step'],
      'from': night['sender'],
      'level': level,
      'slot': slot,
      'event': what,
    }
    for slot, what in changes
  ]


def sizes(state: state_lib.State, config: config_lib.Model) -> dict[str, int]:
  """Parameters of active experts, and bytes of stored prompts or rows."""
  active_N = np.asarray(state.weights.active_NE).sum(1)
  each = [
    config.layers_of(number) * (2 * config.width * x.rank + config.width + 1)
    for number, x in enumerate(config.levels, 1)
  ]
  kept = (state.replay, state.memory)
  return {
    'added_parameters': int(np.dot(active_N, each)),
    'stored_bytes': sum(x.nbytes for x in jax.tree.leaves(kept)),
  }
