"""Converts what a night computed to JSON-able records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.evaluate import cost, flops
from sleep_jax.model import config as config_lib
from sleep_jax.model import prefix
from sleep_jax.runtime import processes
from sleep_jax.schedule import events

_NOT_DIVERGENCES = ('written', 'forward', 'imitation', 'held_out')


def new_record(phase: str, collapse: str, **more: Any) -> dict[str, Any]:
  """Returns the record of a night that starts.

  Args:
    phase: kind of night, see `programs`.
    collapse: reason why it ends at once; '' if it does not.
    **more: further fields.
  """
  return {
    'divergence_at_0': {}, 'divergence': [], 'imitation': [], 'held_out': [],
    'phase': phase,
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
  """Returns the record of a finished night.

  Args:
    event: the night in the schedule.
    number: its number, from 1.
    night: see `new_record`, filled during the night.
    reason: why it was discarded; '' if it was kept.
    guard: scores of the guard 'before' and 'after', if it is on.
    **more: further fields; they replace those of the event.
  """
  return {
    'cycle': event.cycle, 'night': number, 'step': event.step,
    'experience': event.experience,
    'sender': event.sender, 'receiver': event.sender + 1,
    'accepted': not reason, 'reason': reason, 'guard': guard, **more, **night,
  }  # fmt: skip


def newest_slot(
  nights: Sequence[Mapping[str, Any]], receiver: int
) -> int | None:
  """Returns the slot of the newest expert, if the last such night was kept."""
  for row in reversed(nights):
    if row['phase'] == 'consolidate':
      mine = row['accepted'] and row['receiver'] == receiver
      return row['slot'] if mine else None
  return None


def describe_questions(record: Mapping[str, Any]) -> str:
  """Returns a sentence about the questions of an evening."""
  text = (
    f'{record["questions"]} questions about {record["asked_sentences"]} of '
    f'{record["sentences"]} sentences'
  )
  if record['templates']:
    text += f', {record["templates"]} from templates'
  for field, why in (('too_long', 'too long'), ('no_room', 'without room')):
    if record[field]:
      text += f'; {record[field]} prompts left out, {why}'
  return text


def summarize_round(
  metrics: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
  """Summarizes one round of a night.

  Args:
    metrics: see `Seeding.seed`, fetched.

  Returns:
    Mean divergences over its updates, imitation rewards, and costs, see
    `cost.COUNTS`, without `tokens_read`.
  """
  found = {
    name: x for name, x in metrics.items() if name not in _NOT_DIVERGENCES
  }
  means = {name: float(np.mean(x)) for name, x in found.items()}
  rewards = {k: float(v) for k, v in metrics.get('imitation', {}).items()}
  costs = {
    'tokens_generated': int(metrics['written']),
    'tokens_forward': int(metrics['forward']), 'steps': len(metrics['loss']),
  }  # fmt: skip
  return means, rewards, costs


def divergences(metrics: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns the divergence from each teacher before each update of a round."""
  return {
    name: x
    for name, x in metrics.items()
    if name not in ('loss', *_NOT_DIVERGENCES)
  }


def first_divergences(metrics: Mapping[str, Any]) -> dict[str, float]:
  """Returns the divergence from each teacher before the first update."""
  return {name: float(x[0]) for name, x in divergences(metrics).items()}


def samples(
  pools: Mapping[str, types.Rollout],
  decode: Callable[[Sequence[int]], str],
  *,
  night: int,
  num: int,
) -> list[dict[str, Any]]:
  """Returns the first `num` rehearsals of each teacher, as text."""
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


def history_rows(
  night: Mapping[str, Any],
  changes: Sequence[tuple[int | None, str]],
  level: int,
) -> list[dict[str, Any]]:
  """Returns rows of the expert history.

  Args:
    night: record of the night.
    changes: (slot, event) of each slot that the night changed; slot None is the
      level's base.
    level: of the slots.
  """
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


def sizes(
  state: state_lib.State,
  config: config_lib.Model,
  length: int,
  *,
  sleeps: bool,
) -> dict[str, int]:
  """Returns parameters of active experts, stored bytes and FLOPs of a token.

  Args:
    state: of the run.
    config: of its model.
    length: tokens of a row.
    sleeps: whether nights add experts. If not, their empty slots are never
      computed, and are not counted.
  """
  active_N = np.asarray(state.weights.active_NE).sum(1)
  each = [
    config.num_layers_of(number)
    * ((2 + config.gated_experts) * config.width * x.rank + config.width + 1)
    for number, x in enumerate(config.levels, 1)
  ]
  before = (state.weights.adapter or {}).get(prefix.PATH)
  kept = (
    state.replay, state.row_buffer, state.strategy, before, state.anchor,
    state.kl_penalty, state.second_kl_penalty,
  )  # fmt: skip
  computed = {
    path: array for path, array in state.weights.params.items()
    if sleeps or 'experts' not in path.split('/')
  }  # fmt: skip
  return {
    'added_parameters': int(np.dot(active_N, each)),
    'stored_bytes': sum(x.nbytes for x in jax.tree.leaves(kept)),
    flops.PER_TOKEN: flops.forward_per_token(
      computed,
      length=length,
      num_layers=config.num_layers,
      heads_size=config.num_heads * config.head_size,
    ),
  }
