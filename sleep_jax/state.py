"""Everything that changes, in one tree.

A program takes a state and returns the next one and its metrics; a checkpoint
is this tree and the position in the list of events.
"""

from typing import Any

from flax import struct

from sleep_jax import types

Array = types.Array


class AgeGroup(struct.PyTreeNode):
  """A reservoir of prompts.

  Attributes:
    tokens_CP, length_C, subject_C2: as in `types.Prompts`.
    step_C: wake step at which an entry was met; 0 = birth.
    count: prompts offered so far; min(count, C) entries are valid.
    documents: [C, W], what each prompt began, where a teacher will read it.
  """

  tokens_CP: Array
  length_C: Array
  subject_C2: Array
  step_C: Array
  count: Array
  documents: types.Texts | None = None


class Dreams(struct.PyTreeNode):
  """What a night has dreamt.

  Attributes:
    texts: [B, T], what dreams that were tried would have the model learn from,
      with their documents.
    asked: [A, P], what rewarded dreams were asked; of length 0: no such dream.
    weight_B: 1 where a text is of a rewarded dream, else 0.
    writer: adapter of who wrote them best.
    slot: int32, of the newest expert, which takes all of it in.
  """

  texts: types.Rollout
  asked: types.Prompts
  weight_B: Array
  writer: Any
  slot: Array


class Night(struct.PyTreeNode):
  """One sleep under way: everything that is not yet committed.

  Attributes:
    update: int32, seeding updates done.
    sender_next: the sender's base with the due update applied.
    opt_next: the sender's optimizer state after that update.
    fresh: what is trained, by level: an expert {name: [L, ...]}, or the
      level's own base {path: [L, ...]}.
    opt: its optimizer state.
    pools: per teacher, its rehearsal sequences so far, [M, T].
    rollouts: per teacher, the student's own sequences on its prompts, [M, T].
    priorities: per teacher, how far the student last was from each of its
      sequences, [M].
    pair_2: of a merge, the slots that become one.
    dreams: of a dreaming night, what it has to learn from.
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


class State(struct.PyTreeNode):
  """A learner.

  Attributes:
    step: int32, wake steps done.
    key: typed key; folded with the step, never split in place.
    weights: the running model.
    sums: per owner, the sum of gradients since its last update.
    opt: per owner, its optimizer state.
    anchor: per sleeping level, its base as it woke from its last sleep.
    woke_N: int32, by sender (0 = the context): wake step of its last waking;
      0 = birth.
    guard_N: f32, score of the guard probes at that waking.
    replay: bands of prompts by name ('birth', 'past', 'day/1', ...).
    average: per sleeping level, the running mean of its base, if asked for.
    memory: whole stored rows, for the replay baseline alone.
    tether: what the day is held to: the anchor's rehearsals, if asked for.
    night: the sleep under way, if any.
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
  average: dict[str, types.Params] = struct.field(default_factory=dict)
  memory: Any = None
  kl_penalty: types.Rollout | None = None
  night: Night | None = None
