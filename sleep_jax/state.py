"""The state of a run: one tree with every array that changes.

A program takes a state and returns the next state and its metrics. A checkpoint
is this tree and the position in the list of events.
"""

import dataclasses
from typing import Any

from flax import struct

from sleep_jax import types

Array = types.Array


class AgeGroup(struct.PyTreeNode):
  """A reservoir of prompts.

  Attributes:
    tokens_CP, length_C, subject_C2: as in `types.Prompts`.
    step_C: wake step at which an entry was stored. 0 means pretraining.
    count: number of prompts offered so far. min(count, C) entries are valid.
    documents: [C, W], the document that each prompt comes from, or None if no
      teacher reads documents.
    answers: [C, A], what follows each prompt in its text, or None if answers
      are not stored.
    states_CGD: inputs of the initial model's head, of the texts that it wrote,
      else None. They predict the tokens from the start of the subject on.
  """

  tokens_CP: Array
  length_C: Array
  subject_C2: Array
  step_C: Array
  count: Array
  documents: types.Texts | None = None
  answers: types.Texts | None = None
  states_CGD: Array | None = None


class Dreams(struct.PyTreeNode):
  """Dreams of one night and the writer that was trained on them.

  Attributes:
    texts: [B, T], texts of the dreams that were tried, as training sequences
      with their documents.
    asked: [A, P], prompts of the rewarded dreams. An entry of length 0 is
      absent.
    weight_B: 1 where a text belongs to a rewarded dream, else 0.
    writer: adapter of the best writer.
    slot: int32, slot of the newest expert, which is trained on the dreams.
  """

  texts: types.Rollout
  asked: types.Prompts
  weight_B: Array
  writer: Any
  slot: Array


class NightLength(struct.PyTreeNode):
  """How long an adaptive night goes on, see `sleep.night_length`.

  Attributes:
    held_out: f32, running mean of the divergence on new rehearsals.
    best: f32, its smallest value so far that was an improvement.
    stale: int32, rounds since then.
    decay_from: int32, update from which the learning rate falls; -1: not yet.
    end: int32, number of updates of the night; the largest one until then.
  """

  held_out: Array
  best: Array
  stale: Array
  decay_from: Array
  end: Array


class Night(struct.PyTreeNode):
  """A night in progress: arrays that are not committed yet.

  Attributes:
    update: int32, number of seeding updates done.
    sender_next: base of the sender with the due update applied.
    opt_next: optimizer state of the sender after that update.
    fresh: trained parameters by level: an expert {name: [L, ...]}, or the base
      of the level {path: [L, ...]}.
    opt: optimizer state of `fresh`.
    pools: per teacher, its rehearsal sequences so far, [M, T].
    rollouts: per teacher, sequences of the student on its prompts, [M, T];
      empty if the student never writes.
    priorities: per teacher, the last measured divergence of the student on
      each of its sequences, [M].
    pair_2: for a merge, the two slots that are merged.
    dreams: for a night of dreams, the dreams that it learns from.
    length: of an adaptive night, else None.
  """

  update: Array
  sender_next: types.Params
  opt_next: Any
  fresh: dict[str, types.Params]
  opt: Any
  pools: dict[str, types.Rollout]
  rollouts: dict[str, types.Rollout]
  priorities: dict[str, Array]
  pair_2: Array | None = None
  dreams: Dreams | None = None
  length: NightLength | None = None


class State(struct.PyTreeNode):
  """State of a run.

  Attributes:
    step: int32, number of wake steps done.
    key: typed key. Programs fold it with the step and never replace it.
    weights: weights of the running model.
    sums: per owner, the sum of gradients since its last update.
    opt: per owner, its optimizer state.
    anchor: per sleeping level, its base right after its last sleep.
    woke_N: int32, by sender (0 = the context window), value of `step` when its
      last accepted night ended; 0 before its first one.
    guard_N: f32, by sender, score of the guard at that waking: accuracy on its
      probes, or for a base model log-likelihood of own texts, nats per token.
    replay: age groups of prompts by name, see `replay.buffer`.
    row_buffer: stored rows of the replay baseline (`replay.row_buffer`), else
      None.
    kl_penalty, second_kl_penalty: rehearsals for the KL penalties awake, or
      None.
    strategy: arrays of the strategy's own, see `strategies.method`.
    night: the night in progress, or None.
  """

  step: Array
  key: Array
  weights: types.Weights
  sums: dict[str, types.Params]
  opt: dict[str, Any]
  anchor: dict[str, types.Params]
  woke_N: Array
  guard_N: Array
  replay: dict[str, AgeGroup]
  row_buffer: Any = None
  kl_penalty: types.Rollout | None = None
  second_kl_penalty: types.Rollout | None = None
  strategy: dict[str, Any] = struct.field(default_factory=dict)
  night: Night | None = None


@dataclasses.dataclass(frozen=True)
class InitialModel:
  """The result of pretraining, shared by all strategies of a seed.

  Attributes:
    weights: of the pretrained model.
    replay: age groups of prompts that pretraining stored.
    is_spare: whether its arrays may become those of the first run that begins
      with it, instead of being copied. They are deleted then.
  """

  weights: types.Weights
  replay: dict[str, AgeGroup]
  is_spare: bool = False
