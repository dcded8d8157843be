"""How a night is spent: who teaches, on which prompts, how much of what.

References: 2606.03979 v2 section 3.3; docs/method.md, "Whose knowledge".
"""

import dataclasses

TEACHERS = ('anchor', 'next', 'now', 'average', 'context')
PROMPTS = ('old', 'day')
CLEARED, UPDATED = 'cleared', 'updated'
EXPERT, BASE = 'expert', 'base'
ERROR, MERGE = 'error', 'merge'


@dataclasses.dataclass(frozen=True)
class Teacher:
  """Whose sequences are rehearsed, and on which prompts.

  Attributes:
    teacher: 'anchor' (the sender as it woke), 'next' (after the due update),
      'now' (before it; the literal teacher of v2), 'average' (the running mean
      of the sender over its day) or 'context' (as 'now', but with the document
      in its prompt, which the student has not).
    prompts: 'old' (from before the sender's day) or 'day'.
    sequences: rows per update that this teacher owns.
    draws: sequences it writes per round.
    bos_share, pretrain_share, splice_share, cut_share, template_share: of its
      prompts, see `replay.draw`.
  """

  teacher: str
  prompts: str
  sequences: int
  draws: int
  bos_share: float = 0.0
  pretrain_share: float = -1.0
  splice_share: float = 0.0
  cut_share: float = 0.0
  template_share: float = 0.0

  @property
  def name(self) -> str:
    return f'{self.teacher}_{self.prompts}'

  @property
  def reads(self) -> bool:
    """Whether it has the document in its prompt."""
    return self.teacher == 'context'


@dataclasses.dataclass(frozen=True)
class Imitation:
  """How much the student is rewarded for going on as a teacher did.

  Attributes:
    alpha: weight of distillation; the reward's is 1 - alpha. 1: no imitation.
    gamma: weight of the judge in the reward; closeness has 1 - gamma.
    threshold: edit distance that still counts as close, as a share of the
      longer text.
    cuts: sequences of each pair that are cut for an update.
    completions: by the student, of each of them (a group).
    judge: of what is meant, see `judges.make`.
    stop_likelihood: nats per token that the teachers' likelihood of the
      student's endings may fall during a night; more ends it.
    stop_repetition: share of themselves that the student's endings may repeat
      beyond what the teachers' do; more ends the night.
  """

  alpha: float
  gamma: float
  threshold: float
  cuts: int
  completions: int
  judge: str
  stop_likelihood: float
  stop_repetition: float

  @property
  def on(self) -> bool:
    return self.alpha < 1


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a night is spent.

  Attributes:
    teachers: see `Teacher`.
    num_updates: of the fresh expert.
    micro_batches: in which an update reads its rows, see `micro`.
    updates_per_round: between two refreshments of the pools.
    priority: a sequence is drawn for an update as the power of its last
      divergence that this is; 0: all alike.
    sender_after_sleep: 'cleared' (back to its anchor) or 'updated'.
    into: what is trained: a fresh 'expert', or the receiver's own 'base' (no
      expansion).
    full: what a full bank does: 'error' (refused before the run), or 'merge'
      two of its experts.
    average_decay: of the teacher 'average', per wake step.
    on_policy: share of rows that the student wrote (lambda of GKD).
    on_policy_after: share of the night before the student writes.
    beta: of the divergence; 0 is KL(teacher || student).
    temperature: of sampling; the divergence is taken at 1.
    max_length: of a rehearsal sequence, tokens.
    max_new: of what is written of it, tokens.
    prompt_width: longest prompt, tokens.
    block_tokens, block_vocab: most tokens, and of the vocabulary most words,
      whose logits the divergence holds at a time.
    imitation: see `Imitation`.
  """

  teachers: tuple[Teacher, ...]
  num_updates: int
  micro_batches: int
  updates_per_round: int
  priority: float
  sender_after_sleep: str
  into: str
  full: str
  average_decay: float
  on_policy: float
  on_policy_after: float
  beta: float
  temperature: float
  max_length: int
  max_new: int
  prompt_width: int
  block_tokens: int
  block_vocab: int
  imitation: Imitation

  @property
  def reads(self) -> bool:
    return any(teacher.reads for teacher in self.teachers)

  @property
  def averaged(self) -> bool:
    return any(teacher.teacher == 'average' for teacher in self.teachers)

  @property
  def rounds(self) -> int:
    return self.num_updates // self.updates_per_round

  @property
  def rows(self) -> int:
    """Sequences that one update reads."""
    m, pairs = self.imitation, len(self.teachers)
    endings = pairs * m.cuts * m.completions if m.on else 0
    return endings + sum(teacher.sequences for teacher in self.teachers)

  @property
  def tokens(self) -> int:
    """That one update reads, padding included."""
    return self.max_length * self.rows
